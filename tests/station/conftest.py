"""A small station: two drawn products at 128 pixels, taught once for all tests that only ask."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from station_parts import SIZE, SMALL, write

from continuad.station import Station


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders stripes and squares of 24 good pictures each, and more of them, good and bad."""
    root = tmp_path_factory.mktemp("parts")
    for kind in ("stripes", "squares"):
        write(root / kind, kind, range(24))
        write(root / "more" / kind, kind, range(100, 108))
        write(root / "bad" / kind, kind, range(200, 203), defect=True)
    return root


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    """A station that knows both."""
    folder = tmp_path_factory.mktemp("station") / "line"
    station = Station.open(folder, create=True)
    for kind in ("stripes", "squares"):
        station.learn(parts / kind, geometry=SIZE, options=SMALL)
    return folder


@pytest.fixture
def line(tmp_path: Path, taught: Path) -> Station:
    """A copy of it that a test may change."""
    return Station.open(shutil.copytree(taught, tmp_path / "line"))
