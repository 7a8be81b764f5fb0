"""Pictures of any origin, decoded once as they are: files, Pillow's images, arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from continuad.data.decode import MAX_PIXELS, read_picture
from continuad.data.product import images_in
from continuad.errors import ContinuadError

Pictures = str | Path | Image.Image | np.ndarray
AS_ARRAY = "give (H, W, 3) or (H, W) uint8"


@dataclass(frozen=True)
class Shot:
    """One picture to inspect.

    Attributes:
        name: the file's path, or "picture 0" for what came without one.
        rgb: at its own size.
        content: a hash of its pixels, 32 hexadecimal digits.
    """

    name: str
    rgb: Image.Image
    content: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.rgb.height, self.rgb.width


def each(pictures: Pictures | Iterable[Pictures]) -> Iterator[Pictures]:
    """Single pictures, one or many; a folder stands for the images in it and below it.

    Raises:
        ContinuadError: a folder without images.
    """
    several = [pictures] if isinstance(pictures, str | Path | Image.Image | np.ndarray) else pictures
    for one in several:
        if isinstance(one, str | Path) and Path(one).is_dir():
            found = images_in(Path(one))
            if not found:
                raise ContinuadError(f"{one}: no images in this folder or below it")
            yield from found
        else:
            yield one


def shot(picture: Pictures, number: int, bits: int, max_pixels: int = MAX_PIXELS) -> Shot:
    """Decode a picture.

    Args:
        number: what a picture without a path is called by.
        bits: white level of files above 8 bits.

    Raises:
        ContinuadError: it cannot be read, or an array is no picture.
    """
    if isinstance(picture, np.ndarray):
        rgb = _of_array(picture)
    elif isinstance(picture, Image.Image):
        rgb = picture.convert("RGB")
    else:
        rgb = read_picture(Path(picture), bits, max_pixels).rgb
    name = str(picture) if isinstance(picture, str | Path) else f"picture {number}"
    return Shot(name, rgb, content_of(rgb))


def content_of(rgb: Image.Image) -> str:
    """The same for pictures of the same size and pixels alone."""
    digest = hashlib.blake2b(f"{rgb.size}".encode(), digest_size=16)
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def _of_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ContinuadError(f"an array of shape {array.shape} and type {array.dtype} is no picture; {AS_ARRAY}")
    if not array.size:
        raise ContinuadError(f"an array of shape {array.shape} holds no pixel; {AS_ARRAY}")
    return Image.fromarray(array).convert("RGB")
