"""The only learning loop: gradient or statistics, every detector and every strategy passes here."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from continuad.core.batches import in_order, one_pass, steps_of
from continuad.core.checkpoint import Checkpoint, Half
from continuad.core.detector import TRAINED, Detector, class_name, validation_loss_of
from continuad.core.footprint import held_bytes
from continuad.core.hints import Count, check_fields
from continuad.core.state import Policy, Stats
from continuad.core.types import Images
from continuad.errors import ContinuadError, Diverged

Progress = Callable[[int, int], None]

REMEDY = "lower the strategy's strength, or try another seed"


@dataclass(frozen=True)
class Budget:
    """How long a gradient detector learns a task. Without steps and epochs: the detector's own `steps`.

    Attributes:
        steps: optimiser steps, whatever the amount of data, so that strategies compare at equal compute.
        epochs: walks through the task's new images; replayed ones add no steps.
        patience: stop early. After every epoch, and at the end, the loss on the good val images is taken;
            learning stops after this many times without a new lowest, and the state with the lowest is kept.

    Raises:
        ContinuadError: steps and epochs together, or a number below 1.
    """

    steps: Count | None = None
    epochs: Count | None = None
    patience: Count | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.steps is not None and self.epochs is not None:
            raise ContinuadError(f"steps={self.steps} and epochs={self.epochs} exclude each other; give one of them")

    def in_steps(self, epoch: int, default: int) -> int:
        """Steps in all, for epochs of that many steps."""
        return self.epochs * epoch if self.epochs is not None else self.steps or default


class TaskImages(NamedTuple):
    """What a task is learned from.

    Attributes:
        new: its own images. old: replayed ones of earlier tasks, if the strategy keeps any.
        val: good images for calibration and for early stopping.
    """

    new: Images
    old: Images | None
    val: Images


class Learned(NamedTuple):
    """What learning a task took.

    Attributes:
        steps: optimiser steps, or batches that were absorbed.
        bytes: the most that the strategy with its detector, the optimiser and gradients held at a time.
    """

    steps: int
    bytes: int


class Hooks(Protocol):
    """Where a strategy may reach into a step, and what it remembers."""

    kept: Stats

    def penalty(self, images: Tensor) -> Tensor | float: ...

    def on_gradients(self) -> None: ...

    def on_step(self) -> None: ...


def fit(
    detector: Detector,
    images: TaskImages,
    hooks: Hooks,
    *,
    statistics: Policy,
    seed: int,
    budget: Budget,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Learned:
    """Teach a detector one task.

    A statistics detector sees every image once; a gradient detector takes optimiser steps within `budget`.
    Everything random in a step follows from (seed, step) alone, so a task that is continued in the middle ends
    bit-identical.

    Args:
        hooks: the strategy's.
        statistics: what happens to the detector's statistics.
        seed: of this task. budget: of optimiser steps.
        checkpoint: where a gradient detector's half-learned task is kept, and continued from.
        progress: called with (steps done, steps in all).

    Returns:
        The number of steps taken, and the most bytes that learning held.

    Raises:
        Diverged: a loss, a penalty or a weight is no longer finite; what the detector holds is of no use then.
    """
    detector.train()
    torch.manual_seed(seed_of(seed))
    detector.begin((x.to(detector.device) for x in one_pass(images.new, images.old, detector.batch_size)), statistics)
    if detector.learns_by == "statistics":
        taken = _absorb(detector, images, seed, progress)
        held = held_bytes(detector, hooks)
    else:
        if not detector.weights():
            raise ContinuadError(f"{class_name(detector)} learns by gradient, but has no weights to learn")
        half = Half(detector, detector.optimiser(), hooks.kept)
        taken = _descend(half, images, hooks, seed, budget, checkpoint, progress)
        held = held_bytes(detector, hooks, half.optimiser, half.best)
        half.optimiser.zero_grad()
    detector.eval()
    torch.manual_seed(seed_of(seed, taken))
    detector.finish()
    detector.stats[TRAINED] = torch.tensor(True, device=detector.device)
    detector.calibrate(batch.image.to(detector.device) for batch in in_order(images.val, detector.batch_size))
    return Learned(taken, max(held, held_bytes(detector, hooks)))


def seed_of(*parts: int) -> int:
    """One 64-bit seed from several numbers; neighbouring numbers give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=8).digest())


def _absorb(detector: Detector, images: TaskImages, seed: int, progress: Progress | None) -> int:
    total = sum(_batches(part, detector.batch_size) for part in (images.new, images.old) if part is not None)
    for step, batch in enumerate(one_pass(images.new, images.old, detector.batch_size)):
        torch.manual_seed(seed_of(seed, step))
        if detector.step(batch.to(detector.device)) is not None:
            raise ContinuadError(
                f"{class_name(detector)} learns by statistics, but its step returns a value: return None, or set "
                'learns_by = "gradient"'
            )
        if progress:
            progress(step + 1, total)
    return total


def _descend(
    half: Half,
    images: TaskImages,
    hooks: Hooks,
    seed: int,
    budget: Budget,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
) -> int:
    detector, optimiser = half.detector, half.optimiser
    epoch = _batches(images.new, detector.batch_size)
    total = budget.in_steps(epoch, detector.steps)
    rates = [group["lr"] for group in optimiser.param_groups]
    if checkpoint:
        checkpoint.load(half)
    order = torch.Generator().manual_seed(seed_of(seed))
    for batch in steps_of(images.new, images.old, detector.batch_size, range(half.step, total), order):
        torch.manual_seed(seed_of(seed, half.step))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * detector.learning_rate(half.step / total)
        _step(detector, optimiser, hooks, batch.to(detector.device))
        half.step += 1
        if progress:
            progress(half.step, total)
        if budget.patience and (half.step % epoch == 0 or half.step == total):
            _check(half, images.val, seed)
            if half.missed >= budget.patience:
                break
        if checkpoint:
            checkpoint.keep(half)
    if half.best:
        detector.restore(half.best)
    if not all(weight.isfinite().all() for weight in detector.weights().values()):
        raise Diverged(f"the last step left weights that are not finite; {REMEDY}")
    return half.step


def _step(detector: Detector, optimiser: torch.optim.Optimizer, hooks: Hooks, images: Tensor) -> None:
    loss = _loss(detector, images)
    penalty = hooks.penalty(images)
    _refuse_broken(penalty=penalty, loss=loss)
    loss = loss + penalty
    optimiser.zero_grad()
    loss.backward()
    hooks.on_gradients()
    optimiser.step()
    hooks.on_step()


def _loss(detector: Detector, images: Tensor) -> Tensor:
    loss = detector.step(images)
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad:
        return loss
    given = f"a tensor of {tuple(loss.shape)} that nothing can descend" if isinstance(loss, Tensor) else str(loss)
    raise ContinuadError(
        f"{class_name(detector)} learns by gradient, but its step returns {given}: return a loss (one number that "
        'depends on its weights), or set learns_by = "statistics"'
    )


def _refuse_broken(**values: Tensor | float) -> None:
    for what, value in values.items():
        if not math.isfinite(number := float(torch.as_tensor(value).detach())):
            raise Diverged(f"the {what} is {number} and learning cannot go on; {REMEDY}")


@torch.no_grad()
def _check(half: Half, val: Images, seed: int) -> None:
    """Take the val loss, and keep the state if it is the lowest so far."""
    detector = half.detector
    torch.manual_seed(seed_of(seed))  # the same draws at every check
    detector.eval()
    losses = [
        float(validation_loss_of(detector, batch.image.to(detector.device))) * len(batch.image)
        for batch in in_order(val, detector.batch_size)
    ]
    detector.train()
    loss = sum(losses) / len(val)
    if loss < half.best_loss:
        state = detector.learned()
        half.best = {name: value.clone() if name.startswith("stats.") else value for name, value in state.items()}
        half.best_loss, half.missed = loss, 0
    else:
        half.missed += 1


def _batches(images: Images, size: int) -> int:
    return -(-len(images) // size)
