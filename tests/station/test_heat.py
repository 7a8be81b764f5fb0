"""Heat maps: one scale a product, whatever the picture; and pictures that are defective all over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from station_parts import SIZE, SMALL

from continuad.station import Station
from continuad.station.heat import COLOURS, OUTLINE, heat_map, line_of

GREY = Image.new("RGB", (40, 30), (100, 100, 100))


def pixels(values: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    none = np.zeros(values.shape, bool) if mask is None else mask
    return np.asarray(heat_map(GREY, values, none, 1.0, 3.0)).astype(int)


def test_a_value_has_one_colour_whatever_else_the_map_holds() -> None:
    """A map scaled by itself would show red on every good picture (BL-089)."""
    ordinary, mixed = np.full((30, 40), 2.0), np.full((30, 40), 2.0)
    mixed[10:20, 10:20] = 9.0
    np.testing.assert_array_equal(pixels(ordinary)[0, 0], pixels(mixed)[0, 0])
    np.testing.assert_array_equal(pixels(np.full((30, 40), 1.0))[0, 0], (100, 100, 100))


def test_below_the_threshold_is_blue_and_above_it_amber() -> None:
    below, above = pixels(np.full((30, 40), 2.9))[0, 0], pixels(np.full((30, 40), 3.2))[0, 0]
    assert below[2] > below[0]
    assert above[0] > above[2]
    np.testing.assert_allclose(pixels(np.full((30, 40), 99.0))[5, 5], 0.38 * 100 + 0.62 * COLOURS[-1], atol=1)


def test_a_picture_that_is_defective_all_over_is_drawn() -> None:
    """Every pixel marked: the outline runs along the border (BL-088)."""
    found = pixels(np.full((30, 40), 9.0), np.ones((30, 40), bool))
    np.testing.assert_array_equal(found[0], np.broadcast_to(OUTLINE, (40, 3)))
    assert tuple(found[15, 20]) != OUTLINE


def test_heat_map_and_mask_have_the_size_of_the_picture(line: Station, parts: Path, tmp_path: Path) -> None:
    (found,) = line.inspect(parts / "bad" / "stripes" / "200.png")
    said = line_of(found, tmp_path / "heat")
    heat, mask = (Image.open(said[name]) for name in ("heat_map", "mask"))
    assert heat.size == mask.size == (192, 160)
    assert set(np.unique(np.asarray(mask))) == {0, 255}
    assert np.asarray(mask)[68, 90] == 255


def test_the_same_pictures_teach_the_same_to_the_byte(tmp_path: Path, parts: Path) -> None:
    """Two runs of one command (BL-105): the file of what was learned is named by its content."""
    blobs = set()
    for name in ("one", "two"):
        station = Station.open(tmp_path / name, create=True)
        blobs.add(station.learn(parts / "stripes", geometry=SIZE, options=SMALL).blob)
    assert len(blobs) == 1


@pytest.mark.parametrize("number", [1, 2, 3, 17])
def test_any_number_of_pictures_gives_as_many_verdicts(line: Station, parts: Path, number: int) -> None:
    """A last batch of one is a batch like any other (BL-021)."""
    files = [parts / "more" / "stripes" / "100.png"] * number
    found = list(line.inspect(files, log=False))
    assert len(found) == number
    assert len({round(one.score, 4) for one in found}) == 1
    assert all(one.map.shape == (160, 192) for one in found)
