"""Pictures above 8 bits a channel: their whole values, and one white level to scale them by.

Pillow has no colour above 8 bits and keeps the high byte of each value. It can read a file in either byte order,
though, so the file is read a second time with the bytes swapped, which gives the low bytes.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

BITS = (8, 10, 12, 14, 16)
_TOP = 2**16 - 1
_WHITE_IS_ZERO = 0
_PHOTOMETRIC, _BITS_PER_SAMPLE, _PLANAR, _SAMPLE_FORMAT = 262, 258, 284, 339
_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


class Unusable(ValueError):
    """Values that nothing says how to turn into 8 bits."""


@dataclass(frozen=True)
class Wide:
    """Values above 8 bits, upright or not as the file holds them.

    Attributes:
        values: (H, W, C) uint16; C is 1 for grey, 3 for RGB, 4 for CMYK.
        alpha: (H, W) float32 from 0 (transparent) to 1, or None.
        white_is_zero: the values count from white down to black.
        name: what to call its mode, such as "RGB;16".
    """

    values: np.ndarray
    alpha: np.ndarray | None
    white_is_zero: bool
    name: str

    def brightest(self) -> int:
        """The largest value that can be seen; -1 if none can."""
        seen = self.values if self.alpha is None else self.values[self.alpha > 0]
        return int(seen.max()) if seen.size else -1

    def to_rgb(self, bits: int, backdrop: tuple[int, int, int]) -> tuple[Image.Image, bool]:
        """As RGB with 8 bits by a fixed white level; True if something was beyond it."""
        white = 2**bits - 1
        table = np.rint(np.minimum(np.arange(_TOP + 1), white) * (255.0 / white)).astype(np.uint8)
        scaled = (255 - table if self.white_is_zero else table)[self.values]
        bands = [Image.fromarray(np.ascontiguousarray(scaled[..., i])) for i in range(scaled.shape[2])]
        mode = {1: "L", 3: "RGB", 4: "CMYK"}[len(bands)]
        rgb = Image.merge(mode, bands).convert("RGB")
        if self.alpha is not None:
            share = self.alpha[..., None]
            mixed = np.asarray(rgb) * share + np.array(backdrop, dtype=np.float32) * (1 - share)
            rgb = Image.fromarray(np.rint(mixed).astype(np.uint8))
        return rgb, self.brightest() > white


def level(brightest: int) -> int:
    """The smallest of 8, 10, 12, 14 and 16 bits that holds a value from 0 to 65,535."""
    return next((bits for bits in BITS if 0 <= brightest < 2**bits), 16)


def is_above_8_bits(mode: str) -> bool:
    """Whether a mode's name, as in `Wide.name`, is one of more than 8 bits."""
    return mode.startswith("I") or ";16" in mode


def is_wide(image: Image.Image) -> bool:
    """Whether an opened picture, not yet loaded, has integers above 8 bits."""
    return image.mode.startswith("I") or _is_pnm(image) or any(";16" in mode for mode in _raw_modes(image))


def inverts(image: Image.Image) -> bool:
    """Whether an opened picture above 8 bits counts from white down to black."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def refusal(image: Image.Image) -> str:
    """Why an opened picture's values cannot be trusted to mean what Pillow takes them for; empty if they can."""
    if image.mode == "F":
        return "holds floating-point values, and nothing says what white is; save as 16-bit"
    profile = image.info.get("icc_profile") or b""
    space = profile[16:20].strip().decode("ascii", "replace") if isinstance(profile, bytes) else ""
    if image.mode in ("RGB", "RGBA") and space in ("Lab", "XYZ", "Luv", "YCbr", "Yxy", "HSV", "HLS", "CMY"):
        return f"holds {space} values by its colour profile, not RGB; convert it to RGB"
    tags = getattr(image, "tag_v2", None)
    if not tags:
        return ""
    bits = tags.get(_BITS_PER_SAMPLE, (1,))
    if 2 in tags.get(_SAMPLE_FORMAT, ()) and max(bits) == 8:
        return "holds signed values, and nothing says what black is; save it as unsigned 8-bit"
    planes = tags.get(_PLANAR, 1) == 2 and len(bits) > 1
    if planes and (max(bits) > 8 or image.mode not in ("RGB", "RGBA", "CMYK")):
        return f"stores {image.mode} with {max(bits)} bits in separate planes, which cannot be read; save it as PNG"
    return ""


def read_wide(image: Image.Image, again: Image.Image, data: bytes) -> Wide:
    """The values of a picture for which `is_wide` says True and `refusal` nothing.

    Args:
        image, again: the same file opened twice, not yet loaded.
        data: its bytes.

    Raises:
        Unusable: values outside 0 to 65,535; too few values.
    """
    clear = image.info.get("transparency")
    if _is_pnm(image):
        return Wide(_pnm(image, data), None, False, "RGB;16" if image.mode == "RGB" else image.mode)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > _TOP:
            raise Unusable(f"its grey values, {values.min()} to {values.max()}, leave 0 to {_TOP}; save it as 16-bit")
        alpha = (values != clear).astype(np.float32) if isinstance(clear, int) else None
        name = f"{image.mode}, white is zero" if inverts(image) else image.mode
        return Wide(values.astype(np.uint16)[..., None], alpha, inverts(image), name)
    raw = _raw_modes(image)[0]
    if raw.startswith("LA"):  # four bytes a pixel, which are read as four bands
        _read_as(image, lambda _: "RGBA")
        both = np.asarray(image).astype(np.uint16)
        return Wide(*_without_alpha(both[..., 0::2] << 8 | both[..., 1::2], premultiplied=False), False, "LA;16")
    _read_as(image, lambda raw: raw.replace("RGBa", "RGBA"))
    _read_as(again, lambda raw: raw.replace("RGBa", "RGBA")[:-4] + _SWAPPED[raw[-4:]])
    values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(again)
    name = f"{image.mode};16"
    if image.mode == "RGBA":
        return Wide(*_without_alpha(values, raw.startswith("RGBa")), False, name)
    alpha = (values != np.array(clear)).any(axis=2).astype(np.float32) if isinstance(clear, tuple) else None
    return Wide(values, alpha, False, name)


def _without_alpha(values: np.ndarray, premultiplied: bool) -> tuple[np.ndarray, np.ndarray]:
    """Colour, and alpha from 0 to 1 by a white level of its own."""
    alpha = values[..., -1] / np.float32(2 ** level(int(values[..., -1].max())) - 1)
    colour = values[..., :-1]
    if premultiplied:
        colour = np.minimum(np.rint(colour / np.maximum(alpha, 1 / _TOP)[..., None]), _TOP).astype(np.uint16)
    return colour, alpha


def _raw_modes(image: Image.Image) -> list[str]:
    """Pillow's name of how the values lie in the file, for each part of it."""
    found = []
    for _, _, _, args in getattr(image, "tile", []):
        raw = args if isinstance(args, str) else args[0] if args else ""
        found.append(raw if isinstance(raw, str) else "")
    return found


def _read_as(image: Any, change: Any) -> None:
    """Have the parts of a file that is not yet loaded read in another way."""
    changed = []
    for tile in image.tile:
        args = change(tile[3]) if isinstance(tile[3], str) else (change(tile[3][0]), *tile[3][1:])
        changed.append(tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args))
    image.tile = changed


def _is_pnm(image: Image.Image) -> bool:
    """A PGM or PPM whose largest value is above 255 and which Pillow would scale down, or read slowly."""
    tiles = getattr(image, "tile", [])
    return bool(tiles) and tiles[0][0] in ("ppm", "ppm_plain") and tiles[0][3][1] > 255


def _pnm(image: Any, data: bytes) -> np.ndarray:
    """Values scaled so that the file's own largest value, which is its white, becomes 65,535."""
    codec, _, start, (_, largest) = image.tile[0]
    bands = 3 if image.mode == "RGB" else 1
    number = image.width * image.height * bands
    if codec == "ppm_plain":
        values = np.array(re.sub(rb"#[^\r\n]*", b"", data[start:]).split()[:number]).astype(np.int64)
    else:
        here = min(number, (len(data) - start) // 2)
        values = np.frombuffer(data, dtype=">u2", count=here, offset=start).astype(np.int64)
    if len(values) < number:
        raise Unusable(f"it ends after {len(values)} of {number} values")
    scaled = np.rint(np.minimum(values, largest) * (float(_TOP) / largest)).astype(np.uint16)
    return scaled.reshape(image.height, image.width, bands)
