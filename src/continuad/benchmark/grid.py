"""Many runs into one folder: detectors × strategies × seeds × orders, each run in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from continuad.benchmark.protocol import Protocol
from continuad.benchmark.run import Notify, Walk, run_name
from continuad.benchmark.scenario import left_out
from continuad.benchmark.settings import Settings
from continuad.core.fit import Budget
from continuad.core.strategy import Strategy, folds_of
from continuad.core.thresholds import parse_rule
from continuad.core.types import Task
from continuad.errors import ContinuadError, Diverged
from continuad.models.options import written
from continuad.models.registry import (
    applicable,
    find_detector,
    find_strategy,
    make_detector,
    make_strategy,
    refusal,
    split_value,
)
from continuad.vision.feature_cache import FeatureStore

RUNS = "runs"  # the folder of all runs' folders
OpenStream = Callable[[int, int], Sequence[Task]]


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    detector: str
    strategy: str
    seed: int
    order: int


def cells(settings: Settings) -> tuple[list[Cell], dict[str, str]]:
    """The runs a grid asks for, stream by stream, and why other pairs are left out.

    Every pair is built once, so that a wrong option is found before any work starts.

    Raises:
        ContinuadError: an unknown name or option, or no pair is left.
    """
    refused = {}
    for detector, strategy in product(settings.detector, settings.strategy):
        kind = find_strategy(split_value(strategy)[0])
        if reason := refusal(strategy, detector) or left_out(settings.scenario, kind):
            refused[f"{detector} × {strategy}"] = reason
    grid = product(range(settings.orders), settings.seeds, settings.detector, settings.strategy)
    kept = [Cell(d, s, seed, order) for order, seed, d, s in grid if f"{d} × {s}" not in refused]
    if not kept:
        raise ContinuadError("nothing to run: " + "; ".join(refused.values()))
    for cell in kept[: len(settings.detector) * len(settings.strategy) - len(refused)]:
        build(settings, cell)
    return kept, refused


def build(settings: Settings, cell: Cell) -> Strategy:
    """The untrained strategy of one cell."""
    common = settings.common_options(cell.seed)
    kind = find_detector(cell.detector)
    own = settings.own_options(cell.detector)
    steps = own.pop("steps", settings.steps)
    detector = make_detector(cell.detector, **(applicable(kind, common) | own))
    name, _ = split_value(cell.strategy)
    behind = written(find_strategy(name), cell.strategy) if "+" not in cell.strategy else {}
    of_all = {option: value for option, value in common.items() if option not in behind}
    options = applicable(find_strategy(name), of_all) | settings.own_options(name)
    strategy = make_strategy(cell.strategy, detector, **options)
    try:
        strategy.calibration.rule = parse_rule(settings.threshold)
    except ContinuadError as error:
        raise ContinuadError(f"--threshold {settings.threshold}: {error}") from None
    folds_of(settings.thresholds_from)
    strategy.thresholds_from = settings.thresholds_from
    strategy.budget = Budget(steps or None, settings.epochs or None, settings.patience or None)
    try:
        return strategy.to(settings.device)
    except (RuntimeError, AssertionError) as error:
        raise ContinuadError(f"--device {settings.device} cannot be used: {str(error).splitlines()[0]}") from error


def run_grid(
    settings: Settings,
    grid: Sequence[Cell],
    out: Path,
    open_stream: OpenStream,
    *,
    open_set: Sequence[Task] = (),
    keep_models: bool = False,
    notify: Notify | None = None,
    on_cell: Callable[[Cell, int, int], None] | None = None,
) -> dict[str, str]:
    """Run every cell that is not finished yet, each in its own folder `out/runs/<run>`.

    Nothing else is shared but the folder of examples, which has one for each run: several processes may work on
    different cells of one `out` at the same time. The report gathers their rows.
    A run whose learning diverges is left where it is, and the others go on.

    Args:
        grid: the runs that `cells` gave for these settings, or some of them.
        open_stream: gives the tasks for (seed, order).
        open_set: products that are never learned, see `Protocol`.
        keep_models: leave each run's model in its folder; else only its rows stay.
        on_cell: called with (cell, its number, how many there are) when a run begins.

    Returns:
        The runs that diverged, and how.

    Raises:
        ContinuadError: `out` holds results of other settings; see also `run`.
    """
    protocol = Protocol(settings.scenario, settings.groups, tuple(open_set), settings.look_ahead)
    store, diverged = FeatureStore(), {}
    walk, opened = None, None
    for number, cell in enumerate(grid):
        if on_cell:
            on_cell(cell, number, len(grid))
        if walk is None or opened != (cell.seed, cell.order):
            walk, opened = None, (cell.seed, cell.order)  # lets go of the stream before, which may be large
            walk = Walk(list(open_stream(*opened)), protocol, cell.order, out / "examples", notify, store)
        strategy = build(settings, cell)
        folder = walk.folder(strategy, cell.strategy, out / RUNS / run_name(strategy, cell.strategy, cell.order))
        if folder.finished():
            continue
        try:
            walk.teach(strategy, cell.strategy, folder)
        except Diverged as error:
            diverged[folder.path.name] = str(error)
            continue
        if not keep_models:
            folder.drop_model()
    return diverged
