"""Pictures that are not what they seem: cut short, filled up, transparent, several in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from writers import half, png, saved, scene

from continuad.data.audit import audit
from continuad.data.decode import UnreadableImage, decode_image, even_band, read_picture
from continuad.data.stream import open_stream
from continuad.errors import ContinuadError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8))


@pytest.mark.parametrize("how", ["cut", "zeros", "end", "zeros end", "end zeros", "end rest"])
@pytest.mark.parametrize("options", [{}, {"quality": 95}, {"progressive": True}, {"quality": 10}, {"optimize": True}])
@pytest.mark.parametrize("picture", [scene(256), NOISE, scene(256).convert("L"), scene(256).convert("CMYK")])
def test_half_a_jpeg_is_refused(picture: Image.Image, options: dict[str, object], how: str) -> None:
    whole = saved(picture, "jpeg", **options)
    assert decode_image(whole).shape == (3, picture.height, picture.width)
    with pytest.raises(UnreadableImage, match=r"is (cut short|damaged)"):
        decode_image(half(whole, how))


def test_the_last_rows_of_a_jpeg_are_missed_too() -> None:
    whole = saved(scene(256), "jpeg", quality=90)
    with pytest.raises(UnreadableImage, match="is cut short: its compressed data end before the picture does"):
        decode_image(whole[: int(len(whole) * 0.97)] + b"\xff\xd9")


@pytest.mark.parametrize("picture", [scene(256), NOISE, scene(256).convert("L")])
def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused(picture: Image.Image) -> None:
    whole = saved(picture, "jpeg", progressive=True)
    decode_image(whole)
    scans = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for at in scans[1:]:
        with pytest.raises(UnreadableImage, match="is cut short"):
            decode_image(whole[:at] + b"\xff\xd9")


def test_png_image_data_are_held_to_their_checksum() -> None:
    whole = saved(scene(64), "png")
    for at in (whole.index(b"IDAT") + 40, len(whole) - 20):
        with pytest.raises(UnreadableImage, match="is damaged"):
            decode_image(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for data in (whole, saved(scene(64), "png", save_all=True, append_images=[scene(64, 1)])):
        assert decode_image(data).shape == (3, 64, 64)


def test_even_pictures_and_data_after_the_end_are_no_damage() -> None:
    for picture in (Image.new("L", (512, 512), 255), Image.new("RGB", (300, 200), (3, 200, 9))):
        decode_image(saved(picture, "jpeg", optimize=True))
    whole = saved(scene(256), "jpeg", progressive=True)
    decode_image(whole + b"appended by a phone" * 50)
    decode_image(whole[:-2] + b"\x12\x34\x56" + whole[-2:])  # as some cameras leave before the end marker
    tables = whole.index(b"\xff\xdb")
    decode_image(whole[:tables] + bytes(40) + whole[tables:])


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
def test_a_webp_filled_up_with_zeros_is_refused(options: dict[str, object]) -> None:
    whole = saved(scene(256), "webp", **options)
    decode_image(whole)
    with pytest.raises(UnreadableImage, match="filled up with zeros"):
        decode_image(half(whole, "zeros"))


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_other_formats_notice_themselves(kind: str) -> None:
    with pytest.raises(UnreadableImage, match="is damaged"):
        decode_image(half(saved(scene(256), kind), "zeros"))


CLEAR = np.zeros((6, 6), np.uint8)
PALETTE = Image.new("P", (6, 6), 1)
PALETTE.putpalette([1, 2, 3, 4, 5, 6])
TRANSPARENT = {
    "rgba.png": saved(Image.fromarray(np.dstack([np.full((6, 6, 3), 90, np.uint8), CLEAR])), "png"),
    "la.png": saved(Image.fromarray(np.dstack([np.full((6, 6), 90, np.uint8), CLEAR])), "png"),
    "palette.png": saved(PALETTE, "png", transparency=1),
    "rgba.webp": saved(Image.fromarray(np.dstack([np.full((6, 6, 3), 90, np.uint8), CLEAR])), "webp", lossless=True),
    "rgba16.png": png(np.zeros((6, 6, 4), np.uint16)),
    "la16.png": png(np.zeros((6, 6, 2), np.uint16)),
    "grey16.png": png(np.full((6, 6, 1), 700, np.uint16), clear=[700]),
    "rgb8.png": png(np.full((6, 6, 3), 70, np.uint8), clear=[70, 70, 70]),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_picture_without_a_visible_pixel_is_refused(name: str) -> None:
    with pytest.raises(UnreadableImage, match="no visible pixel: every one is transparent"):
        decode_image(TRANSPARENT[name])


def test_one_visible_pixel_is_enough() -> None:
    values = np.zeros((6, 6, 4), np.uint8)
    values[2, 3] = [9, 8, 7, 255]
    assert decode_image(saved(Image.fromarray(values), "png"))[:, 2, 3].tolist() == [9, 8, 7]


@pytest.mark.parametrize(("kind", "name"), [("tiff", "a.tif"), ("gif", "a.gif"), ("webp", "a.webp"), ("png", "a.png")])
def test_files_of_several_pictures_are_named_with_their_number(tmp_path: Path, kind: str, name: str) -> None:
    pages = [scene(32, seed) for seed in range(5)]
    (tmp_path / "train").mkdir()
    pages[0].save(tmp_path / "train" / name, kind, save_all=True, append_images=pages[1:])
    scene(32).save(tmp_path / "train" / "one.png")
    assert read_picture(tmp_path / "train" / name).pages == 5
    words = f"files of several pictures, of which the first is used (1): train/{name} (5 pictures)."
    (found,) = audit(tmp_path, image_size=16)
    assert ("note", words) in [(finding.level, finding.text) for finding in found.findings]
    assert any(words in note for note in open_stream(tmp_path, image_size=16, cache=None).notes)


def test_the_largest_band_of_rows_in_one_colour() -> None:
    rows = np.random.default_rng(0).integers(0, 255, (10, 40, 3), dtype=np.uint8)
    assert even_band(Image.fromarray(rows)) == 0
    rows[2:5] = 7
    rows[5:9] = 8
    assert even_band(Image.fromarray(rows)) == 0.4  # two colours are two bands
    rows[6, 39, 2] = 9
    assert even_band(Image.fromarray(rows)) == 0.3
    assert even_band(Image.new("RGB", (5, 5))) == 1


@pytest.mark.parametrize("kind", ["bmp", "tiff", "ppm", "rows missing.png"])
def test_half_a_picture_without_compression_is_found_by_its_even_rows(tmp_path: Path, kind: str) -> None:
    """Nothing in such a file says that zeros are not black; but the product's other pictures have no such rows."""
    (tmp_path / "train").mkdir()
    for i in range(8):
        scene(64, i).save(tmp_path / "train" / f"{i}.png")
    suffix = {"tiff": "tif", "rows missing.png": "png"}.get(kind, kind)
    short = png(np.asarray(scene(64)), rows=32) if "rows" in kind else half(saved(scene(64), kind), "zeros")
    (tmp_path / "train" / f"short.{suffix}").write_bytes(short)
    words = f"many rows of one colour, as if cut short (1): train/short.{suffix} (50% of its rows)"
    (found,) = audit(tmp_path, image_size=16)
    assert words in "\n".join(finding.text for finding in found.findings if finding.level == "warning")
    assert any(words in note for note in open_stream(tmp_path, image_size=16, cache=None).notes)


def test_pictures_that_all_have_even_rows_are_left_alone(tmp_path: Path) -> None:
    for i in range(8):
        values = np.asarray(scene(64, i)).copy()
        values[: 10 + i] = 255  # a white background
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    (found,) = audit(tmp_path, image_size=16)
    assert "cut short" not in "\n".join(finding.text for finding in found.findings)


def test_damage_stops_a_stream_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for i in range(3):
        scene(64, i).save(tmp_path / "train" / f"{i}.jpg")
    (tmp_path / "train" / "1.jpg").write_bytes(half(saved(scene(64), "jpeg"), "end"))
    (tmp_path / "train" / "2.png").write_bytes(TRANSPARENT["rgba.png"])
    with pytest.raises(ContinuadError, match=r"(?s)2 files cannot.*1\.jpg: is cut short.*2\.png: has no visible pixel"):
        open_stream(tmp_path, image_size=16, cache=None)
    stream = open_stream(tmp_path, image_size=16, cache=None, skip_unreadable=True)
    assert len(stream[0].train) + len(stream[0].val) == 2
    assert stream.counts[0].skipped == 2
