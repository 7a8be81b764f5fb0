"""One way from a file to pixels, for learning, testing and prediction alike.

Rules (`RULES` counts their changes, so that nothing decoded by older ones is found in the cache):

- **Orientation** in EXIF is applied, to masks too. Colour profiles are ignored.
- **Grey** is repeated in three channels. **Palette**, CMYK, YCbCr and black-and-white are converted to RGB.
- **Transparent** pixels (RGBA, LA, a transparent palette colour) are laid over mid-grey, 128. What lies
  under a transparent pixel is arbitrary, so something must replace it; mid-grey is no value a camera clips
  to, makes at most half the contrast against the part's edge that black or white could, and is near zero
  once normalised.
- **Grey above 8 bits** is scaled by one white level for all images of a product: the largest value of the
  smallest of 8, 10, 12, 14 or 16 bits that holds every training image (`white_bits`). A 12-bit camera's
  images then come out as its 8-bit images would. Later, brighter pixels become white, with a warning. A
  scale of each image's own would hide a change of exposure. Colour above 8 bits keeps its high byte, as
  Pillow reads it.
- **Floating-point** images, and integers outside 0 to 65,535, are refused: nothing says what white is.
- **Animations and stacks**: the first picture.
- **Size**: straight to (height, width), bilinear with antialiasing; the aspect ratio is not kept.
- **Masks**: any non-zero value is defect; in colour, any pixel that is not black, where transparent ones
  count as black. Nearest neighbour to the working size.
- More than `MAX_PIXELS` pixels are refused before they are decoded.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from continuad.errors import ContinuadError

RULES = 1
MAX_PIXELS = 100_000_000
BACKDROP = (128, 128, 128)
_BITS = (8, 10, 12, 14, 16)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_log = logging.getLogger(__name__)
Source = str | Path | bytes
A = TypeVar("A")
B = TypeVar("B")


class UnreadableImage(ContinuadError):
    """A file that is no usable picture.

    Attributes:
        source: the file, or "image" for bytes.
        reason: what is wrong with it, a clause without the name.
    """

    def __init__(self, source: Source, reason: str) -> None:
        self.source = "image" if isinstance(source, bytes) else str(source)
        self.reason = reason
        super().__init__(f"{self.source}: {reason}")


@dataclass(frozen=True)
class Picture:
    """A decoded picture at its own size.

    Attributes:
        rgb: mode RGB, upright.
        mode: Pillow's name of the mode it was stored in ("L", "RGB", "P", "I;16" ...).
        clipped: pixels above the white level became white.
    """

    rgb: Image.Image
    mode: str
    clipped: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.rgb.height, self.rgb.width


def decode_image(source: Source, size: tuple[int, int] | None = None, *, bits: int = 16) -> np.ndarray:
    """A picture as (3, H, W) uint8.

    Args:
        source: a file, or its bytes.
        size: (height, width) to scale to; None keeps the picture's own.
        bits: white level for grey above 8 bits; `white_bits` of the training images.

    Raises:
        UnreadableImage: see the rules of this module.
    """
    picture = read_picture(source, bits)
    if picture.clipped:
        name = "image" if isinstance(source, bytes) else source
        _log.warning("%s: brighter than the white level %d of the training images; clipped.", name, 2**bits - 1)
    return to_array(picture.rgb, size)


def decode_mask(source: Source, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask as (H, W) bool, True where defective.

    Raises:
        UnreadableImage: see the rules of this module.
    """
    return resize_mask(read_mask(source), size)


def read_picture(source: Source, bits: int = 16) -> Picture:
    """Decode at the picture's own size; see `decode_image`."""
    with _open(source) as image:
        mode = image.mode
        if mode == "F":
            raise UnreadableImage(source, "holds floating-point values, and nothing says what white is; save as 16-bit")
        try:
            rgb, clipped = _wide_grey(image, bits) if mode.startswith("I") else (_rgb(image), False)
            return Picture(_upright(rgb, image), mode, clipped)
        except (ValueError, OSError) as error:
            raise UnreadableImage(source, f"cannot be used: {error}") from error


def read_mask(source: Source) -> np.ndarray:
    """(H, W) bool at the mask's own size; see `decode_mask`."""
    with _open(source) as image:
        if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
            flat = Image.fromarray(((np.asarray(image) != 0) * np.uint8(255)).astype(np.uint8))
        else:
            colours = np.asarray(_rgb(image, backdrop=(0, 0, 0)))
            flat = Image.fromarray((colours.any(axis=2) * np.uint8(255)).astype(np.uint8))
        return np.asarray(_upright(flat, image)) > 0


def to_array(rgb: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """An RGB picture as (3, H, W) uint8 at (height, width)."""
    if size is not None and (rgb.height, rgb.width) != size:
        rgb = rgb.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1))


def resize_mask(mask: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W) bool at (height, width), nearest neighbour."""
    if size is None or mask.shape == size:
        return mask
    flat = Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(flat) > 0


def white_bits(sources: Iterable[Source]) -> int:
    """White level of a product's training images: 8, 10, 12, 14 or 16 bits; 16 if none is grey above 8 bits.

    Files that cannot be read are left to whoever decodes them.
    """
    brightest = max(in_threads(_brightest, sources), default=-1)
    return next((bits for bits in _BITS if 0 <= brightest < 2**bits), 16)


def in_threads(function: Callable[[A], B], things: Iterable[A]) -> Iterator[B]:
    """`map` in threads (Pillow works in parallel), in order, with few results waiting at any time."""
    workers = min(8, os.cpu_count() or 1)
    rest = iter(things)
    with ThreadPoolExecutor(workers) as pool:
        while some := list(islice(rest, 8 * workers)):
            yield from pool.map(function, some)


def _brightest(source: Source) -> int:
    """The largest value of a grey picture above 8 bits, -1 for any other."""
    try:
        header = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(header) as image:  # reads the header only
            wide = image.mode.startswith("I")
        if not wide:
            return -1
        with _open(source) as image:
            return int(np.asarray(image).max())
    except (OSError, ContinuadError, Image.DecompressionBombError):
        return -1


def _open(source: Source) -> Image.Image:
    """The picture's own pixels, loaded; everything that can be wrong with a file ends here."""
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise UnreadableImage(source, f"cannot be opened ({error.strerror})") from error
    if not data:
        raise UnreadableImage(source, "is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise UnreadableImage(source, "is not an image, or of a format that cannot be read") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(source, _too_large("")) from error
    except Exception as error:  # a damaged header can make a decoder raise anything
        raise UnreadableImage(source, f"is damaged ({error})") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(source, _too_large(f": {image.width} x {image.height}"))
    try:
        image.load()
    except Exception as error:  # as above
        raise UnreadableImage(source, f"is damaged ({error})") from error
    return image


def _too_large(size: str) -> str:
    return f"has too many pixels{size}; at most {MAX_PIXELS:,} are read. Cut it into tiles or scale it down"


def _upright(picture: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the orientation of the file it came from; EXIF data that cannot be read count as none."""
    try:
        turn = _TURNS.get(original.getexif().get(_ORIENTATION, 1))
    except Exception:  # any nonsense may stand there, and the pixels are fine
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _rgb(image: Image.Image, backdrop: tuple[int, int, int] = BACKDROP) -> Image.Image:
    """Up to 8 bits a channel to RGB, transparent pixels over the backdrop."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        clear = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, (*backdrop, 255)), clear).convert("RGB")
    return image.convert("RGB")


def _wide_grey(image: Image.Image, bits: int) -> tuple[Image.Image, bool]:
    """Grey above 8 bits to RGB by a fixed white level; True if something was brighter than it."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its grey values, {values.min()} to {values.max()}, leave 0 to 65535; save it as 16-bit")
    white = 2**bits - 1
    scaled = np.rint(np.minimum(values, white) * (255.0 / white)).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB"), bool(values.max() > white)
