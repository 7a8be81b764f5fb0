"""Image files that Pillow cannot write: colour above 8 bits, odd TIFFs, JPEGs cut short."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

_PNG_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: colour type


def png(values: np.ndarray, *, clear: Sequence[int] | None = None, rows: int | None = None) -> bytes:
    """A PNG of (H, W, C) values, uint8 or uint16.

    Args:
        clear: the grey value or the colour that is transparent (chunk tRNS).
        rows: how many rows the file holds; its header promises all.
    """
    wide = values.dtype == np.uint16
    lines = values.astype(">u2" if wide else np.uint8)[:rows]
    header = struct.pack(">IIBBBBB", *values.shape[1::-1], 16 if wide else 8, _PNG_KINDS[values.shape[2]], 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    trns = [(b"tRNS", struct.pack(f">{len(clear)}H", *clear))] if clear is not None else []
    chunks = [(b"IHDR", header), *trns, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def tiff(
    values: np.ndarray,
    photometric: int,
    *,
    order: str = "<",
    planar: bool = False,
    packed: bool = False,
    extra: int | None = None,
    signed: bool = False,
) -> bytes:
    """An uncompressed or deflated TIFF of (H, W, C) values.

    Args:
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 5 CMYK, 8 CIE Lab.
        order: "<" little-endian, ">" big-endian.
        planar: the channels one after another.
        packed: deflated.
        extra: what the last channel is: 0 nothing in particular, 1 premultiplied alpha, 2 alpha.
    """
    height, width, bands = values.shape
    ordered = values.astype(values.dtype.newbyteorder(order))
    planes = [ordered[..., i].tobytes() for i in range(bands)] if planar else [ordered.tobytes()]
    planes = [zlib.compress(plane) for plane in planes] if packed else planes
    offsets = [8 + sum(len(plane) for plane in planes[:i]) for i in range(len(planes))]
    data = b"".join(planes) + b"\0" * (sum(map(len, planes)) % 2)
    short, long = "H", "I"
    tags = [
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [values.dtype.itemsize * 8] * bands),
        (259, short, [8 if packed else 1]),
        (262, short, [photometric]),
        (273, long, offsets),
        (277, short, [bands]),
        (278, long, [height]),
        (279, long, [len(plane) for plane in planes]),
        (284, short, [2 if planar else 1]),
    ]
    tags += [(338, short, [extra])] if extra is not None else []
    tags += [(339, short, [2] * bands)] if signed else []
    start = 8 + len(data)
    beyond = start + 2 + 12 * len(tags) + 4
    entries, tail = b"", b""
    for tag, kind, content in tags:
        packed_content = struct.pack(f"{order}{len(content)}{kind}", *content)
        entries += struct.pack(f"{order}HHI", tag, 3 if kind == short else 4, len(content))
        if len(packed_content) > 4:
            entries += struct.pack(f"{order}I", beyond + len(tail))
            tail += packed_content
        else:
            entries += packed_content.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0) + tail


def scene(side: int = 64, seed: int = 0) -> Image.Image:
    """A smooth picture, like a photograph of a part."""
    small = np.random.default_rng(seed).integers(20, 235, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """A picture's bytes in a format that Pillow writes."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def half(data: bytes, how: str = "cut") -> bytes:
    """The first half of a file: "cut"; "zeros", filled up to its length; "end", with a JPEG end marker; or both."""
    first, rest = data[: len(data) // 2], len(data) - len(data) // 2
    end = b"\xff\xd9"
    return {
        "cut": first,
        "zeros": first + bytes(rest),
        "end": first + end,
        "zeros end": first + bytes(rest - 2) + end,
        "end zeros": first + end + bytes(rest - 2),
        "end rest": first + end + data[len(data) // 2 :],
    }[how]
