"""From any file to the same kind of pixels."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from PIL import Image

from continuad.data.decode import UnreadableImage, decode_image, decode_mask, white_bits
from continuad.errors import ContinuadError


def test_every_colour_mode_becomes_three_channels(tmp_path) -> None:
    grey = np.tile(np.arange(0, 240, 20, dtype=np.uint8), (10, 1))
    picture = Image.fromarray(grey)
    for mode in ("RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "YCbCr"):
        path = tmp_path / f"{mode}.{'tif' if mode in ('CMYK', 'YCbCr') else 'png'}"
        (picture if mode == "P" else picture.convert("RGB")).convert(mode).save(path)  # grey keeps its own palette
        image = decode_image(path)
        assert (image.shape, image.dtype) == ((3, 10, 12), np.uint8), mode
        if mode != "1":
            assert np.abs(image.astype(int) - grey).max() <= 2, mode


def test_grey_is_repeated(tmp_path, save) -> None:
    image = decode_image(save(tmp_path / "a.png", 77))
    assert image.shape == (3, 10, 12)
    assert (image == 77).all()


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_sixteen_bits_use_the_range_of_the_training_images(tmp_path, suffix) -> None:
    dark, bright = (tmp_path / f"{name}.{suffix}" for name in ("dark", "bright"))
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(dark)
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(bright)
    bits = white_bits([dark, bright])
    assert bits == 12
    assert (decode_image(bright, bits=bits) == 255).all()
    assert (decode_image(dark, bits=bits) == round(1000 / 4095 * 255)).all()  # not stretched to its own range
    assert (decode_image(dark) == round(1000 / 65535 * 255)).all()


def test_white_level_is_16_bits_when_nothing_is_wide_or_readable(tmp_path, save) -> None:
    (tmp_path / "text.png").write_text("no image")
    assert white_bits([save(tmp_path / "a.png"), tmp_path / "text.png"]) == 16
    assert white_bits([]) == 16


def test_brighter_than_training_is_clipped_with_a_warning(tmp_path, caplog) -> None:
    Image.fromarray(np.full((4, 4), 5000, np.uint16)).save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        assert (decode_image(tmp_path / "a.png", bits=12) == 255).all()
    assert "a.png: beyond the white level 4095" in caplog.text


@pytest.mark.parametrize(("dtype", "value"), [(np.float32, 0.5), (np.int32, 70_000), (np.int32, -1)])
def test_values_without_a_white_level_are_refused(tmp_path, dtype, value) -> None:
    Image.fromarray(np.full((4, 4), value, dtype)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImage, match=r"a\.tif.*save (it )?as 16-bit"):
        decode_image(tmp_path / "a.tif")


def test_palette_gives_its_colours_and_transparency_becomes_mid_grey(tmp_path) -> None:
    picture = Image.new("P", (4, 2), 0)
    picture.putpalette([200, 10, 20, 0, 90, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "solid.png")
    assert decode_image(tmp_path / "solid.png")[:, 0, :2].T.tolist() == [[200, 10, 20], [0, 90, 0]]
    picture.save(tmp_path / "clear.png", transparency=1)
    assert decode_image(tmp_path / "clear.png")[:, 0, :2].T.tolist() == [[200, 10, 20], [128, 128, 128]]


def test_transparent_pixels_show_mid_grey_whatever_lies_under_them(tmp_path) -> None:
    for under in (0, 255):
        values = np.full((2, 2, 4), under, np.uint8)
        values[..., 3] = [[0, 255], [0, 255]]
        Image.fromarray(values).save(tmp_path / "a.png")
        assert decode_image(tmp_path / "a.png")[0].tolist() == [[128, under], [128, under]]


def test_orientation_of_image_and_mask(tmp_path) -> None:
    values = np.zeros((4, 6), np.uint8)
    values[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(values).save(tmp_path / "a.tif", exif=exif)
    for name in ("a.png", "a.tif"):
        image, mask = decode_image(tmp_path / name), decode_mask(tmp_path / name)
        assert image.shape == (3, 6, 4)
        assert np.argwhere(image[0]).tolist() == np.argwhere(mask).tolist() == [[0, 3]]


def test_animation_gives_its_first_picture(tmp_path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode_image(tmp_path / "a.gif")[:, 0, 0].tolist() == [255, 0, 0]


def test_size_is_height_width_and_scaling_averages(tmp_path) -> None:
    stripes = np.tile(np.array([0, 254], np.uint8), (8, 8))  # 8 high, 16 wide
    Image.fromarray(stripes).save(tmp_path / "a.png")
    small = decode_image(tmp_path / "a.png", (2, 4))
    assert small.shape == (3, 2, 4)
    assert np.abs(small.astype(int) - 127).max() < 20  # without antialiasing it would be 0 or 254


def test_training_and_prediction_decode_alike(tmp_path, save) -> None:
    path = save(tmp_path / "a.jpg")
    assert np.array_equal(decode_image(path, (7, 5)), decode_image(path.read_bytes(), (7, 5)))
    assert np.array_equal(decode_image(str(path)), decode_image(path))


@pytest.mark.parametrize("values", [[0, 1], [0, 128], [236, 254, 0]])
def test_any_value_but_zero_is_defect(tmp_path, values) -> None:
    flat = np.array([values], np.uint8)
    Image.fromarray(flat).save(tmp_path / "a.png")
    assert decode_mask(tmp_path / "a.png").tolist() == (flat > 0).tolist()


def test_masks_in_colour_and_of_other_kinds(tmp_path) -> None:
    one = np.array([[0, 1, 0]], np.uint8)
    palette = Image.fromarray(one).convert("P")
    palette.putpalette([0, 0, 0, 90, 0, 0])
    clear = np.zeros((1, 3, 4), np.uint8)
    clear[0] = [[255, 255, 255, 0], [255, 0, 0, 255], [0, 0, 0, 255]]  # white under glass is no defect
    pictures = {
        "palette.png": palette,
        "alpha.png": Image.fromarray(clear),
        "wide.png": Image.fromarray(one.astype(np.uint16) * 300),
        "float.tif": Image.fromarray(one.astype(np.float32)),
        "bits.png": Image.fromarray(one * 255).convert("1"),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        assert decode_mask(tmp_path / name).tolist() == [[False, True, False]], name


def test_mask_takes_the_nearest_pixel(tmp_path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 1
    Image.fromarray(mask).save(tmp_path / "a.png")
    small = decode_mask(tmp_path / "a.png", (4, 2))
    assert small.dtype == bool
    assert small.tolist() == [[True] * 2] * 2 + [[False] * 2] * 2


def damaged(suffix: str) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, suffix)
    return file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cut.jpg", damaged("jpeg"), "is cut short"),
        ("cut.png", damaged("png"), "is damaged"),
        ("cut.bmp", damaged("bmp"), "is damaged"),
        ("cut.tif", damaged("tiff"), "is (damaged|not an image)"),
        ("none.png", b"", r"is empty \(0 bytes\)"),
        ("text.png", b"I was renamed.", "is not an image"),
    ],
)
def test_damaged_files_say_what_is_wrong(tmp_path, name, content, reason) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ContinuadError, match=f"{name}: {reason}"):
        decode_image(tmp_path / name)


def test_missing_file_and_bytes_are_named(tmp_path) -> None:
    with pytest.raises(UnreadableImage, match=r"gone\.png: cannot be opened"):
        decode_image(tmp_path / "gone.png")
    with pytest.raises(UnreadableImage, match="image: is not an image"):
        decode_image(b"text")


def test_too_many_pixels_are_refused_before_decoding(tmp_path, save) -> None:
    for read in (decode_image, decode_mask):
        with pytest.raises(UnreadableImage, match="too many pixels: 12 x 10; at most 119"):
            read(save(tmp_path / "a.png"), max_pixels=119)
        read(tmp_path / "a.png", max_pixels=120)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # beyond Pillow's own limit
    with pytest.raises(UnreadableImage, match="too many pixels: 20000 x 20000; at most 100,000,000"):
        decode_image(tmp_path / "bomb.png")


def test_what_is_allowed_is_read_beyond_the_limit_of_pillow_which_stays(tmp_path, save, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / "a.png"
    monkeypatch.setattr("continuad.data.decode._LARGE", 0)  # large files are asked for their size first
    Image.fromarray(np.full((10, 12), 4095, np.uint16)).save(path)
    assert white_bits([path]) == 12
    assert decode_image(path, bits=12).shape == (3, 10, 12)
    assert decode_mask(path).shape == (10, 12)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(UnreadableImage, match="too many pixels"):
        decode_image(path, max_pixels=100)
