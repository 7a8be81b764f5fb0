"""Extra passes through a detector beside its learning step, which change nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.types import Images

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
    """Gradients of a loss () by name of the weight; zeros for weights that it does not depend on."""
    weights = detector.weights()
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    pairs = zip(weights.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}


def loss_gradients(detector: Detector, images: Tensor) -> Gradients:
    """Gradients of the detector's own loss on uint8 images (B, 3, H, W), by name of the weight; see `aside`."""
    with aside(detector):
        loss = detector.step(images.to(detector.device))
        assert loss is not None
        return gradients(detector, loss)


def drawn(images: Images, count: int) -> Tensor:
    """Up to `count` random images (B, 3, H, W), drawn without replacement by torch's global generator."""
    chosen = torch.randperm(len(images))[:count].tolist()
    return images.__getitems__(chosen).image
