"""Two hundred image files as the world makes them: damaged, mistaken, odd in format or name, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from writers import half, png, saved, scene, tiff

Hostile = tuple[str, bytes, str]
"""A file's name, its content, and words that the audit says of it."""

CUT, DAMAGED, CLEAR = "is cut short", "damaged", "no visible pixel"
SEVERAL, MODE, EVEN = "several pictures", "another colour mode than most", "as if cut short"
NO_IMAGE, FOREIGN = "is not an image", "formats that are not read"


def write_hostile(folder: Path) -> dict[str, str]:
    """Write 200 hostile files into a folder, and forty sound ones.

    Returns:
        Words that the audit has to say of each hostile file, by its name.
    """
    folder.mkdir(parents=True)
    for i in range(40):
        scene(64, i).save(folder / f"sound {i:02}.png")
    expected = {}
    for name, content, reason in _files():
        assert name not in expected, name
        (folder / name).write_bytes(content)
        expected[name] = reason
    (folder / "link to nothing.png").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.png")
    (folder / "endless.jpg").symlink_to("/dev/zero")
    expected |= {"link to nothing.png": "cannot be opened", "pipe.png": "pipe", "endless.jpg": "device"}
    assert len(expected) == 200, len(expected)
    return expected


def _files() -> Iterator[Hostile]:
    yield from _no_images()
    yield from _jpegs()
    yield from _other_damage()
    yield from _clear()
    yield from _values()
    yield from _several()
    yield from _names()


def _no_images() -> Iterator[Hostile]:
    suffixes = ("png", "jpg", "jpeg", "jfif", "bmp", "tif", "tiff", "webp", "gif", "ppm", "pgm", "pbm", "pnm")
    rest = np.random.default_rng(0)
    for suffix in suffixes:
        yield f"empty.{suffix}", b"", "is empty (0 bytes)"
        yield f"text.{suffix}", b"I was renamed.", NO_IMAGE
        yield f"random.{suffix}", rest.bytes(500), NO_IMAGE
    yield "page.png", b"<!DOCTYPE html><title>404</title>", NO_IMAGE
    yield "archive.png", b"PK\x03\x04" + rest.bytes(300), NO_IMAGE
    yield "document.jpg", b"%PDF-1.7" + rest.bytes(300), NO_IMAGE
    yield "drawing.png", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', NO_IMAGE
    yield "zeros.jpg", bytes(5000), NO_IMAGE
    for name, start in (("tif", b"II*\0"), ("png", b"\x89PNG\r\n\x1a\n"), ("jpg", b"\xff\xd8\xff\xe0")):
        yield f"header only.{name}", start + rest.bytes(300), "damaged"
    for suffix in ("heic", "jp2", "dng", "avif"):
        yield f"other.{suffix}", rest.bytes(300), FOREIGN


def _jpegs() -> Iterator[Hostile]:
    pictures = {"grey": scene(96).convert("L"), "colour": scene(96), "ink": scene(96).convert("CMYK")}
    for kind, picture in pictures.items():
        for way, options in (("plain", {"quality": 90}), ("progressive", {"progressive": True})):
            whole = saved(picture, "jpeg", **options)
            for how in ("cut", "zeros", "end", "zeros end", "end zeros", "end rest"):
                yield f"{kind} {way} half {how}.jpg", half(whole, how), "is "
            yield f"{kind} {way} last rows.jpg", whole[: int(len(whole) * 0.95)] + b"\xff\xd9", CUT
    for suffix in ("png", "jpeg", "jfif", "bmp", "tif", "tiff", "webp", "gif", "ppm", "pgm", "pbm", "pnm"):
        yield f"half a jpeg.{suffix}", half(saved(scene(96), "jpeg"), "end"), CUT  # decoders go by content, not name


def _other_damage() -> Iterator[Hostile]:
    picture = scene(64, 7)
    wholes = {
        "png": saved(picture, "png"),
        "gif": saved(picture, "gif"),
        "webp": saved(picture, "webp"),
        "lossless.webp": saved(picture, "webp", lossless=True),
        "bmp": saved(picture, "bmp"),
        "tif": saved(picture, "tiff"),
        "lzw.tif": saved(picture, "tiff", compression="tiff_lzw"),
        "deflate.tif": saved(picture, "tiff", compression="tiff_deflate"),
        "ppm": saved(picture, "ppm"),
        "pgm": saved(picture.convert("L"), "ppm"),
    }
    for suffix, whole in wholes.items():
        raw = suffix in ("bmp", "tif", "ppm", "pgm")
        yield f"half.{suffix}", half(whole), "damaged"
        filled = EVEN if raw else CUT if "webp" in suffix else DAMAGED
        yield f"half of zeros.{suffix}", half(whole, "zeros"), filled
    flipped = bytearray(wholes["png"])
    flipped[len(flipped) // 2] ^= 1
    yield "one bit flipped.png", bytes(flipped), DAMAGED
    yield "rows missing.png", png(np.asarray(picture), rows=30), EVEN
    yield "endless size.png", png(np.zeros((1, 1, 3), np.uint8)).replace(b"\0\0\0\1" * 2, b"\0\1\0\0" * 2), "damaged"
    yield "bomb.png", saved(Image.new("1", (12_000, 12_000)), "png"), "too many pixels: 12000 x 12000"


def _clear() -> Iterator[Hostile]:
    nothing = np.zeros((16, 16), np.uint8)
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([1, 2, 3, 4, 5, 6])
    colour = Image.fromarray(np.dstack([np.full((16, 16, 3), 99, np.uint8), nothing]))
    yield "clear.png", saved(colour, "png"), CLEAR
    yield "clear.webp", saved(colour, "webp", lossless=True), CLEAR
    yield "clear.tif", saved(colour, "tiff"), CLEAR
    yield "clear grey.png", saved(Image.fromarray(np.dstack([nothing, nothing])), "png"), CLEAR
    yield "clear palette.png", saved(palette, "png", transparency=1), CLEAR
    yield "clear palette.gif", saved(palette, "gif", transparency=1), CLEAR
    yield "clear 16.png", png(np.zeros((16, 16, 4), np.uint16)), CLEAR
    yield "clear 16.tif", tiff(np.zeros((16, 16, 4), np.uint16), 2, extra=2), CLEAR
    yield "clear grey 16.png", png(np.zeros((16, 16, 2), np.uint16)), CLEAR
    yield "clear value.png", png(np.full((16, 16, 1), 900, np.uint16), clear=[900]), CLEAR


def _values() -> Iterator[Hostile]:
    wide = np.random.default_rng(1).integers(0, 4096, (16, 16, 3)).astype(np.uint16)
    grey, eight = wide[..., :1], (wide >> 4).astype(np.uint8)
    yield "float.tif", saved(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "tiff"), "floating-point"
    yield "large integers.tif", saved(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "tiff"), "leave 0 to 65535"
    yield "negative integers.tif", saved(Image.fromarray(np.full((8, 8), -1, np.int32)), "tiff"), "leave 0 to 65535"
    yield "signed bytes.tif", tiff(eight[..., :1].astype(np.int8), 1, signed=True), "signed values"
    yield "planes 16.tif", tiff(wide, 2, planar=True), "separate planes"
    yield "planes deflated.tif", tiff(wide, 2, planar=True, packed=True), "separate planes"
    yield "lab planes.tif", tiff(eight, 8, planar=True), "separate planes"
    yield "lab 16.tif", tiff(wide, 8), "kind that cannot be read"
    yield "cut 16.ppm", b"P6 16 16 65535\n" + wide.astype(">u2").tobytes()[:-1], "of 768 values"
    profile = bytearray(128)
    profile[16:20], profile[36:40] = b"Lab ", b"acsp"
    for kind in ("png", "jpeg", "tiff", "webp"):
        name = f"lab by profile.{'jpg' if kind == 'jpeg' else 'tif' if kind == 'tiff' else kind}"
        yield name, saved(scene(32), kind, icc_profile=bytes(profile)), "Lab values by its colour profile"
    for name, content in {
        "12 bits.png": png(wide),
        "12 bits.tif": tiff(wide, 2),
        "12 bits and alpha.png": png(np.dstack([wide, np.full((16, 16), 65535, np.uint16)])),
        "12 bits premultiplied.tif": tiff(np.dstack([wide, np.full((16, 16), 65535, np.uint16)]), 2, extra=1),
        "12 bits big-endian.tif": tiff(wide, 2, order=">"),
        "12 bits deflated.tif": tiff(wide, 2, packed=True),
        "12 bits.ppm": b"P6 16 16 65535\n" + wide.astype(">u2").tobytes(),
        "12 bits grey.png": png(grey),
        "12 bits grey.tif": tiff(grey, 1),
        "12 bits ink.tif": tiff(np.dstack([wide, grey]), 5),
        "lab.tif": tiff(eight, 8),
        "ink.tif": saved(scene(32).convert("CMYK"), "tiff"),
        "palette.png": saved(scene(32).quantize(16), "png"),
        "grey.bmp": saved(scene(32).convert("L"), "bmp"),
        "black and white.pbm": saved(scene(32).convert("1"), "ppm"),
        "alpha.png": saved(scene(32).convert("RGBA"), "png"),
        "grey alpha.png": saved(scene(32).convert("LA"), "png"),
    }.items():
        yield name, content, MODE
    yield "white is zero.tif", tiff(grey, 0), "white is zero"
    yield "white is zero deflated.tif", tiff(grey, 0, packed=True), "white is zero"


def _several() -> Iterator[Hostile]:
    def five(kind: str, **options: object) -> bytes:
        first, *others = (scene(32, 200 + seed) for seed in range(5))
        return saved(first, kind, save_all=True, append_images=others, **options)

    for kind, suffix in (("tiff", "tif"), ("gif", "gif"), ("webp", "webp"), ("png", "png"), ("mpo", "jpg")):
        yield f"five.{suffix}", five(kind), SEVERAL
    for way in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield f"five {way}.tiff", five("tiff", compression=way), SEVERAL
    yield "plot.png", saved(scene(32), "png", pnginfo=_software("Matplotlib version 3")), "drawn by Matplotlib"
    yield "sound once more.bmp", saved(scene(64, 3), "bmp"), "more than once"


def _software(name: str) -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", name)
    return info


def _names() -> Iterator[Hostile]:
    content = iter(saved(scene(32, 300 + i), "png") for i in range(40))
    for name in (os.fsdecode(b"Stra\xdfe.png"), os.fsdecode(b"\xe9t\xe9.PNG"), os.fsdecode(b"\xff\xfe.png")):
        yield name, next(content), "not UTF-8"
    for name in (
        "line\nbreak.png",
        "tab\t.png",
        "bell\a.png",
        "escape \x1b[31m.png",
        "reversed \u202e.png",
        "\u2028.png",
    ):
        yield name, next(content), "control characters"
    yield "n" * 246 + ".png", next(content), "250 bytes long"
    yield "孔" * 80 + ".png", next(content), "244 bytes long"
    yield os.fsdecode(b"d\xe9truit.jpg"), half(saved(scene(64), "jpeg"), "end"), CUT
    yield "[red]markup[bold].png", b"", "is empty"
    yield "  spaces  .png", b"", "is empty"
    yield "quote\"'`$(rm).png", b"", "is empty"
