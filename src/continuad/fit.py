"""The only learning loop: gradient or statistics, every detector and every strategy passes here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from continuad.batches import Images, in_order, one_pass, steps_of
from continuad.detector import Detector
from continuad.stats import Policy


class Hooks(Protocol):
    """Where a strategy may reach into a step."""

    def penalty(self, images: Tensor) -> Tensor | float: ...

    def on_gradients(self) -> None: ...

    def on_step(self) -> None: ...


def fit(
    detector: Detector,
    new: Images,
    old: Images | None,
    held_out: Images,
    hooks: Hooks,
    *,
    statistics: Policy,
    generator: torch.Generator,
    steps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Teach a detector one task.

    A statistics detector sees every image once. A gradient detector takes `steps` optimiser steps (its own
    default when None), whatever the amount of data, so that strategies compare at equal compute.

    Args:
        new, old: images of the task, and replayed ones if the strategy keeps any.
        held_out: good images for the limits.
        generator: decides the order of images.
        progress: called with (steps done, steps in all).

    Returns:
        The number of steps taken.
    """
    device = detector.device
    detector.train()
    detector.begin((x.to(device) for x in one_pass(new, old, detector.batch_size)), statistics)
    if detector.learns_by == "statistics":
        total = _batches(new, detector.batch_size) + (_batches(old, detector.batch_size) if old else 0)
        source, optimiser = one_pass(new, old, detector.batch_size), None
    else:
        total = detector.steps if steps is None else steps
        source = steps_of(new, old, detector.batch_size, total, generator)
        optimiser = detector.optimiser()
    for done, images in enumerate(source, start=1):
        images = images.to(device)
        loss = detector.step(images)
        if loss is not None and optimiser is not None:
            loss = loss + hooks.penalty(images)
            optimiser.zero_grad()
            loss.backward()
            hooks.on_gradients()
            optimiser.step()
            hooks.on_step()
        if progress:
            progress(done, total)
    detector.eval()
    detector.finish()
    detector.calibrate(in_order(held_out, detector.batch_size))
    return total


def _batches(images: Images, size: int) -> int:
    return -(-len(images) // size)
