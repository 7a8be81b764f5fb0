"""Parts that lie anyhow: turned and moved as the others lie, and the map back in the picture's own pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from continuad.demo.line import draw
from continuad.errors import ContinuadError
from continuad.station import Station
from continuad.station.align import Pose, pose_of, put_back, reference_of, straighten
from continuad.station.geometry import Geometry


def laid(pixels: np.ndarray, pose: Pose) -> np.ndarray:
    """A picture (H, W, 3) whose part lies with this pose."""
    planes = [put_back(plane, pose, float(np.median(plane))) for plane in pixels.transpose(2, 0, 1).astype(float)]
    return np.stack(planes, 2).clip(0, 255).astype(np.uint8)


def part(number: int, defect: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    return draw("metal_nut", seed=number, defect=defect, size=128)


@pytest.mark.parametrize("degrees", [0.0, 7.5, -8.0, 90.0, 171.0])
@pytest.mark.parametrize("move", [(0.0, 0.0), (12.0, -12.0), (-5.5, 3.25)])
def test_a_pose_is_found_to_a_fraction_of_a_pixel_and_of_a_degree(degrees: float, move: tuple[float, float]) -> None:
    pixels, _ = draw("screw", seed=3, size=128)
    found = pose_of(
        laid(pixels, Pose(degrees, *move)).transpose(2, 0, 1), reference_of(pixels.transpose(2, 0, 1)[None])
    )
    assert abs((found.degrees - degrees + 180) % 360 - 180) < 1.0
    assert (found.down, found.right) == (pytest.approx(move[0], abs=1.0), pytest.approx(move[1], abs=1.0))


def test_straightened_and_put_back_is_where_it_was() -> None:
    spot = np.zeros((64, 96))
    spot[40:44, 60:64] = 1
    pose = Pose(25.0, 4.0, -6.0)
    again = put_back(straighten(spot, pose), pose, 0.0)
    assert np.unravel_index(again.argmax(), again.shape) in [(y, x) for y in (41, 42) for x in (61, 62)]


def test_a_turned_and_moved_defect_is_found_where_it_lies_and_good_parts_pass(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    poses = [Pose(*rng.uniform(-8, 8, 1), *rng.uniform(-12, 12, 2)) for _ in range(20)]
    (tmp_path / "nuts").mkdir()
    for number, pose in enumerate(poses):
        Image.fromarray(laid(part(number)[0], pose)).save(tmp_path / "nuts" / f"{number}.png")
    station = Station.open(tmp_path / "line", create=True)  # PaDiM compares each place with itself
    geometry = Geometry((128, 128), align=True)
    station.learn(tmp_path / "nuts", detector="padim", geometry=geometry, options={"channels": 30})
    station = Station.open(station.folder)
    pose = Pose(-6.0, 9.0, -11.0)
    good = [laid(part(number)[0], pose) for number in range(40, 48)]
    pixels, _ = part(50)
    pixels[60:68, 30:38] = (250, 30, 30)
    mask = np.zeros((128, 128))
    mask[60:68, 30:38] = 1
    *passed, found = station.inspect([*good, laid(pixels, pose)], "nuts")
    assert found.verdict == "defective"
    y, x = np.unravel_index(found.map.argmax(), found.map.shape)
    rows, columns = np.nonzero(put_back(mask, pose, 0.0) > 0.5)
    assert np.hypot(y - rows.mean(), x - columns.mean()) <= 4
    assert sum(one.verdict == "good" for one in passed) >= 6


def test_aligned_parts_have_no_region() -> None:
    with pytest.raises(ContinuadError, match="give one of them"):
        Geometry(region=(0, 0, 0.5, 1), align=True)
