"""How progress and times are printed."""

from __future__ import annotations

import pytest

from continuad.benchmark.grid import Cell
from continuad.cli import console
from continuad.cli.console import Bars, BenchBars, duration


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(console, "monotonic", made)
    return made


def test_piped_output_gets_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        for second in range(200):
            clock.now = second
            bars.step("distilling [/x]", second, 200)
    said = capsys.readouterr().err.splitlines()
    assert said == ["distilling [/x]: 60 of 200", "distilling [/x]: 120 of 200", "distilling [/x]: 180 of 200"]


def test_a_line_of_the_grid_says_where_it_is_and_what_is_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with BenchBars(runs=2, tasks=3) as bars:
        bars.cell(Cell("padim", "naive", 0, 0), 0, 2)
        for task, name in enumerate("abc"):
            clock.now = 100.0 * task
            bars.step(f"learning {name}", 0, 10)
        clock.now = 299.0
        bars.step("testing a", 1, 3)
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "run 1 of 2, task 3 of 3, testing a: 1 of 3; about 5 min left"  # three tasks more at 100 s


def test_runs_that_were_finished_earlier_do_not_count_as_fast(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with BenchBars(runs=3, tasks=1) as bars:
        bars.cell(Cell("padim", "naive", 0, 0), 0, 3)
        bars.cell(Cell("padim", "naive", 1, 0), 1, 3)
        bars.step("learning a", 0, 10)
        clock.now = 70.0
        bars.step("learning a", 7, 10)
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "run 2 of 3, task 1 of 1, learning a: 7 of 10; about 2 min left"  # 30 s of this one, 100 of the next


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (720, "12 min"),
        (12_000, "3 h 20 min"),
        (187_200, "2 days 4 h"),
        (5399, "1 h 30 min"),
    ],
)
def test_durations(seconds: float, printed: str) -> None:
    assert duration(seconds) == printed
