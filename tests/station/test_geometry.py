"""One geometry for learning, maps and masks: shapes, regions, and the way back into the picture's own pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from station_parts import SMALL, picture, write

from continuad.data.decode import UnreadableImage
from continuad.errors import ContinuadError
from continuad.station import Station
from continuad.station.geometry import Geometry, mask_from


def disc(path: Path, size: tuple[int, int] = (192, 160)) -> Path:
    image = Image.new("L", size, 10)
    ImageDraw.Draw(image).ellipse((20, 20, size[0] - 20, size[1] - 20), fill=245)
    image.save(path)
    return path


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("size", [(40, 1000), (1000, 40), (1, 1000), (97, 131), (256, 256)])
def test_a_spot_comes_back_to_where_it_was(fit: str, size: tuple[int, int]) -> None:
    """For pictures of any shape: what the working image shows at a place is put back there."""
    geometry = Geometry((64, 96), fit)  # type: ignore[arg-type]
    y, x = size[0] // 2, size[1] // 2
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[max(0, y - size[0] // 16) : y + size[0] // 16 + 1, max(0, x - size[1] // 16) : x + size[1] // 16 + 1] = 255
    shown = Image.fromarray(pixels)
    working = geometry.apply(shown).mean(0)
    if fit == "pad":
        working = np.where(working == 128, 0, working)  # where there is no picture
    back = geometry.back(working.astype(np.float32), shown, -1.0)
    assert back.shape == size
    rows, columns = np.nonzero(back >= back.max() - 1e-3)
    scales = 64 / size[0], 96 / size[1]
    down, across = scales if fit == "stretch" else [min(scales) if fit == "pad" else max(scales)] * 2
    assert abs(rows.mean() - y) <= max(1.5, 1 / down), "within a pixel of the working image"
    assert abs(columns.mean() - x) <= max(1.5, 1 / across)


def test_what_lies_outside_a_mask_never_counts_by_a_single_bit(tmp_path: Path) -> None:
    geometry = Geometry((128, 128), mask=mask_from(disc(tmp_path / "disc.png")))
    station = Station.open(tmp_path / "line", create=True)
    station.learn(write(tmp_path / "stripes", "stripes", range(16)), geometry=geometry, options=SMALL)
    station = Station.open(station.folder)
    plain = picture("stripes", 90)
    spoilt = np.asarray(plain).copy()
    spoilt[:18], spoilt[:, -18:] = 255, 0
    (before,), (after,) = (list(station.inspect(one)) for one in (plain, spoilt))
    assert after.score == before.score
    np.testing.assert_array_equal(after.map, before.map)
    station.set_threshold("stripes", value=0.0)
    (flagged,) = station.inspect(spoilt)
    inside = np.asarray(Image.open(tmp_path / "disc.png")) > 128
    assert flagged.mask.any()
    assert not flagged.mask[~inside].any()
    assert next(iter(station.inspect(picture("stripes", 90, defect=True)))).map[68, 90] > before.map[68, 90]


@pytest.mark.parametrize(("level", "what"), [(0, "nothing"), (255, "everything")])
def test_a_mask_that_marks_nothing_or_everything_is_refused(tmp_path: Path, level: int, what: str) -> None:
    Image.new("L", (50, 40), level).save(tmp_path / "mask.png")
    with pytest.raises(ContinuadError, match=rf"mask\.png: {what} in this mask"):
        mask_from(tmp_path / "mask.png")


def test_a_mask_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=r"mask\.png"):
        mask_from(tmp_path / "mask.png")


def test_a_region_without_a_pixel_is_refused() -> None:
    with pytest.raises(ContinuadError, match="the region holds no pixel of the working image"):
        Geometry((64, 64), region=(0.5001, 0.0, 0.5002, 1.0))
    with pytest.raises(ContinuadError, match="as shares of the picture"):
        Geometry((64, 64), region=(0.6, 0.0, 0.5, 1.0))
