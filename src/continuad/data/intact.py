"""Whether a compressed file holds its whole picture.

Decoders fill up what is missing with grey or garbage and say nothing: half a JPEG with an early end marker, or padded
with zeros to its full length, looks like a picture. libjpeg-turbo notices, and `simplejpeg` passes its warnings on.
Pillow does not compare the checksums of PNG image data.
"""

from __future__ import annotations

import re
import struct
import zlib

import simplejpeg

_CUT = "is cut short: its compressed data end before the picture does"
_END, _SCAN, _PROGRESSIVE = 0xD9, 0xDA, 0xC2  # markers of a JPEG
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # any but those within compressed data
_OF_HEADERS = {"db", "fe", "c0", "c1", "c2", *(f"e{digit:x}" for digit in range(16))}  # markers before all data
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
    if kind == "PNG":
        return _png(data)
    return ""


def _jpeg(data: bytes) -> str:
    """Corrupt or missing image data; other oddities of the header are left to the decoder."""
    try:
        space = simplejpeg.decode_jpeg_header(data)[2]
        wanted = "CMYK" if space in ("CMYK", "YCCK") else "GRAY"
        # an eighth of the size: the compressed data are read whole all the same
        simplejpeg.decode_jpeg(data, colorspace=wanted, min_height=1, min_width=1, min_factor=1, strict=True)
    except ValueError as error:
        message = str(error)
        extra = re.search(r"(\d+) extraneous bytes before marker 0x(..)", message)
        if extra and (extra[2] in _OF_HEADERS or (extra[2] == "d9" and int(extra[1]) <= _HARMLESS)):
            return ""
        if "Premature end" in message or "premature end" in message:
            return _CUT
        if "Corrupt JPEG data" in message or "Inconsistent progression" in message:
            return f"is damaged ({message.removeprefix('Corrupt JPEG data: ')})"
    return _CUT if _is_unfinished(data) else ""


def _is_unfinished(data: bytes) -> bool:
    """Whether a progressive JPEG ends, with an end marker, between the scans that make its picture finer.

    A scan gives some coefficients but for their lowest bits, which later scans add bit by bit: at the end none may
    be missing.
    """
    missing: dict[int, list[int]] = {}  # component: lowest bits still to come, for each coefficient
    at, progressive = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _END:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body, at = data[at + 4 : at + 2 + length], at + 2 + length
        progressive |= kind == _PROGRESSIVE
        if kind == _SCAN and body and len(body) == 2 * body[0] + 4:
            first, last, bits = body[-3:]
            for component in body[1:-3:2]:
                missing.setdefault(component, [0] * 64)[first : last + 1] = [bits & 15] * (last + 1 - first)
            following = _MARKER.search(data, at)
            at = following.start() if following else len(data)
    return progressive and any(map(any, missing.values()))


def _webp(data: bytes) -> str:
    """Zeros in place of compressed data."""
    at = len(b"RIFF....WEBP")
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name in (b"VP8 ", b"VP8L", b"ANMF") and _NEVER in data[at + 8 : at + 8 + length]:
            return "is cut short and filled up with zeros"
        at += 8 + length + length % 2
    return ""


def _png(data: bytes) -> str:
    """Checksums of the image data, which Pillow does not compare."""
    at = len(b"\x89PNG\r\n\x1a\n")
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if name == b"IDAT" and data[end : end + 4] != struct.pack(">I", zlib.crc32(data[at + 4 : end])):
            return "is damaged: its image data do not fit their checksum"
        at = end + 4
    return ""
