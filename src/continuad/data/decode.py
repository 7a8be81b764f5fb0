"""One way from a file to pixels, for learning, testing and prediction alike.

Rules (`RULES` counts their changes, so that nothing decoded by older ones is found in the cache):

- **Orientation** in EXIF is applied, to masks too. Colour profiles are ignored, but values that are Lab or the like by
  their profile are refused. Lab TIFFs are converted to sRGB.
- **Grey** is repeated in three channels. **Palette**, CMYK, YCbCr and black-and-white are converted to RGB.
- **Transparent** pixels (RGBA, LA, a transparent palette colour) are laid over mid-grey, 128. What lies
  under a transparent pixel is arbitrary, so something must replace it; mid-grey is no value a camera clips
  to, makes at most half the contrast against the part's edge that black or white could, and is near zero
  once normalised. A picture without any other pixel is refused.
- **Above 8 bits**, grey and colour alike are scaled by one white level for all images of a product: the largest value
  of the smallest of 8, 10, 12, 14 or 16 bits that holds every training image (`white_bits`). A 12-bit camera's
  images then come out as its 8-bit images would. Later, brighter pixels become white, with a warning. A
  scale of each image's own would hide a change of exposure. TIFFs that count from white are turned round.
- **Floating-point** images, integers outside 0 to 65,535, signed bytes, and TIFFs with colour above 8 bits in separate
  planes are refused: nothing says what white is, or they cannot be read.
- **Animations and stacks**: the first picture; `Picture.pages` says how many there are.
- **Damage**: what a decoder reports, JPEGs whose data end before the picture does, WebPs filled up with zeros.
- **Size**: straight to (height, width), bilinear with antialiasing; the aspect ratio is not kept.
- **Masks**: any value above the background is defect, unless the mask holds two values up to noise (saved as JPEG,
  smoothed): then values above half of the largest are. In colour, a pixel's largest channel counts; transparent ones
  are black. Nearest neighbour to the working size; a region that this loses, breaks or shortens is drawn where it
  covers at least 1/2, 1/4, 1/8 or 1/16 of a pixel, the largest share that leaves it whole, and counted as dropped
  where it covers less. `continuad.data.masks` has the details.
- More than `MAX_PIXELS` pixels are refused before they are decoded, unless the caller allows more.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from continuad.data.intact import damage
from continuad.data.machine import refuse_exhausted
from continuad.data.masks import Reading, defective, shrink
from continuad.data.names import printable
from continuad.data.wide import Unusable, inverts, is_wide, level, read_wide, refusal
from continuad.errors import ContinuadError

RULES = 2
MAX_PIXELS = 100_000_000
BACKDROP = (128, 128, 128)
_LARGE = 1 << 26  # bytes: files beyond are asked for their size in pixels before they are read whole
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
_opening = threading.Lock()
Source = str | Path | bytes
A = TypeVar("A")
B = TypeVar("B")


class UnreadableImage(ContinuadError):
    """A file that is no usable picture.

    Attributes:
        source: the file, or "image" for bytes; printable.
        reason: what is wrong with it, a clause without the name.
    """

    def __init__(self, source: Source, reason: str) -> None:
        self.source = _name(source)
        self.reason = printable(reason)
        super().__init__(f"{self.source}: {self.reason}")


@dataclass(frozen=True)
class Picture:
    """A decoded picture at its own size.

    Attributes:
        rgb: mode RGB, upright.
        mode: Pillow's name of the mode it was stored in ("L", "RGB", "P", "I;16" ...), "RGB;16" and the like for
            colour above 8 bits.
        clipped: pixels above the white level became white.
        pages: how many pictures the file holds; the first is used.
        band: the largest share of rows, next to each other, that are all of one and the same colour.
        drawn: it is a plot that Matplotlib saved.
        wide: it has more than 8 bits, so that its values depend on a white level.
    """

    rgb: Image.Image
    mode: str
    clipped: bool
    pages: int = 1
    band: float = 0.0
    drawn: bool = False
    wide: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.rgb.height, self.rgb.width


def decode_image(
    source: Source, size: tuple[int, int] | None = None, *, bits: int = 16, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """A picture as (3, H, W) uint8.

    Args:
        source: a file, or its bytes.
        size: (height, width) to scale to; None keeps the picture's own.
        bits: white level for pictures above 8 bits; `white_bits` of the training images.
        max_pixels: pictures with more are refused.

    Raises:
        UnreadableImage: see the rules of this module.
    """
    picture = read_picture(source, bits, max_pixels)
    if picture.clipped:
        _log.warning("%s: beyond the white level %d of the training images; clipped.", _name(source), 2**bits - 1)
    return to_array(picture.rgb, size)


def decode_mask(source: Source, size: tuple[int, int] | None = None, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A mask as (H, W) bool, True where defective.

    Raises:
        UnreadableImage: see the rules of this module.
    """
    mask = read_mask(source, max_pixels).mask
    return mask if size is None else shrink(mask, size).mask


def read_picture(source: Source, bits: int = 16, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode at the picture's own size; see `decode_image`."""
    image, data = _open(source, max_pixels)
    mode, clipped = image.mode, False
    try:
        if is_wide(image):
            wide = read_wide(image, _identified(data), data)
            if wide.brightest() < 0:
                raise UnreadableImage(source, "has no visible pixel: every one is transparent")
            rgb, clipped = wide.to_rgb(bits, BACKDROP)
            mode = wide.name
        else:
            image.load()
            rgb = _rgb(image)
            if _alpha_of(image) == 0:
                raise UnreadableImage(source, "has no visible pixel: every one is transparent")
        drawn = str(image.info.get("Software", "")).startswith("Matplotlib")
        return Picture(_upright(rgb, image), mode, clipped, _pages(image, data), even_band(rgb), drawn, is_wide(image))
    except Unusable as error:
        raise UnreadableImage(source, f"cannot be used: {error}") from error
    except UnreadableImage:
        raise
    except Exception as error:  # damaged data can make a decoder raise anything
        refuse_exhausted(error, _name(source))
        raise UnreadableImage(source, f"is damaged ({error})") from error


def read_mask(source: Source, max_pixels: int = MAX_PIXELS) -> Reading:
    """A mask at its own size; see `decode_mask`."""
    image, data = _open(source, max_pixels, is_mask=True)
    try:
        reading = defective(_grey_values(image, data))
        turned = _upright(Image.fromarray(reading.mask.astype(np.uint8)), image)
    except Exception as error:  # as above
        refuse_exhausted(error, _name(source))
        raise UnreadableImage(source, f"is damaged ({error})") from error
    return Reading(np.asarray(turned) > 0, reading.noisy, reading.background)


def to_array(rgb: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    """An RGB picture as (3, H, W) uint8 at (height, width)."""
    if size is not None and (rgb.height, rgb.width) != size:
        rgb = rgb.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1))


def white_bits(sources: Iterable[Source], max_pixels: int = MAX_PIXELS) -> int:
    """White level of a product's training images: 8, 10, 12, 14 or 16 bits; 16 if none is above 8 bits.

    Files that cannot be read are left to whoever decodes them.
    """
    return level(max(in_threads(lambda source: _brightest(source, max_pixels), sources), default=-1))


def even_band(rgb: Image.Image) -> float:
    """The largest share of rows, next to each other, that are all of one and the same colour; 0 to 1."""
    pixels = np.asarray(rgb)
    even = np.flatnonzero((pixels[:, :: max(1, pixels.shape[1] // 8)] == pixels[:, :1]).all(axis=(1, 2)))
    even = even[(pixels[even] == pixels[even, :1]).all(axis=(1, 2))]
    if not len(even):
        return 0.0
    goes_on = (np.diff(even) == 1) & (pixels[even[1:], 0] == pixels[even[:-1], 0]).all(axis=1)
    ends = np.flatnonzero(np.concatenate([~goes_on, [True]]))
    return float(np.diff(ends, prepend=-1).max() / len(pixels))


def in_threads(function: Callable[[A], B], things: Iterable[A]) -> Iterator[B]:
    """`map` in threads (Pillow works in parallel), in order, with few results waiting at any time."""
    workers = min(8, os.cpu_count() or 1)
    rest = iter(things)
    with ThreadPoolExecutor(workers) as pool:
        while some := list(islice(rest, 8 * workers)):
            yield from pool.map(function, some)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Within, Pillow's own warnings about damaged files are not shown: they name no file, and continuad does."""
    log = logging.getLogger("PIL")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        log.setLevel(before)


def _brightest(source: Source, max_pixels: int) -> int:
    """The largest value of a picture above 8 bits, -1 for any other."""
    try:
        if not isinstance(source, bytes):
            if not os.path.isfile(source):
                return -1
            with open(source, "rb") as file:
                if not is_wide(_identified(file)):
                    return -1
        image, data = _open(source, max_pixels)
        return read_wide(image, _identified(data), data).brightest() if is_wide(image) else -1
    except Exception as error:  # as in `read_picture`
        refuse_exhausted(error, _name(source))
        return -1


def _name(source: Source) -> str:
    return "image" if isinstance(source, bytes) else printable(source)


def _open(source: Source, max_pixels: int, is_mask: bool = False) -> tuple[Image.Image, bytes]:
    """A picture whose header was read, and the file's bytes; refuses what the header and `damage` give away."""
    data = source if isinstance(source, bytes) else _bytes(source, max_pixels)
    if not data:
        raise UnreadableImage(source, "is empty (0 bytes)")
    try:
        image = _identified(data)
    except UnidentifiedImageError as error:
        raise UnreadableImage(source, _not_identified(data)) from error
    except Exception as error:  # a damaged header can make a decoder raise anything
        raise UnreadableImage(source, f"is damaged ({error})") from error
    _refuse_large(source, image, max_pixels)
    reason = damage(data, image.format or "")
    if not (is_mask and image.mode == "F"):  # a mask's largest value is its white
        reason = reason or refusal(image)
    if reason:
        raise UnreadableImage(source, reason)
    return image, data


def _bytes(path: str | Path, max_pixels: int) -> bytes:
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise UnreadableImage(path, "is not a file but a folder, pipe, socket or device")
        if about.st_size > _LARGE:
            with open(path, "rb") as file:
                _refuse_large(path, _identified(file), max_pixels)
        return Path(path).read_bytes()
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, "is not an image, or of a format that cannot be read") from error
    except (OSError, SyntaxError, ValueError) as error:
        refuse_exhausted(error, path)
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImage(path, f"cannot be opened ({reason})") from error


def _identified(file: bytes | IO[bytes]) -> Image.Image:
    """The header of a picture, without Pillow's own limit on pixels: the caller's may be higher."""
    with _opening:
        own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
        finally:
            Image.MAX_IMAGE_PIXELS = own


def _not_identified(data: bytes) -> str:
    for name, starts in (("TIFF", (b"II*\0", b"MM\0*")), ("PNG", (b"\x89PNG",)), ("JPEG", (b"\xff\xd8",))):
        if data.startswith(starts):
            return f"is a damaged {name}, or one of a kind that cannot be read; save it as 8- or 16-bit PNG"
    return "is not an image, or of a format that cannot be read"


def _refuse_large(source: Source, image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UnreadableImage(
            source,
            f"has too many pixels: {image.width} x {image.height}; at most {max_pixels:,} are read. Allow more with "
            "the option max_pixels, cut it into tiles, or scale it down",
        )


def _pages(image: Image.Image, data: bytes) -> int:
    """How many pictures a file holds; counted on a second look, since counting moves through the file."""
    if image.format not in ("TIFF", "GIF", "WEBP", "PNG", "MPO"):
        return 1
    try:
        return int(getattr(_identified(data), "n_frames", 1))
    except Exception:  # the first picture is fine, whatever comes after it
        return 1


def _upright(picture: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the orientation of the file it came from; EXIF data that cannot be read count as none."""
    try:
        turn = _TURNS.get(original.getexif().get(_ORIENTATION, 1))
    except Exception:  # any nonsense may stand there, and the pixels are fine
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _with_alpha(image: Image.Image) -> Image.Image:
    return image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")


def _alpha_of(image: Image.Image) -> int:
    """The largest alpha, 0 to 255."""
    return int(np.asarray(_with_alpha(image).getchannel("A")).max()) if _has_alpha(image) else 255


def _rgb(image: Image.Image, backdrop: tuple[int, int, int] = BACKDROP) -> Image.Image:
    """Up to 8 bits a channel to RGB, transparent pixels over the backdrop."""
    if _has_alpha(image):
        clear = _with_alpha(image)
        return Image.alpha_composite(Image.new("RGBA", clear.size, (*backdrop, 255)), clear).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # no copy: pictures can be large


def _grey_values(image: Image.Image, data: bytes) -> np.ndarray:
    """A mask's (H, W) values, 0 or above: of a colour picture the largest channel over black."""
    if image.mode.startswith("I"):
        values = np.abs(np.asarray(image).astype(np.int64))
        return (values.max() or 1) - values if inverts(image) else values
    if is_wide(image):
        wide = read_wide(image, _identified(data), data)
        values = wide.values.max(axis=2)
        return values if wide.alpha is None else values * (wide.alpha > 0)
    if image.mode == "F":
        floats = np.nan_to_num(np.asarray(image)).clip(0, None)
        return floats * 255 if floats.max() <= 1 else floats  # shares are meant for the same heights
    if image.mode in ("1", "L") and not _has_alpha(image):
        return np.asarray(image).astype(np.uint8)
    return np.asarray(_rgb(image, backdrop=(0, 0, 0))).max(axis=2)
