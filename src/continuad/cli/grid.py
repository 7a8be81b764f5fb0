"""From settings to runs and a report: what `bench` and `demo` do once they know what is asked."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from continuad.benchmark.settings import Settings
from continuad.cli.console import BenchBars, err_console, print_error, say
from continuad.cli.folders import product_folders
from continuad.cli.report import report
from continuad.data.discover import discover_all
from continuad.errors import ContinuadError

if TYPE_CHECKING:
    from continuad.benchmark.grid import Cell
    from continuad.core.types import Task
    from continuad.data.stream import Stream


def run_settings(settings: Settings, out: Path, keep_models: bool, estimate: bool = True) -> None:
    """Run a grid into a results folder and write its report.

    Mistakes are found before anything is written: in names and options, then in folders, then, with torch loaded, in
    what constructors refuse.

    Raises:
        ContinuadError: a mistake in the settings or the data, or a folder with results of other settings.
        typer.Exit: 130 when stopped by Ctrl-C, 1 when a run diverged.
    """
    settings.check()
    root = Path(settings.root) if settings.root else None
    folders = product_folders([Path(f) for f in settings.folders], settings.stream, root)
    products = discover_all(folders)

    from continuad.benchmark.grid import cells
    from continuad.benchmark.grouping import group_sizes
    from continuad.benchmark.open_set import refuse_learned
    from continuad.cli.estimate import outlook

    grid, refused = cells(settings)
    sizes = group_sizes(settings.groups, len(products))
    if settings.open_set:
        refuse_learned(discover_all(settings.open_set), products)
    folder = ResultsFolder(settings, out, [product.name for product in products])
    folder.note(f"{pair} does not apply: {reason}" for pair, reason in refused.items())
    for pair, reason in refused.items():
        say(f"left out: {pair}: {reason}")
    for line in outlook(settings, grid, products, sizes, measured=estimate):
        say(line)
    diverged = _run(folder, folders, grid, len(sizes), keep_models)
    folder.note(f"{run} diverged: {how}" for run, how in diverged.items())
    report(out)
    for run, how in diverged.items():
        print_error(f"{run} diverged: {how}")
    if diverged:
        raise typer.Exit(1)


@dataclass
class ResultsFolder:
    """A results folder's settings.toml, which gains notes while the runs go on.

    Raises:
        ContinuadError: the folder holds results of other settings.
    """

    settings: Settings
    out: Path
    products: Sequence[str]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        file, runs = self.out / "settings.toml", self.out / "runs"
        holds_results = file.exists() and runs.is_dir() and any(runs.iterdir())
        if holds_results and (conflict := self.settings.conflict(Settings.read(file))):
            raise ContinuadError(f"{self.out} holds results of other settings ({conflict}); choose another --out")

    def note(self, texts: Iterable[str]) -> None:
        """Add what is new among some notes, and write the file."""
        from continuad.models.registry import about_strategy

        self.notes += [text for text in dict.fromkeys(texts) if text not in self.notes]
        about = {strategy: about_strategy(strategy) for strategy in self.settings.strategy}
        command = shlex.join(["continuad", *sys.argv[1:]])
        self.settings.write(self.out / "settings.toml", command, self.products, self.notes, about)


def _run(
    folder: ResultsFolder, folders: Sequence[Path], grid: Sequence[Cell], tasks: int, keep_models: bool
) -> dict[str, str]:
    """Run the cells, with bars; the runs that diverged, and how."""
    from continuad.benchmark.grid import run_grid
    from continuad.data.stream import open_stream, orders

    settings = folder.settings
    with BenchBars(len(grid), tasks) as bars:

        def opened(some: Iterable[str | Path], seed: int) -> Stream:
            stream = open_stream(
                some,
                image_size=settings.image_size,
                val_share=settings.val_share,
                seed=seed,
                skip_unreadable=settings.skip_unreadable,
                max_pixels=settings.max_pixels,
                progress=bars.step,
            )
            folder.note(stream.notes)
            return stream

        def tasks_of(seed: int, order: int) -> list[Task]:
            stream = opened(folders, seed)
            turn = orders(len(stream), settings.orders)[order]
            return [replace(stream[i], index=place) for place, i in enumerate(turn)]

        try:
            return run_grid(
                settings,
                grid,
                folder.out,
                tasks_of,
                open_set=opened(settings.open_set, 0) if settings.open_set else [],
                keep_models=keep_models,
                notify=bars.step,
                on_cell=bars.cell,
            )
        except KeyboardInterrupt:
            err_console.print("stopped; the same command goes on where it was")
            raise typer.Exit(130) from None
