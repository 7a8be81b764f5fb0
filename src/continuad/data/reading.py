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
from continuad.data.decode import (
    RULES,
    UnreadableImage,
    in_threads,
    read_mask,
    read_picture,
    resize_mask,
    to_array,
    white_bits,
)
from continuad.data.product import GOOD, Item, counted, listed

Size = tuple[int, int]


@dataclass(frozen=True)
class Split:
    """What came out of reading the files of a split.

    Attributes:
        key: says which content at which size this is.
        images: everything that could be read.
        bits: the white level it was decoded with.
        unreadable: a sentence for each image that could not be read.
        wrong: a sentence for each mask that does not fit its image.
        notes: what else is worth telling.
    """

    key: str
    images: ImageSet
    bits: int
    unreadable: list[str]
    wrong: list[str]
    notes: list[str]


@dataclass(frozen=True)
class _Row:
    """What was found out about one item; kept in the cache, so no paths here."""

    size: tuple[int, ...] = (0, 0)
    error: str = ""  # the image cannot be read
    clipped: bool = False
    mask: str = "none"  # "known"; or why it says nothing: "empty", "lost" in scaling, "unreadable", "misfit"
    mask_detail: str = ""


def read_split(items: Sequence[Item], size: Size, bits: int | None, store: Cache, told: Callable[[int], None]) -> Split:
    """Decode a split, or find it decoded.

    Args:
        size: (height, width) of the result.
        bits: white level for grey above 8 bits; None finds it from these images, the training ones.
        told: called with a number of images just finished.
    """
    files = [path for item in items for path in (item.path, item.mask)]
    key = content_key([RULES, PIL.__version__, size, bits, list(in_threads(_digest, files))])
    masked = any(item.mask for item in items)
    done = 0

    def build(writer: Writer) -> dict[str, Any]:
        nonlocal done
        white = white_bits(item.path for item in items) if bits is None else bits
        rows = []
        for row, image, mask in in_threads(lambda item: _decode(item, size, white), items):
            rows.append(asdict(row))
            if image is not None:
                writer.add("images", image)
                if masked:
                    writer.add("masks", mask if mask is not None else np.zeros(size, bool))
            done += 1
            told(1)
        return {"bits": white, "rows": rows}

    entry = store.get(key, build)
    told(max(0, len(items) - done))
    rows = [_Row(**row) for row in entry.facts["rows"]]
    return Split(key, _image_set(items, rows, size, entry.arrays), entry.facts["bits"], *_sentences(items, rows, size))


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
        return hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest() if path else ""
    except OSError:
        return ""


def _decode(item: Item, size: Size, bits: int) -> tuple[_Row, np.ndarray | None, np.ndarray | None]:
    """Facts, image (3, H, W) and mask (H, W) of one item, None for what could not be read."""
    try:
        picture = read_picture(item.path, bits)
    except UnreadableImage as error:
        return _Row(error=error.reason), None, None
    image = to_array(picture.rgb, size)
    if item.mask is None:
        return _Row(picture.size, clipped=picture.clipped), image, None
    state, detail, mask = _decode_mask(item.mask, picture.size, size)
    return _Row(picture.size, "", picture.clipped, state, detail), image, mask


def _decode_mask(path: Path, original: Size, size: Size) -> tuple[str, str, np.ndarray | None]:
    """State, detail and mask; see `_Row`."""
    try:
        full = read_mask(path)
    except UnreadableImage as error:
        return "unreadable", error.reason, None
    if full.shape != original:
        sizes = f"{full.shape[1]} x {full.shape[0]}, the image {original[1]} x {original[0]}"
        return "misfit", sizes, None
    mask = resize_mask(full, size)
    state = "known" if mask.any() else "lost" if full.any() else "empty"
    return state, "", mask


def _image_set(items: Sequence[Item], rows: Sequence[_Row], size: Size, arrays: dict[str, np.ndarray]) -> ImageSet:
    """The readable items with their truth. A mask without a defective pixel says nothing about the place."""
    read = [(item, row) for item, row in zip(items, rows, strict=True) if not row.error]
    n = len(read)
    labels = np.array([item.defect != GOOD for item, _ in read], dtype=bool)
    return ImageSet(
        arrays["images"] if n else np.empty((0, 3, *size), np.uint8),
        labels,
        arrays["masks"] if "masks" in arrays else _no_masks(n, size),
        ~labels | np.array([row.mask == "known" for _, row in read], dtype=bool),
        tuple(item.defect for item, _ in read),
        tuple(item.path for item, _ in read),
        tuple((row.size[0], row.size[1]) for _, row in read),
    )


def _good_images(pixels: np.ndarray, paths: tuple[Path, ...], sizes: tuple[Size, ...]) -> ImageSet:
    n, size = len(pixels), (pixels.shape[2], pixels.shape[3])
    no = np.zeros(n, dtype=bool)
    return ImageSet(pixels, no, _no_masks(n, size), ~no, (GOOD,) * n, paths, sizes)


def _no_masks(n: int, size: Size) -> np.ndarray:
    """(n, H, W), False everywhere, of no size in memory."""
    return np.broadcast_to(np.zeros((1, 1, 1), dtype=bool), (n, *size))


def _sentences(items: Sequence[Item], rows: Sequence[_Row], size: Size) -> tuple[list[str], list[str], list[str]]:
    """Unreadable images, misfitting masks, and notes."""
    both = list(zip(items, rows, strict=True))
    unreadable = [f"{item.path}: {row.error}" for item, row in both if row.error]
    wrong = [f"{i.mask}: this mask is {r.mask_detail} ({i.path})" for i, r in both if r.mask == "misfit"]
    notes = [
        f"mask {i.mask} {r.mask_detail}; pixel metrics leave its image out." for i, r in both if r.mask == "unreadable"
    ]
    small = f"{size[1]} x {size[0]}"
    for state, what in (
        ("empty", "empty masks of defect images"),
        ("lost", f"masks with no defective pixel left at {small}"),
    ):
        if masks := [f"{i.defect}/{i.mask.name}" for i, r in both if r.mask == state and i.mask]:
            notes.append(f"{what} ({len(masks)}): {listed(masks)}; pixel metrics leave these images out.")
    if clipped := [item.path.name for item, row in both if row.clipped]:
        notes.append(f"{counted(len(clipped), 'image')} brighter than all training images, clipped: {listed(clipped)}.")
    return unreadable, wrong, notes
