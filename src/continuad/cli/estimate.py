"""What a run will take, before it starts: images, steps, and about how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from continuad.benchmark.grid import Cell, build
from continuad.benchmark.settings import Settings
from continuad.cli.console import duration
from continuad.core.detector import Detector, Foresees
from continuad.core.fit import Budget
from continuad.core.strategy import Strategy
from continuad.core.thresholds import FalseAlarmRate
from continuad.core.types import ImageSet, Task
from continuad.data.machine import free_memory
from continuad.data.product import GOOD, Product
from continuad.data.splits import val_split
from continuad.errors import ContinuadError
from continuad.models.registry import name_of

ALONE = "naive"  # the strategy that adds nothing to a detector's own work
EACH = ("single", "pertask")  # strategies that keep a detector's statistics for each task
SMALL = 500 * 10**6  # bytes that are not worth a line
STEPS = 2  # measured of each detector: the first warms up


@dataclass(frozen=True)
class Counts:
    """How many images of a product are learned, kept for validation, and tested (good and defective)."""

    name: str
    learn: int
    val: int
    good: int
    bad: int

    @property
    def test(self) -> int:
        return self.good + self.bad

    def __str__(self) -> str:
        return f"{self.learn} to learn, {self.val} for validation, {self.good} good and {self.bad} defective to test"


@dataclass(frozen=True)
class Pace:
    """Seconds on this machine: one step of learning, the work after a task's last step, one image predicted."""

    step: float
    after: float
    image: float


def outlook(
    settings: Settings,
    grid: Sequence[Cell],
    products: Sequence[Product],
    sizes: Sequence[int],
    measured: bool,
    room: int | None = None,
) -> Iterator[str]:
    """Lines that say what a grid is about to do, each as soon as it is known.

    Args:
        sizes: how many products each task takes.
        measured: take two steps of every detector, to say how long it will take.
        room: bytes that are free where results go; None: unknown.
    """
    counts = [counts_of(product, settings.val_share) for product in products]
    yield from _data_lines(counts)
    yield f"runs: {len(grid)}, tasks in each: {len(sizes)}"
    total: float | None = 0.0 if measured else None
    for name in dict.fromkeys(cell.detector for cell in grid):
        strategy = build(settings, Cell(name, ALONE, settings.seeds[0], 0))
        used = [all_learned(one) for one in counts] if strategy.predicts_out_of_fold else counts
        yield from memory_lines(strategy, [cell.strategy for cell in grid if cell.detector == name], used, sizes, room)
        steps = steps_of(strategy, used, sizes)
        line = f"{name}: steps a run {sum(steps)}"
        if total is not None:
            pace = measure(strategy)
            runs = sum(cell.detector == name for cell in grid)
            each = time_of(pace, steps, used, sizes, settings.look_ahead)
            total += runs * each
            line += f", a step {pace.step:.2g} s, an image tested {pace.image:.2g} s, a run about {duration(each)}"
        yield line
        if strategy.predicts_out_of_fold:
            yield f"{name}: val images are learned, too, and all good images set thresholds"
    if total is not None:
        yield (
            f"about {duration(total)} in all by that measure on random pictures; strategies that replay, or learn "
            "earlier tasks again, take longer"
        )


def memory_lines(
    strategy: Strategy,
    names: Sequence[str],
    counts: Sequence[Counts],
    sizes: Sequence[int],
    room: int | None = None,
) -> list[str]:
    """What a detector's statistics will take, where that follows from its settings.

    Args:
        strategy: any that holds the detector. names: the strategies that it will learn under.
        room: see `outlook`; a run that goes on keeps its model there while it learns.

    Raises:
        ContinuadError: more than there is.
    """
    detector = strategy.detector
    if not isinstance(detector, Foresees):
        return []
    ends = list(accumulate(sizes))
    images = [sum(one.learn for one in counts[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    foreseen = [detector.foresee(number) for number in images]
    peak = max(learning for learning, _ in foreseen)
    kept = {name: sum(kept for _, kept in foreseen) for name in names if name.partition(":")[0] in EACH}
    most, where = max([(peak, "one task"), *((number, f"the tasks of {name}") for name, number in kept.items())])
    free = free_memory()
    if free is not None and most > free:
        raise ContinuadError(
            f"{name_of(detector)} needs about {most / 1e9:.1f} GB of memory for {where} at {_shape(detector)}, and "
            f"{free / 1e9:.1f} GB are free: use a smaller --image-size, --tile, or a detector's options that keep less"
        )
    stored = max([max(kept for _, kept in foreseen), *kept.values()])
    if room is not None and stored > room:
        raise ContinuadError(
            f"a model of {name_of(detector)} takes about {stored / 1e9:.2g} GB at {_shape(detector)}, and "
            f"{room / 1e9:.2g} GB are free on the disk of --out: free space, or give another --out"
        )
    if most < SMALL:
        return []
    every = "".join(f", {number / 1e9:.1f} GB for all tasks under {name}" for name, number in kept.items())
    return [f"{name_of(detector)}: about {peak / 1e9:.1f} GB of memory for a task{every}"]


def _shape(detector: Detector) -> str:
    return " x ".join(map(str, detector.image_size))


def counts_of(product: Product, val_share: float) -> Counts:
    """By files: damaged ones are found when they are read."""
    learn, val = val_split(len(product.train), val_share, 0, product.name)
    good = sum(item.defect == GOOD for item in product.test)
    return Counts(product.name, len(learn), len(val), good, len(product.test) - good)


def all_learned(counts: Counts) -> Counts:
    """The same where every good image is both learned and predicted for thresholds."""
    good = counts.learn + counts.val
    return replace(counts, learn=good, val=good)


def _data_lines(counts: Sequence[Counts]) -> list[str]:
    """Images of every product, and of all if there are several."""
    wide = max(len(one.name) for one in counts)
    lines = [f"{'images':{wide}}  learned  val  test good  test bad"]
    rows = list(counts)
    if len(counts) > 1:
        sums = (sum(getattr(one, what) for one in counts) for what in ("learn", "val", "good", "bad"))
        rows.append(Counts("all", *sums))
    return lines + [f"{r.name:{wide}}  {r.learn:7}  {r.val:3}  {r.good:9}  {r.bad:8}" for r in rows]


def steps_of(strategy: Strategy, counts: Sequence[Counts], sizes: Sequence[int]) -> list[int]:
    """Steps of every task in the order given; a detector that learns by statistics takes each image once."""
    detector = strategy.detector
    ends = list(accumulate(sizes))
    images = [sum(one.learn for one in counts[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    passes = [-(-number // detector.batch_size) for number in images]
    if detector.learns_by == "statistics":
        return passes
    return [strategy.budget.in_steps(number, detector.steps) for number in passes]


def time_of(
    pace: Pace, steps: Sequence[int], counts: Sequence[Counts], sizes: Sequence[int], look_ahead: bool
) -> float:
    """Seconds of one run: all tasks learned, their val images predicted, and after each all products so far tested."""
    ends = accumulate(sizes)
    tested = sum(one.test for end in ends for one in counts[: None if look_ahead else end])
    tested += sum(one.val for one in counts)
    return sum(steps) * pace.step + len(steps) * pace.after + tested * pace.image


def measure(strategy: Strategy) -> Pace:
    """Learn two steps and test a few images, all of them random pixels; the strategy is of no use afterwards.

    Raises:
        ContinuadError: the detector cannot learn from so little; leave the estimate out then.
    """
    detector = strategy.detector
    strategy.calibration.rule = FalseAlarmRate(0.0)  # random pixels promise nothing, and need no warning of it
    images = random_images(STEPS * detector.batch_size, detector.image_size)
    few, whole = images.subset(range(min(4, len(images)))), len(images)
    if strategy.predicts_out_of_fold:  # val images are learned, too
        images = images.subset(range(len(few), whole))
    strategy.budget = Budget(steps=STEPS)
    moments = [perf_counter()]
    try:
        with torch.random.fork_rng(devices=[]):
            strategy.learn(Task(0, "random", images, few, few), lambda done, total: moments.append(perf_counter()))
            learned = perf_counter()
            strategy.predict(torch.from_numpy(few.images).to(detector.device)).map.cpu()
    except ContinuadError as error:
        raise ContinuadError(f"the time cannot be measured ({error}); go on without it by --no-estimate") from error
    image = (perf_counter() - learned) / len(few)
    looked_at = whole if strategy.predicts_out_of_fold else len(few)
    after = learned - moments[-1] - image * looked_at  # without the predictions that thresholds are set by
    return Pace(moments[-1] - moments[-2], max(0.0, after), image)


def random_images(number: int, size: tuple[int, int]) -> ImageSet:
    """Good images of random pixels: their content decides no detector's speed."""
    pixels = np.random.default_rng(0).integers(0, 256, (number, 3, *size), dtype=np.uint8)
    nothing = np.zeros(number, bool)
    masks = np.zeros((number, *size), bool)
    paths = tuple(Path(f"{i}.png") for i in range(number))
    return ImageSet(pixels, nothing, masks, ~nothing, (GOOD,) * number, paths, (size,) * number)
