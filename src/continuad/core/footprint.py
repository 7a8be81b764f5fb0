"""What a model weighs, measured from its tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from continuad.core.state import Stats
from continuad.core.undo import Before
from continuad.errors import ContinuadError

MEGABYTE = 10**6  # as the thesis counts
LARGEST = 4000  # megabytes of weights: no network here is meant to be larger


def refuse_large(options: str, weights: float) -> None:
    """Refuse a network before its memory is taken.

    Args:
        options: those that make it so large, with their values, such as "width=4.0".
        weights: how many float32 numbers about it would have.

    Raises:
        ContinuadError: they take more than `LARGEST` megabytes.
    """
    megabytes = 4 * weights / MEGABYTE
    if megabytes > LARGEST:
        raise ContinuadError(
            f"{options} make a network of {megabytes / 1000:,.0f} GB; allowed: {LARGEST / 1000:g} GB. Lower them"
        )


class Footprint(NamedTuple):
    """Megabytes (10^6 bytes) of distinct tensor storage; shared storage counts once.

    Attributes:
        architecture: networks, frozen or trained, and their buffers.
        additional: everything kept in a `Stats`: statistics, banks, exemplars, per-task copies.
    """

    architecture: float
    additional: float


def held_bytes(*things: object) -> int:
    """Bytes of distinct tensor storage that can be reached from modules, optimisers, lists and dictionaries, whatever
    attribute they lie in, gradients included, and what a task that fails is put back from: what a process holds, where
    `footprint` says what a model is."""
    sizes: dict[int, int] = {}
    seen: set[int] = set()
    waiting = list(things)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            storage = thing.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            waiting.append(thing.grad if thing.is_leaf else None)
        elif isinstance(thing, dict):
            waiting += thing.values()
        elif isinstance(thing, list | tuple):
            waiting += thing
        elif isinstance(thing, nn.Module | Optimizer | Before):
            waiting += vars(thing).values()
    return sum(sizes.values())


class Learner(Protocol):
    """A strategy, as far as its memory is concerned."""

    learning_bytes: int


def learning_peak(strategy: Learner) -> float:
    """Megabytes that learning the newest task held at most, or that the model holds now if that is more: the model,
    the weights that tasks start from, a copy to go back to if the task fails, collected patches, gradients and
    optimiser state. What lasts no longer than a step (images, activations, gradients on exemplars) comes on top."""
    return max(strategy.learning_bytes, held_bytes(strategy)) / MEGABYTE


def footprint(model: nn.Module) -> Footprint:
    """Measure a strategy or detector."""
    stats = [m for m in model.modules() if isinstance(m, Stats)]
    kept = [b for m in stats for b in m.buffers(recurse=False)]
    own = [b for m in model.modules() if not isinstance(m, Stats) for b in m.buffers(recurse=False)]
    return Footprint(_megabytes([*model.parameters(), *own]), _megabytes(kept))


def _megabytes(tensors: Iterable[Tensor]) -> float:
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(sizes.values()) / MEGABYTE
