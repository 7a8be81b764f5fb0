"""Above 8 bits, colour is read as grey is: whole, and by one white level for a product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from writers import png, tiff

from continuad.data.decode import UnreadableImage, decode_image, decode_mask, read_picture, white_bits
from continuad.data.stream import open_stream

RAMP = (np.arange(12 * 10 * 3).reshape(10, 12, 3) * 11 + 5).astype(np.uint16)  # up to 3,954: a 12-bit camera's


def expected(values: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(values * (255 / (2**bits - 1))).astype(int).transpose(2, 0, 1)


FILES = {
    "rgb.png": png(RAMP),
    "rgb.tif": tiff(RAMP, 2),
    "big-endian.tif": tiff(RAMP, 2, order=">"),
    "deflated.tif": tiff(RAMP, 2, packed=True),
    "deflated-big-endian.tif": tiff(RAMP, 2, packed=True, order=">"),
    "unused-channel.tif": tiff(np.dstack([RAMP, RAMP[..., 0]]), 2, extra=0),
    "opaque.tif": tiff(np.dstack([RAMP, np.full((10, 12), 65535, np.uint16)]), 2, extra=2),
    "opaque.png": png(np.dstack([RAMP, np.full((10, 12), 65535, np.uint16)])),
    "opaque-in-12-bits.png": png(np.dstack([RAMP, np.full((10, 12), 4095, np.uint16)])),
    "rgb.ppm": b"P6\n# a camera's\n12 10\n65535\n" + RAMP.astype(">u2").tobytes(),
    "plain.ppm": b"P3 12 10 65535\n" + " ".join(map(str, RAMP.ravel())).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_twelve_bit_colour_uses_the_range_of_the_training_images(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    assert white_bits([tmp_path / name]) == 12
    found = decode_image(tmp_path / name, bits=12).astype(int)
    assert np.abs(found - expected(RAMP, 12)).max() == 0
    assert found.max() > 240  # not 0..15, its high bytes
    assert np.array_equal(decode_image(tmp_path / name), expected(RAMP, 16))


@pytest.mark.parametrize("bits", [9, 10, 14, 16])
def test_every_depth_has_its_white_level(tmp_path: Path, bits: int) -> None:
    values = np.full((4, 4, 3), 2**bits - 1, np.uint16)
    (tmp_path / "a.png").write_bytes(png(values))
    level = white_bits([tmp_path / "a.png"])
    assert level == {9: 10}.get(bits, bits)
    assert decode_image(tmp_path / "a.png", bits=level).min() == (127 if bits == 9 else 255)


def test_grey_with_alpha_above_eight_bits(tmp_path: Path) -> None:
    values = np.full((2, 4, 2), 4095, np.uint16)
    values[..., 1] = [65535, 0, 65535, 32768]
    values[:, 2, 0] = 1000
    (tmp_path / "a.png").write_bytes(png(values))
    assert white_bits([tmp_path / "a.png"]) == 12
    row = decode_image(tmp_path / "a.png", bits=12)[0, 0].tolist()
    assert row == [255, 128, round(1000 / 4095 * 255), round(255 * 32768 / 65535 + 128 * 32767 / 65535)]


def test_what_lies_under_transparent_pixels_does_not_set_the_white_level(tmp_path: Path) -> None:
    values = np.full((2, 2, 4), 1000, np.uint16)
    values[0, 0] = [60000, 60000, 60000, 0]
    values[..., 3] = np.where(values[..., 3] == 0, 0, 65535)
    (tmp_path / "a.png").write_bytes(png(values))
    assert white_bits([tmp_path / "a.png"]) == 10
    assert not read_picture(tmp_path / "a.png", 10).clipped
    assert decode_image(tmp_path / "a.png", bits=10)[:, 0, 0].tolist() == [128] * 3


@pytest.mark.parametrize(("channels", "clear"), [(1, [700]), (3, [700, 800, 900])])
def test_a_transparent_value_above_eight_bits_becomes_mid_grey(tmp_path: Path, channels: int, clear: list[int]) -> None:
    values = np.full((2, 3, channels), 1023, np.uint16)
    values[0, 0] = clear
    (tmp_path / "a.png").write_bytes(png(values, clear=clear))
    found = decode_image(tmp_path / "a.png", bits=10)
    assert found[:, 0, 0].tolist() == [128] * 3
    assert found[:, 1, 1].tolist() == [255] * 3


def test_premultiplied_alpha_is_divided_out(tmp_path: Path) -> None:
    values = np.zeros((1, 2, 4), np.uint16)
    values[0] = [[2000, 1000, 0, 32768], [4095, 4095, 4095, 65535]]
    (tmp_path / "a.tif").write_bytes(tiff(values, 2, extra=1))
    colour = np.array([4000, 2000, 0]) / 4095 * 255
    assert np.abs(decode_image(tmp_path / "a.tif", bits=12)[:, 0, 0] - (colour + 128) / 2).max() < 1


def test_cmyk_above_eight_bits(tmp_path: Path) -> None:
    eight = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    (tmp_path / "8.tif").write_bytes(tiff(eight, 5))
    (tmp_path / "12.tif").write_bytes(tiff((eight * (4095 / 255)).round().astype(np.uint16), 5))
    assert np.array_equal(decode_image(tmp_path / "12.tif", bits=12), decode_image(tmp_path / "8.tif"))


@pytest.mark.parametrize("packed", [False, True])
def test_grey_that_counts_from_white_is_turned_round(tmp_path: Path, packed: bool) -> None:
    values = RAMP[..., :1]
    (tmp_path / "a.tif").write_bytes(tiff(values, 0, packed=packed))
    assert white_bits([tmp_path / "a.tif"]) == 12
    assert np.array_equal(decode_image(tmp_path / "a.tif", bits=12)[0], 255 - expected(values, 12)[0])
    eight = np.array([[[0], [255], [40]]], np.uint8)
    (tmp_path / "8.tif").write_bytes(tiff(eight, 0))
    assert decode_image(tmp_path / "8.tif")[0].tolist() == [[255, 0, 215]]  # as Pillow turns 8 bits round


def test_masks_that_count_from_white_are_turned_round(tmp_path: Path) -> None:
    values = np.array([[[65535], [65535], [0]]], np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff(values, 0))
    assert decode_mask(tmp_path / "a.tif").tolist() == [[False, False, True]]


def test_colour_masks_above_eight_bits_keep_small_values(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 3), np.uint16)
    values[0, 0] = [0, 3, 0]
    (tmp_path / "a.png").write_bytes(png(values))
    assert decode_mask(tmp_path / "a.png").tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(RAMP, 2, planar=True), "separate planes"),
        (tiff(RAMP, 2, planar=True, packed=True), "separate planes"),
        (tiff(RAMP.astype(np.uint8), 8, planar=True), "separate planes"),
        (tiff(RAMP[..., :1].astype(np.int8), 1, signed=True), "signed values"),
        (b"P6 12 10 65535\n" + RAMP.astype(">u2").tobytes()[:-2], "ends after 359 of 360 values"),
    ],
)
def test_what_cannot_be_read_whole_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason):
        decode_image(tmp_path / "a.tif")


def test_eight_bit_planes_are_read(tmp_path: Path) -> None:
    values = RAMP.astype(np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(values, 2, planar=True))
    assert np.array_equal(decode_image(tmp_path / "a.tif"), values.transpose(2, 0, 1))


def test_a_portable_map_says_itself_what_white_is(tmp_path: Path) -> None:
    values = np.full((3, 4), 4095, np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 4 3 4095\n" + values.astype(">u2").tobytes())
    (tmp_path / "a.ppm").write_bytes(b"P6 4 3 4095\n" + np.repeat(values, 3).astype(">u2").tobytes())
    for name in ("a.pgm", "a.ppm"):
        assert decode_image(tmp_path / name, bits=white_bits([tmp_path / name])).min() == 255


def test_lab_becomes_the_colour_it_means(tmp_path: Path) -> None:
    violet = np.full((4, 4, 3), (200, 160 - 128, 90 - 128 + 256), np.uint8)  # L* 78.4, a* 32, b* -38
    (tmp_path / "a.tif").write_bytes(tiff(violet, 8))
    assert np.abs(decode_image(tmp_path / "a.tif")[:, 0, 0].astype(int) - [226, 174, 255]).max() <= 2


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_values_that_are_lab_by_their_profile_are_refused(tmp_path: Path, kind: str) -> None:
    profile = bytearray(128)
    profile[16:20], profile[36:40] = b"Lab ", b"acsp"
    Image.new("RGB", (8, 8), (200, 160, 90)).save(tmp_path / "a", kind, icc_profile=bytes(profile))
    with pytest.raises(UnreadableImage, match="Lab values by its colour profile"):
        decode_image(tmp_path / "a")


def test_a_product_of_twelve_bit_colour_has_one_white_level(tmp_path: Path) -> None:
    for where, value in (("train/1", 4000), ("train/2", 1000), ("test/good/1", 2000), ("test/hot/1", 6000)):
        (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{where}.png").write_bytes(png(np.full((4, 4, 3), value, np.uint16)))
    stream = open_stream(tmp_path, image_size=4, cache=None)
    assert stream.bits == (12,)
    assert stream[0].test.images[:, 0, 0, 0].tolist() == [round(2000 / 4095 * 255), 255]
    notes = "\n".join(stream.notes)
    assert "clipped (1): test/hot/1.png" in notes
    assert "white level of pictures above 8 bits: 4095 (12 bits)" in notes
