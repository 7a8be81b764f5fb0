"""How much weights matter to what was learned, and the quadratic penalty that holds them by it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.state import Stats
from continuad.core.types import Images
from continuad.strategies._passes import Gradients, evaluating, gradients


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


def quadratic_penalty(detector: Detector, kept: Stats, strength: float) -> Tensor | float:
    """strength/2 * sum F (w - a)^2 with what is kept as "importance/NAME" and "anchor/NAME"; 0.0 if nothing is."""
    importance, anchor = kept.under("importance/"), kept.under("anchor/")
    if not importance or not strength:
        return 0.0
    energies = [(importance[n] * (w - anchor[n]).square()).sum() for n, w in detector.weights().items()]
    return strength / 2 * torch.stack(energies).sum()
