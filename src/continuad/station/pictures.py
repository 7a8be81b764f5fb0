"""Pictures of any origin, decoded as they are: files, Pillow's images, arrays."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from continuad.data.decode import MAX_PIXELS, UnreadableImage, read_picture
from continuad.data.product import images_in
from continuad.errors import ContinuadError

Pictures = str | Path | Image.Image | np.ndarray
Unreadable = Callable[[UnreadableImage], object]
AS_ARRAY = "give (H, W, 3) or (H, W) uint8"
AHEAD = 4  # pictures that are decoded while others are judged


@dataclass(frozen=True)
class Shot:
    """One picture to inspect.

    Attributes:
        name: the file's path, or "picture 0" for what came without one.
        by_bits: it at its own size, by the white level it was decoded with; of a picture up to 8 bits one and the same.
        content: a hash of its pixels, 32 hexadecimal digits.
        seconds: that reading it took.
    """

    name: str
    by_bits: Mapping[int, Image.Image]
    content: str
    seconds: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        rgb = next(iter(self.by_bits.values()))
        return rgb.height, rgb.width


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


def shots(
    pictures: Pictures | Iterable[Pictures],
    bits: Collection[int],
    max_pixels: int = MAX_PIXELS,
    unreadable: Unreadable | None = None,
) -> Iterator[Shot]:
    """Decode pictures in their order, a few ahead of the one that is asked for.

    Args:
        bits: white levels to decode files above 8 bits with.
        unreadable: called with the reason in the place of a picture that cannot be read; None: it is raised.

    Raises:
        ContinuadError: an array is no picture, or a folder holds none.
    """
    waiting: deque[Future[Shot]] = deque()
    numbered = enumerate(each(pictures))
    with ThreadPoolExecutor(2) as pool:
        while True:
            while len(waiting) < AHEAD and (item := next(numbered, None)) is not None:
                waiting.append(pool.submit(shot, item[1], item[0], bits, max_pixels))
            if not waiting:
                return
            try:
                found = waiting.popleft().result()
            except UnreadableImage as error:
                if unreadable is None:
                    raise
                unreadable(error)
                continue
            yield found


def shot(picture: Pictures, number: int, bits: Collection[int], max_pixels: int = MAX_PIXELS) -> Shot:
    """Decode a picture.

    Args:
        number: what a picture without a path is called by.
        bits: white levels to decode files above 8 bits with; at least one.

    Raises:
        ContinuadError: it cannot be read, or an array is no picture.
    """
    began = perf_counter()
    if isinstance(picture, np.ndarray):
        by_bits = dict.fromkeys(bits, _of_array(picture))
    elif isinstance(picture, Image.Image):
        by_bits = dict.fromkeys(bits, _of_pillow(picture))
    else:
        by_bits = _of_file(Path(picture), bits, max_pixels)
    name = str(picture) if isinstance(picture, str | Path) else f"picture {number}"
    return Shot(name, by_bits, content_of(by_bits[max(by_bits)]), perf_counter() - began)


def content_of(rgb: Image.Image) -> str:
    """The same for pictures of the same size and pixels alone."""
    digest = hashlib.blake2b(f"{rgb.size}".encode(), digest_size=16)
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def _of_file(path: Path, bits: Collection[int], max_pixels: int) -> dict[int, Image.Image]:
    first, *others = bits
    found = read_picture(path, first, max_pixels)
    again = (read_picture(path, other, max_pixels) if found.wide else found for other in others)
    return {first: found.rgb} | {level: picture.rgb for level, picture in zip(others, again, strict=True)}


def _of_pillow(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        raise ContinuadError(f"a picture of mode {picture.mode} has no known white level; give its file, or 8 bits")
    return picture.convert("RGB")


def _of_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ContinuadError(f"an array of shape {array.shape} and type {array.dtype} is no picture; {AS_ARRAY}")
    if not array.size:
        raise ContinuadError(f"an array of shape {array.shape} holds no pixel; {AS_ARRAY}")
    return Image.fromarray(array).convert("RGB")
