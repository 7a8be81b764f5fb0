"""A disk that really is full, and two processes that change one station."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from station_parts import SIZE, SMALL, write

from continuad.errors import ContinuadError
from continuad.station import Station


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if (
        os.getuid()
        or mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=6m", "tmpfs", place]).returncode
    ):
        pytest.skip("a small disk can be mounted by root alone")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_leaves_the_last_good_version(small_disk: Path, taught: Path, parts: Path) -> None:
    line = Station.open(shutil.copytree(taught, small_disk / "line"))
    shown = [parts / "more" / "stripes", parts / "bad" / "stripes"]
    before, version = [one.score for one in line.inspect(shown, log=False)], line.version
    filler = small_disk / "filler"
    for left in (0, 100_000, 400_000, 1_000_000):
        filler.unlink(missing_ok=True)
        free = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(max(0, free - left)))
        for verb in (
            lambda: line.update("stripes", parts / "more" / "stripes", tolerance=None),
            lambda: line.learn(parts / "stripes", "third", geometry=SIZE, options=SMALL, tolerance=None),
        ):
            with pytest.raises((ContinuadError, OSError), match=r"(?i)no space left|disk is full|full"):
                verb()
            again = Station.open(line.folder)
            assert again.version == version
            assert [one.score for one in again.inspect(shown, log=False)] == before
            again.close()
    filler.unlink()
    line.update("stripes", parts / "more" / "stripes", tolerance=None)
    assert line.version == version + 1


def test_two_processes_change_one_station_in_turns(line: Station, parts: Path, tmp_path: Path) -> None:
    """Each of two teaches a product and moves a threshold; none of the four changes is lost."""
    run = "from continuad.cli.app import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    version = line.version
    processes = []
    for name, kind in (("left", "stripes"), ("right", "squares")):
        folder = write(tmp_path / name, kind, range(300, 306))
        words = [["learn", str(folder), "--image-size", "64", "--force"]]
        words += [["threshold", kind, "--false-alarms", str(rate)] for rate in (0.3,)]
        commands = " && ".join(
            " ".join([sys.executable, "-c", f"'{run}'", one[0], str(line.folder), *one[1:]]) for one in words
        )
        processes.append(subprocess.Popen(["sh", "-c", commands], env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert line.version == version + 4
    assert [one.name for one in line.products()] in (
        ["stripes", "squares", "left", "right"],
        ["stripes", "squares", "right", "left"],
    )
    for kind in ("stripes", "squares"):
        assert line.product(kind).record.false_alarms == 0.3
