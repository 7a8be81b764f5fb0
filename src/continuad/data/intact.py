"""Whether a compressed file holds its whole picture.

Decoders fill up what is missing with grey or garbage and say nothing: half a JPEG with an early end marker, or padded
with zeros to its full length, looks like a picture. libjpeg-turbo notices, and `simplejpeg` passes its warnings on.
"""

from __future__ import annotations

import re
import struct

import simplejpeg

_HARMLESS = 16  # bytes: some cameras leave a few between the picture and its end marker
_NEVER = b"\0" * 64  # compressed data hold no such run


def damage(data: bytes, kind: str) -> str:
    """What is wrong with a file that a decoder accepts, a clause; empty if nothing is.

    Args:
        data: the whole file.
        kind: Pillow's name of the format.
    """
    if kind in ("JPEG", "MPO"):
        return _jpeg(data)
    if kind == "WEBP":
        return _webp(data)
    return ""


def _jpeg(data: bytes) -> str:
    """Corrupt or missing image data; other oddities of the header are left to the decoder."""
    try:
        space = simplejpeg.decode_jpeg_header(data)[2]
        wanted = "CMYK" if space in ("CMYK", "YCCK") else "GRAY"
        # an eighth of the size: the compressed data are read whole all the same
        simplejpeg.decode_jpeg(data, colorspace=wanted, min_height=1, min_width=1, min_factor=1, strict=True)
    except ValueError as error:
        told = str(error)
        extra = re.search(r"(\d+) extraneous bytes before marker 0xd9", told)
        if extra and int(extra[1]) <= _HARMLESS:
            return ""
        if "Premature end" in told or "premature end" in told:
            return "is cut short: its compressed data end before the picture does"
        if "Corrupt JPEG data" in told:
            return f"is damaged ({told.removeprefix('Corrupt JPEG data: ')})"
    return ""


def _webp(data: bytes) -> str:
    """Zeros in place of compressed data."""
    at = len(b"RIFF....WEBP")
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name in (b"VP8 ", b"VP8L", b"ANMF") and _NEVER in data[at + 8 : at + 8 + length]:
            return "is cut short and filled up with zeros"
        at += 8 + length + length % 2
    return ""
