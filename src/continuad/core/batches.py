"""In which order images reach a detector."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from continuad.core.types import Batch, Images


def in_order(images: Images, batch_size: int) -> Iterator[Batch]:
    """Every image once; the last batch may be short."""
    for start in range(0, len(images), batch_size):
        yield images.__getitems__(list(range(start, min(start + batch_size, len(images)))))


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Indices in endless epochs, each once an epoch in a fresh order; fewer than a batch give short batches."""
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        for start in range(0, count, batch_size):
            yield order[start : start + batch_size]


def one_pass(new: Images, old: Images | None, batch_size: int) -> Iterator[Tensor]:
    """For statistics: every new image once, then every replayed one once."""
    for part in (new, old):
        if part is not None and len(part):
            for batch in in_order(part, batch_size):
                yield batch.image


def steps_of(
    new: Images, old: Images | None, batch_size: int, steps: range, generator: torch.Generator
) -> Iterator[Tensor]:
    """For gradients: a batch of new images a step, each joined by as many replayed ones (thesis 5.1, 5.3).

    The number of steps follows the budget alone, whatever the size of the buffer. `steps` may begin in the
    middle: what came before is drawn from the generator, but not loaded.
    """
    fresh = shuffled(len(new), batch_size, generator)
    replayed = shuffled(len(old), batch_size, generator) if old is not None and len(old) else None
    for step in range(steps.stop):
        indices, again = next(fresh), next(replayed) if replayed else []
        if step < steps.start:
            continue
        images = new.__getitems__(indices).image
        yield torch.cat([images, old.__getitems__(again).image]) if old is not None and again else images
