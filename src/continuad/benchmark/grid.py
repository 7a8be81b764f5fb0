"""Many runs into one folder: detectors × strategies × seeds × orders, resumable, one table of rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from continuad.benchmark.run import COLUMNS, Notify, Rows, run, run_name, run_stamp
from continuad.benchmark.scenario import left_out
from continuad.benchmark.settings import Settings
from continuad.core.fit import Budget
from continuad.core.strategy import Strategy
from continuad.core.thresholds import parse_rule
from continuad.core.types import Task
from continuad.errors import ContinuadError, Diverged
from continuad.files import replace_file
from continuad.models.registry import (
    applicable,
    find_detector,
    find_strategy,
    make_detector,
    make_strategy,
    refusal,
    split_value,
)
from continuad.models.store import MANIFEST, describe, read_manifest
from continuad.vision.feature_cache import FeatureStore

ROWS = "rows.json"
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
        ContinuadError: an open_set name or option, or no pair is left.
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
    options = applicable(find_strategy(name), common) | settings.own_options(name)
    strategy = make_strategy(cell.strategy, detector, **options)
    strategy.calibration.rule = parse_rule(settings.threshold)
    strategy.budget = Budget(steps or None, settings.epochs or None, settings.patience or None)
    try:
        return strategy.to(settings.device)
    except (RuntimeError, AssertionError) as error:
        raise ContinuadError(f"device '{settings.device}' cannot be used: {str(error).splitlines()[0]}") from error


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
    """Run every cell that is not finished yet; `rows.csv` and `rows.parquet` in `out` grow task by task.

    A run whose learning diverges is left where it is, and the others go on.

    Args:
        grid: the runs that `cells` gave for these settings.
        open_stream: gives the tasks for (seed, order).
        open_set: products that are never learned, see `run`.
        keep_models: leave each run's model in `out/runs/<run>`; else only its rows stay.
        on_cell: called with (cell, its number, how many there are) when a run begins.

    Returns:
        The runs that diverged, and how.

    Raises:
        ContinuadError: `out` holds results of other settings; see also `run`.
    """
    (out / "runs").mkdir(parents=True, exist_ok=True)
    stream: list[Task] = []
    opened, stamp, store = None, "", FeatureStore()
    diverged = {}
    for number, cell in enumerate(grid):
        if on_cell:
            on_cell(cell, number, len(grid))
        if opened != (cell.seed, cell.order):
            stream, opened = list(open_stream(cell.seed, cell.order)), (cell.seed, cell.order)
            stamp = run_stamp(stream, settings.scenario, settings.groups, open_set)
        strategy = build(settings, cell)
        folder = out / "runs" / run_name(strategy, cell.strategy, cell.order)
        identity = {"stream": stamp, **describe(strategy)}
        if _finished(folder, identity):
            continue
        try:
            rows = run(
                stream,
                strategy,
                folder,
                label=cell.strategy,
                order=cell.order,
                examples=out / "examples",
                notify=notify,
                on_rows=lambda _: write_rows(out),
                store=store,
                look_ahead=settings.look_ahead,
                scenario=settings.scenario,
                groups=settings.groups,
                open_set=open_set,
            )
        except Diverged as error:
            diverged[folder.name] = str(error)
            continue
        _finish(folder, identity, rows.to_dict("records"), keep_models)
    write_rows(out)
    return diverged


def write_rows(out: Path) -> pd.DataFrame:
    """Gather the rows of all runs, finished or not, into rows.csv and rows.parquet."""
    found = [row for folder in sorted((out / "runs").iterdir()) for row in _rows_of(folder)]
    rows = pd.DataFrame(found, columns=COLUMNS)
    replace_file(out / "rows.csv", lambda new: rows.to_csv(new, index=False))
    replace_file(out / "rows.parquet", lambda new: rows.to_parquet(new, index=False))
    return rows


def _rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    if (folder / ROWS).exists():
        yield from json.loads((folder / ROWS).read_text(encoding="utf-8"))["rows"]
    elif (folder / MANIFEST).exists():
        yield from read_manifest(folder)["extra"]["rows"]


def _finished(folder: Path, identity: dict[str, Any]) -> bool:
    if not (folder / ROWS).exists():
        return False
    kept = json.loads((folder / ROWS).read_text(encoding="utf-8"))
    if {key: kept.get(key) for key in identity} != identity:
        raise ContinuadError(
            f"{folder} holds a finished run on other images or with other settings; choose another output folder"
        )
    return True


def _finish(folder: Path, identity: dict[str, Any], rows: Rows, keep_model: bool) -> None:
    kept = json.dumps({**identity, "rows": rows})
    replace_file(folder / ROWS, lambda new: new.write_text(kept, encoding="utf-8"))
    if not keep_model:
        for file in folder.iterdir():
            if file.name != ROWS:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
