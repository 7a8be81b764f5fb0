"""What a run is said to take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command import continuad

from continuad.benchmark.grid import Cell, build, cells
from continuad.benchmark.settings import Settings
from continuad.cli import estimate, grid
from continuad.cli.estimate import Counts, Pace, measure, outlook, random_images, steps_of, time_of
from continuad.core.types import Task
from continuad.data.discover import discover_all
from continuad.data.machine import free_memory
from continuad.data.stream import open_stream

TWO = [Counts("a", 20, 2, 4, 6), Counts("b", 33, 3, 5, 5)]


def settings(detector: str, **more: object) -> Settings:
    return Settings.of({"image_size": 64, "detector": detector, **more}, "test")


@pytest.mark.parametrize(
    ("asked", "sizes", "steps"),
    [
        (settings("padim"), [1, 1], [2, 3]),  # batches of 16
        (settings("padim"), [2], [4]),
        (settings("toys:ToyAutoencoder"), [1, 1], [12, 12]),
        (settings("toys:ToyAutoencoder", steps=7), [1, 1], [7, 7]),
        (settings("toys:ToyAutoencoder", epochs=2), [1, 1], [10, 18]),  # batches of 4
        (settings("toys:ToyAutoencoder", options={"toys:ToyAutoencoder.steps": 3}), [2], [3]),
    ],
)
def test_steps_are_those_of_the_run(asked: Settings, sizes: list[int], steps: list[int]) -> None:
    assert steps_of(build(asked, Cell(asked.detector[0], "naive", 0, 0)), TWO, sizes) == steps


def test_time_is_learning_and_testing_all_products_so_far() -> None:
    pace = Pace(step=10, after=100, image=1000)
    assert time_of(pace, [2, 3], TWO, [1, 1], look_ahead=False) == 5 * 10 + 2 * 100 + (5 + 10 + 20) * 1000
    assert time_of(pace, [2, 3], TWO, [1, 1], look_ahead=True) == 5 * 10 + 2 * 100 + (5 + 20 + 20) * 1000
    assert time_of(pace, [4], TWO, [2], look_ahead=False) == 4 * 10 + 100 + (5 + 20) * 1000


@pytest.mark.parametrize("detector", ["padim", "toys:ToyAutoencoder"])
def test_measuring_takes_two_steps_and_leaves_the_draw_alone(detector: str) -> None:
    strategy = build(settings(detector), Cell(detector, "naive", 0, 0))
    taken = []
    learn = strategy.learn
    strategy.learn = lambda *given: taken.append(learn(*given))  # type: ignore[method-assign]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    pace = measure(strategy)
    assert taken == [2]
    assert pace.step > 0
    assert pace.image > 0
    assert torch.equal(before, torch.get_rng_state())


def test_the_estimate_gives_images_runs_and_steps_of_every_product(
    products: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "measure", lambda _: Pace(step=3.0, after=1.0, image=0.5))
    asked = settings("padim", strategy=["naive", "pertask"], seeds=[0, 1])
    found = discover_all(products[:2])
    lines = list(outlook(asked, cells(asked)[0], found, [1, 1], measured=True))
    stream = open_stream(products[:2], image_size=64)
    for task in stream:
        line = next(line for line in lines if line.startswith(task.name))
        good = int((~task.test.labels).sum())
        assert line.split()[1:] == list(map(str, (len(task.train), len(task.val), good, len(task.test) - good)))
    tests = [len(task.test) for task in stream]
    good = sum(len(task.train) + len(task.val) for task in stream)  # all are predicted, each as if not learned
    each = 2 * 3.0 + 2 * 1.0 + (good + 2 * tests[0] + tests[1]) * 0.5
    assert "padim: val images are learned, too, and all good images set thresholds" in lines
    assert "runs: 4, tasks in each: 2" in lines
    assert f"padim: steps a run 2, a step 3 s, an image tested 0.5 s, a run about {each:.0f} s" in lines
    assert lines[-1].startswith(f"about {estimate.duration(4 * each)} in all")


def test_nothing_is_measured_when_that_is_asked(
    products: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> Pace:
        raise AssertionError

    monkeypatch.setattr(estimate, "measure", never)
    small = ("--image-size", "64", "--set", "padim.channels=8", "--strategy", "naive", "--out", str(tmp_path))
    done = continuad("bench", str(products[0]), *small, "--no-estimate")
    assert done.returncode == 0, done.stderr
    assert "padim: steps a run 1" in done.stderr
    assert "about" not in done.stderr


def test_the_estimate_is_printed_before_the_first_run(products: list[Path], tmp_path: Path) -> None:
    small = ("--image-size", "64", "--set", "padim.channels=8", "--strategy", "naive", "--out", str(tmp_path))
    done = continuad("bench", str(products[0]), *small)
    assert done.returncode == 0, done.stderr
    assert done.stderr.index("learned") < done.stderr.index("in all by that measure") < done.stderr.index("run 1 of 1")
    assert done.stdout.splitlines() == [f"Report: {tmp_path / 'report.html'}"]


@pytest.mark.parametrize("name", ["padim", "patchcore"])
def test_the_memory_that_is_foreseen_is_what_learning_holds(name: str) -> None:
    strategy = build(settings(name, image_size=128), Cell(name, "naive", 0, 0))
    images = random_images(24, (128, 128))
    peak, kept = strategy.detector.foresee(24)  # type: ignore[operator]
    strategy.learn(Task(0, "a", images, images.subset(range(1)), images.subset([])))
    found = sum(strategy.detector.stats[key].nbytes for key in strategy.detector.stats)
    assert 0.9 < found / kept < 1.1
    assert kept < peak


def test_a_run_that_needs_more_memory_than_there_is_ends_before_it_begins(
    products: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PaDiM at 1,600 pixels asked for 11.8 GB in the middle of a run."""
    monkeypatch.setattr(estimate, "free_memory", lambda: 4 * 10**9)
    arguments = ["bench", *map(str, products), "--detector", "padim", "--out", str(tmp_path / "out")]
    done = continuad(*arguments, "--image-size", "1600", "--strategy", "naive")
    assert done.returncode == 2
    assert "padim needs about 9.5 GB of memory for one task at 1600 x 1600, and 4.0 GB are free" in done.stderr
    monkeypatch.setattr(estimate, "free_memory", lambda: 10**9)
    done = continuad(*arguments, "--image-size", "500", "--strategy", "naive,pertask")
    assert done.returncode == 2
    assert "for the tasks of pertask at 500 x 500, and 1.0 GB are free" in done.stderr


def test_a_model_that_does_not_fit_on_the_disk_is_noticed_before_it_is_learned(
    products: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**7))
    arguments = ["bench", *map(str, products[:2]), "--detector", "padim", "--out", str(tmp_path / "out")]
    done = continuad(*arguments, "--image-size", "128", "--strategy", "naive,pertask")
    assert done.returncode == 2
    assert "takes about 0.083 GB at 128 x 128, and 0.01 GB are free on the disk of --out" in done.stderr
    assert not (tmp_path / "out" / "runs").exists()


def test_free_memory_is_a_number_of_bytes_where_the_system_says_it() -> None:
    free = free_memory()
    assert free is None or 10**7 < free < 10**14
