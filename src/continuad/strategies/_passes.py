"""Extra passes through a detector, beside the step that teaches it: they leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.func import functional_call

from continuad.core.batches import Images
from continuad.core.detector import Detector
from continuad.core.state import Stats

Gradients = dict[str, Tensor]


@contextmanager
def aside(detector: Detector) -> Iterator[None]:
    """Within this block a pass in training mode moves no running statistics (of batch normalisation)."""
    buffers = [b for m in detector.modules() if m is not detector.stats for b in m.buffers(recurse=False)]
    before = [b.clone() for b in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)


@contextmanager
def evaluating(detector: Detector) -> Iterator[None]:
    """Within this block the detector is in evaluation mode; afterwards as before."""
    learning = detector.training
    detector.eval()
    try:
        yield
    finally:
        detector.train(learning)


def gradients(detector: Detector, loss: Tensor) -> Gradients:
    """Of a loss by every weight; zeros for weights that it does not depend on."""
    weights = detector.weights()
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    pairs = zip(weights.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}


def loss_gradients(detector: Detector, images: Tensor) -> Gradients:
    """Of the detector's own loss on images, without a trace."""
    with aside(detector):
        loss = detector.step(images.to(detector.device))
        assert loss is not None
        return gradients(detector, loss)


def importance(
    detector: Detector, images: Images, measure: Callable[[Tensor], Tensor], count: int, power: int, seed: int
) -> Gradients:
    """Mean over up to `count` random images of |gradient of measure(one image)|^power, by every weight.

    In evaluation mode, image by image: the mean of squares is not the square of a mean.
    """
    torch.manual_seed(seed)
    chosen = torch.randperm(len(images))[:count].tolist()
    total = {name: torch.zeros_like(p) for name, p in detector.weights().items()}
    with evaluating(detector):
        for index in chosen:
            image = images.__getitems__([index]).image.to(detector.device)
            for name, gradient in gradients(detector, measure(image)).items():
                total[name] += gradient.abs() ** power / len(chosen)
    return total


def own_loss(detector: Detector) -> Callable[[Tensor], Tensor]:
    """The detector's loss on images, as something to measure importance by."""

    def measure(images: Tensor) -> Tensor:
        loss = detector.step(images)
        assert loss is not None
        return loss

    return measure


def keep_answers(detector: Detector, kept: Stats) -> None:
    """Remember what the detector answers now: its weights, since answers are larger than images. Statistics follow
    the newest task and are left out. They lie in memory as a file gives them back: another layout rounds otherwise.
    """
    for name, value in detector.learned().items():
        if not name.startswith("stats."):
            kept[f"old/{name}"] = value.contiguous()


def moved_answers(detector: Detector, kept: Stats, images: Tensor) -> Tensor:
    """The detector's distance () of its answers on images from those `keep_answers` remembered."""
    before = answers(detector, kept.under("old/"), images)
    with evaluating(detector):
        return detector.distance(detector(images), before)


def answers(detector: Detector, state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """What the detector would answer with the learned state of another time, in evaluation mode, no gradient."""
    with torch.no_grad(), evaluating(detector):
        found: list[Tensor] = functional_call(detector, state, (images,))
        return found


def drawn(images: Images, count: int) -> Tensor:
    """Some random images (B, 3, H, W), from torch's global generator."""
    chosen = torch.randperm(len(images))[:count].tolist()
    return images.__getitems__(chosen).image


def quadratic_penalty(detector: Detector, kept: Stats, strength: float) -> Tensor | float:
    """strength/2 * sum F (w - a)^2 with what is kept as "importance/NAME" and "anchor/NAME"; 0.0 if nothing is."""
    importance, anchor = kept.under("importance/"), kept.under("anchor/")
    if not importance or not strength:
        return 0.0
    energies = [(importance[n] * (w - anchor[n]).square()).sum() for n, w in detector.weights().items()]
    return strength / 2 * torch.stack(energies).sum()
