"""What the commands say: progress as bars on a terminal and as a line a minute elsewhere, and errors."""

from __future__ import annotations

from time import monotonic
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

EVERY = 60.0  # seconds between two lines of progress where there are no bars

out_console = Console()
err_console = Console(stderr=True)


def say(text: str, console: Console = err_console) -> None:
    """Lines as they are: no markup is read from names, and the terminal's width breaks none."""
    console.print(Text(text), soft_wrap=True)


def print_error(message: str) -> None:
    """A message on stderr."""
    err_console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def print_place(what: str, place: object, more: str = "") -> None:
    """Where a result lies, on stdout."""
    out_console.print(Text.assemble(f"{what}: ", (str(place), "bold"), more), soft_wrap=True)


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min", "2 days 4 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 36:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} days {hours} h"


class Bars:
    """One bar for whatever is going on; a line a minute where the output is no terminal."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err_console,
            disable=not err_console.is_terminal,
            transient=True,
        )
        self.now = self.progress.add_task("starting", total=None)
        self.spoke = monotonic()

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
        if self.progress.disable and monotonic() - self.spoke >= EVERY:
            self.spoke = monotonic()
            say(self.line(what, done, total))

    def line(self, what: str, done: int, total: int) -> str:
        """What a line of progress says."""
        return f"{what}: {done} of {total}"


class BenchBars(Bars):
    """A second bar above for the whole grid, with the time that is left."""

    def __init__(self, runs: int, tasks: int) -> None:
        super().__init__()
        self.tasks, self.runs = tasks, runs
        self.progress.remove_task(self.now)
        self.whole = self.progress.add_task("all runs", total=runs * tasks)
        self.now = self.progress.add_task("starting", total=None)
        self.done, self.doing, self.where = 0, "", ""
        self.began, self.done_before = monotonic(), 0

    def cell(self, cell: Any, number: int, runs: int) -> None:
        """A run begins."""
        name = f"{cell.detector} {cell.strategy} seed {cell.seed}" + (f" order {cell.order}" if cell.order else "")
        if not self.doing:  # the runs before were finished earlier: they say nothing about the time that is left
            self.began, self.done_before = monotonic(), number * self.tasks
        self.done, self.doing, self.where = number * self.tasks, "", f"run {number + 1} of {runs}"
        self.progress.update(self.whole, description=f"{self.where}: {name}", completed=self.done)
        if self.progress.disable:
            say(f"{self.where}: {name}")

    def step(self, what: str, done: int, total: int) -> None:
        """Within a run: `learning X` opens the next task."""
        if what.startswith("learning") and what != self.doing:
            if self.doing:
                self.done += 1
            self.doing = what
            self.progress.update(self.whole, completed=self.done)
        super().step(what, done, total)

    def line(self, what: str, done: int, total: int) -> str:
        """Where in the grid that is, and about how long the rest will take."""
        task = f"task {self.done % self.tasks + 1} of {self.tasks}"
        learned = done / total if what == self.doing else 1.0  # testing is not counted: a task is mostly learning
        worked = self.done - self.done_before + learned
        left = (self.runs * self.tasks - self.done - learned) * (monotonic() - self.began) / worked if worked else 0
        rest = f"; about {duration(left)} left" if left else ""
        return f"{self.where}, {task}, {super().line(what, done, total)}{rest}"
