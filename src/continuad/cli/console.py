"""What the commands say: progress as bars on a terminal and as plain lines elsewhere, and errors."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

out_console = Console()
err_console = Console(stderr=True)


def print_error(message: str) -> None:
    """One line on stderr, never broken by the terminal's width."""
    err_console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


class Bars:
    """One bar for whatever is going on."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err_console,
            disable=not err_console.is_terminal,
            transient=True,
        )
        self.now = self.progress.add_task("starting", total=None)

    def __enter__(self) -> Any:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def step(self, what: str, done: int, total: int) -> None:
        """Say how far something has come."""
        self.progress.update(self.now, description=what, completed=done, total=total)


class BenchBars(Bars):
    """A second bar above for the whole grid, with the time that is left."""

    def __init__(self, runs: int, tasks: int) -> None:
        super().__init__()
        self.tasks, self.runs = tasks, runs
        self.progress.remove_task(self.now)
        self.whole = self.progress.add_task("all runs", total=runs * tasks)
        self.now = self.progress.add_task("starting", total=None)
        self.done, self.doing = 0, ""

    def cell(self, cell: Any, number: int, runs: int) -> None:
        """A run begins."""
        name = f"{cell.detector} {cell.strategy} seed {cell.seed}" + (f" order {cell.order}" if cell.order else "")
        self.done, self.doing = number * self.tasks, ""
        self.progress.update(self.whole, description=f"run {number + 1}/{runs} {name}", completed=self.done)
        if not err_console.is_terminal:
            err_console.print(f"run {number + 1} of {runs}: {name}", highlight=False)

    def step(self, what: str, done: int, total: int) -> None:
        """Within a run: `learning X` opens the next task."""
        if what.startswith("learning") and what != self.doing:
            if self.doing:
                self.done += 1
            self.doing = what
            self.progress.update(self.whole, completed=self.done)
        super().step(what, done, total)
