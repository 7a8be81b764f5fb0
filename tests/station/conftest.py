"""A small station: two drawn products at 128 pixels, taught once for all tests that only ask."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from continuad.station import Station
from continuad.station.geometry import Geometry

SIZE = Geometry((128, 128))
SMALL = {"bank": "25%"}


def picture(kind: str, number: int, defect: bool = False) -> Image.Image:
    """A noisy texture of stripes or squares, 192 x 160 pixels; a defect is a bright blot of 20 x 16."""
    rng = np.random.default_rng([number, kind == "stripes"])
    y, x = np.mgrid[:160, :192]
    pattern = (x // 16) % 2 if kind == "stripes" else ((x // 24) + (y // 24)) % 2
    grey = 60 + 90 * pattern + rng.normal(rng.normal(0, 4), 6, (160, 192))
    if defect:
        grey[60:76, 80:100] = 250
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


def write(folder: Path, kind: str, numbers: range, defect: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(kind, number, defect).save(folder / f"{number:03}.png")
    return folder


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
