"""One split of a product decoded to the working size, through the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from continuad.core.types import ImageSet
from continuad.data.cache import Cache, Writer
from continuad.data.decode import RULES, in_threads, to_array, white_bits
from continuad.data.examine import Facts, examine
from continuad.data.machine import refuse_exhausted
from continuad.data.product import GOOD, Item

Size = tuple[int, int]


@dataclass(frozen=True)
class Split:
    """What came out of reading the files of a split.

    Attributes:
        key: says which content at which size this is.
        images: everything that could be read.
        bits: the white level it was decoded with.
        facts: what was found out about each item, those that cannot be read too.
    """

    key: str
    images: ImageSet
    bits: int
    facts: tuple[Facts, ...]


def read_split(
    items: Sequence[Item], size: Size, bits: int | None, store: Cache, count: Callable[[int], None], max_pixels: int
) -> Split:
    """Decode a split, or find it decoded.

    Args:
        size: (height, width) of the result.
        bits: white level of pictures above 8 bits; None finds it from these images, the training ones.
        count: called with a number of images just finished.
        max_pixels: pictures with more are not read.
    """
    files = [path for item in items for path in (item.path, item.mask)]
    key = content_key([RULES, PIL.__version__, size, bits, max_pixels, list(in_threads(_digest, files))])
    masked = any(item.mask for item in items)
    done = 0

    def build(writer: Writer) -> dict[str, Any]:
        nonlocal done
        white = white_bits((item.path for item in items), max_pixels) if bits is None else bits
        rows = []
        for facts, image, mask in in_threads(lambda item: _decode(item, size, white, max_pixels), items):
            rows.append(asdict(facts))
            if image is not None:
                writer.add("images", image)
                if masked:
                    writer.add("masks", mask if mask is not None else np.zeros(size, bool))
            done += 1
            count(1)
        return {"bits": white, "rows": rows}

    entry = store.get(key, build)
    count(max(0, len(items) - done))
    facts = tuple(Facts(**row) for row in entry.facts["rows"])
    return Split(key, _image_set(items, facts, size, entry.arrays), entry.facts["bits"], facts)


def rows_of(images: ImageSet, key: str, at: Sequence[int], store: Cache) -> ImageSet:
    """Some images of a split of good images, memory-mapped too if the cache is in use."""

    def build(writer: Writer) -> dict[str, Any]:
        for i in at:
            writer.add("images", images.images[i])
        return {}

    pixels = store.get(content_key([key, list(at)]), build).arrays["images"]
    return _good_images(pixels, tuple(images.paths[i] for i in at), tuple(images.sizes[i] for i in at))


def content_key(parts: list[Any]) -> str:
    """A name for content: digests, sizes, versions; a file name on every system."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()


def _digest(path: Path | None) -> str:
    """Of the file's bytes; empty where there is no file or it cannot be opened (decoding will say so)."""
    try:
        if path is None or not path.is_file():  # reading a pipe would wait for ever
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    except OSError as error:
        refuse_exhausted(error, path)
        return ""


def _decode(item: Item, size: Size, bits: int, max_pixels: int) -> tuple[Facts, np.ndarray | None, np.ndarray | None]:
    """Facts, image (3, H, W) and mask (H, W) of one item, None for what could not be read."""
    facts, picture, mask = examine(item, size, bits, max_pixels)
    return facts, to_array(picture.rgb, size) if picture else None, mask


def _image_set(items: Sequence[Item], facts: Sequence[Facts], size: Size, arrays: dict[str, np.ndarray]) -> ImageSet:
    """The readable items with their truth. A mask without a defective pixel says nothing about the place."""
    read = [(item, found) for item, found in zip(items, facts, strict=True) if not found.error]
    n = len(read)
    labels = np.array([item.defect != GOOD for item, _ in read], dtype=bool)
    return ImageSet(
        arrays["images"] if n else np.empty((0, 3, *size), np.uint8),
        labels,
        arrays["masks"] if "masks" in arrays else _no_masks(n, size),
        ~labels | np.array([found.mask == "known" for _, found in read], dtype=bool),
        tuple(item.defect for item, _ in read),
        tuple(item.path for item, _ in read),
        tuple((found.size[0], found.size[1]) for _, found in read),
    )


def _good_images(pixels: np.ndarray, paths: tuple[Path, ...], sizes: tuple[Size, ...]) -> ImageSet:
    n, size = len(pixels), (pixels.shape[2], pixels.shape[3])
    no = np.zeros(n, dtype=bool)
    return ImageSet(pixels, no, _no_masks(n, size), ~no, (GOOD,) * n, paths, sizes)


def _no_masks(n: int, size: Size) -> np.ndarray:
    """(n, H, W), False everywhere, of no size in memory."""
    return np.broadcast_to(np.zeros((1, 1, 1), dtype=bool), (n, *size))
