"""From settings to runs and a report: what `bench` and `demo` do once they know what is asked."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from continuad.benchmark.settings import Settings
from continuad.cli.console import BenchBars, print_error, say
from continuad.cli.folders import product_folders
from continuad.cli.report import report
from continuad.data.discover import discover_all
from continuad.data.names import printable
from continuad.errors import ContinuadError

if TYPE_CHECKING:
    from continuad.benchmark.grid import Cell
    from continuad.core.types import Task
    from continuad.data.product import Product
    from continuad.data.stream import Stream


def run_settings(settings: Settings, out: Path, keep_models: bool, estimate: bool = True) -> None:
    """Run a grid into a results folder and write its report.

    Mistakes are found before anything is written: in names and options, then in folders, then, with torch loaded, in
    what constructors refuse.

    Raises:
        ContinuadError: a mistake in the settings or the data, or a folder with results of other settings.
        typer.Exit: 1 when a run diverged.
    """
    settings.check()
    settings = as_before(settings, out)
    root = Path(settings.root) if settings.root else None
    folders = product_folders([Path(f) for f in settings.folders], settings.stream, root)
    products = discover_all(folders)
    refuse_inside(out, [*folders, *map(Path, settings.open_set)])

    from continuad.benchmark.grid import cells
    from continuad.benchmark.grouping import group_sizes
    from continuad.benchmark.open_set import refuse_learned
    from continuad.cli.estimate import outlook

    grid, refused = cells(settings)
    sizes = group_sizes(settings.groups, len(products))
    if settings.open_set:
        refuse_learned(discover_all(settings.open_set), products)
    folder = ResultsFolder(absolute(settings), out, products)
    folder.note(f"{pair} does not apply: {reason}" for pair, reason in refused.items())
    for pair, reason in refused.items():
        say(f"left out: {pair}: {reason}")
    for line in outlook(settings, grid, products, sizes, estimate, shutil.disk_usage(out).free):
        say(line)
    diverged = _run(folder, folders, grid, len(sizes), keep_models)
    folder.note(f"{run} diverged: {how}" for run, how in diverged.items())
    report(out)
    for run, how in diverged.items():
        print_error(f"{run} diverged: {how}")
    if diverged:
        raise typer.Exit(1)


def refuse_inside(out: Path, folders: Iterable[Path]) -> None:
    """Refuse a results folder in one of the product folders: a later run would find its pictures there.

    Raises:
        ContinuadError: it is, by whatever spelling or link.
    """
    for folder in folders:
        if out.expanduser().resolve().is_relative_to(folder.expanduser().resolve()):
            raise ContinuadError(
                f"--out {printable(out)} lies in the product folder {printable(folder)}, whose pictures are learned: "
                "give a folder outside of it"
            )


def as_before(settings: Settings, out: Path) -> Settings:
    """The settings with folders as the results in `out` name them, where there are any.

    By another spelling or from another place the same folders go on, and a link gives no product a second name.

    Raises:
        ContinuadError: `out` holds results of other settings.
    """
    file, runs = out / "settings.toml", out / "runs"
    holds_results = file.exists() and runs.is_dir() and any(runs.iterdir())
    if not holds_results:
        return settings
    earlier = Settings.read(file)
    if conflict := settings.conflict(earlier):
        raise ContinuadError(f"{out} holds results of other settings ({conflict}); choose another --out")
    return replace(settings, folders=earlier.folders, root=earlier.root, open_set=earlier.open_set)


def absolute(settings: Settings) -> Settings:
    """The settings with folders that mean the same from any place."""
    folders, open_set = (
        tuple(os.path.abspath(Path(folder).expanduser()) for folder in some)
        for some in (settings.folders, settings.open_set)
    )
    root = os.path.abspath(Path(settings.root).expanduser()) if settings.root else ""
    return replace(settings, folders=folders, root=root, open_set=open_set)


@dataclass
class ResultsFolder:
    """A results folder's settings.toml, which gains notes while the runs go on."""

    settings: Settings
    out: Path
    products: Sequence[Product]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)

    def note(self, texts: Iterable[str]) -> None:
        """Add what is new among some notes, and write the file."""
        from continuad.cli.estimate import counts_of
        from continuad.models.registry import about_strategy

        self.notes += [text for text in dict.fromkeys(texts) if text not in self.notes]
        about = {strategy: about_strategy(strategy) for strategy in self.settings.strategy}
        command = shlex.join(["continuad", *sys.argv[1:]])
        names = [product.name for product in self.products]
        images = {product.name: str(counts_of(product, self.settings.val_share)) for product in self.products}
        self.settings.write(self.out / "settings.toml", command, names, self.notes, about, images)


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
