"""Folders on disk to a stream of tasks: everything decoded once, and checked before anything is learned."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from continuad.core.types import ImageSet, Task
from continuad.data.cache import Cache, open_cache
from continuad.data.discover import discover_all
from continuad.data.product import Product, child, listed
from continuad.data.reading import Split, read_split, rows_of
from continuad.errors import ContinuadError

Progress = Callable[[str, int, int], None]
_log = logging.getLogger(__name__)
_told: set[str] = set()

STREAMS: dict[str, tuple[str, ...]] = {
    "thesis10": (
        "bottle", "cable", "capsule", "hazelnut", "transistor", "metal_nut", "pill", "screw", "zipper",
        "toothbrush",
    ),
    "mvtec15": (
        "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw",
        "tile", "toothbrush", "transistor", "wood", "zipper",
    ),
    "realset": ("screw", "magnetic_tile", "fabric_03", "hazelnut", "transistor", "pcb", "ballscrew"),
    "visa": (
        "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2",
        "pcb3", "pcb4", "pipe_fryum",
    ),
    "btad": ("01", "02", "03"),
    "mpdd": ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"),
}  # fmt: skip


class Stream(list[Task]):
    """The tasks in order.

    Attributes:
        products: their files, in the same order.
        notes: what a person should know about the data; also logged as warnings, each once.
        bits: white level of each task's grey images above 8 bits; `decode_image` needs it for further images.
    """

    def __init__(self, tasks: Iterable[Task], products: Sequence[Product], notes: Sequence[str], bits: Sequence[int]):
        super().__init__(tasks)
        self.products = tuple(products)
        self.notes = tuple(notes)
        self.bits = tuple(bits)


def open_stream(
    folders: str | Path | Iterable[str | Path],
    *,
    image_size: int | tuple[int, int] = 256,
    val_share: float = 0.1,
    seed: int = 0,
    order: Sequence[str] | None = None,
    cache: Path | str | None = "default",
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> Stream:
    """Decode products to one working size and hold validation images out.

    Validation images are good *training* images drawn by the seed and the product's name: at least one, at
    most all but one. Test images take no part in any choice.

    Args:
        folders: one folder for each product; `continuad.data.discover` says how they may look.
        image_size: side, or (height, width), in pixels.
        val_share: share of the training images that is held out, between 0 and 1.
        order: product names in the order to learn them; None keeps the order given.
        cache: "default", a folder, or None to decode into memory.
        skip_unreadable: go on without images that cannot be read, with a note of each, instead of stopping.
        progress: called with (product name, images done, images in all).

    Raises:
        ContinuadError: a folder cannot be used, or files are damaged or do not fit each other; all are named.
    """
    size = working_size(image_size)
    if not 0 < val_share < 1:
        raise ContinuadError(f"val_share is {val_share}; give the share of training images to hold out, e.g. 0.1.")
    if seed < 0:
        raise ContinuadError(f"seed is {seed}; give 0 or a positive number.")
    products = _in_order(discover_all(folders), order)
    store = open_cache(cache)
    read = []
    for product in products:
        told = _Counter(progress, product)
        train = read_split(product.train, size, None, store, told)
        read.append((product, train, read_split(product.test, size, train.bits, store, told)))
    _refuse_damage(read, skip_unreadable)
    tasks: list[Task] = []
    notes: list[str] = []
    bits = [train.bits for _, train, _ in read]
    while read:  # without a cache the parts are copies: let go of the whole, product by product
        product, train, test = read.pop(0)
        learn, val = _hold_out(product, train, val_share, seed, store)
        tasks.append(Task(len(tasks), product.name, learn, val, test.images, train.bits))
        notes += _notes(product, train, test)
        _check_disjoint(tasks[-1])
    for note in dict.fromkeys(notes):
        if note not in _told:  # once, however many seeds and orders open the same folders
            _told.add(note)
            _log.warning("%s", note)
    return Stream(tasks, products, notes, bits)


def named_stream(name: str, root: str | Path) -> list[Path]:
    """The folders of a known stream, each at `root/<product>` or `root/<set>/<product>`.

    Raises:
        ContinuadError: unknown name, or products that are missing or there twice, all named at once.
    """
    if name not in STREAMS:
        raise ContinuadError(f"{name}: no such stream. Known are {', '.join(STREAMS)}; or give the product folders.")
    base = Path(root).expanduser().absolute()
    if not base.is_dir():
        raise ContinuadError(f"{base}: this folder does not exist. Give the one that holds {listed(STREAMS[name], 3)}.")
    places = [[base / product] if _is_product(base / product) else _below(base, product) for product in STREAMS[name]]
    missing = [product for product, found in zip(STREAMS[name], places, strict=True) if not found]
    if missing:
        raise ContinuadError(
            f"{base}: {len(missing)} of the {len(STREAMS[name])} products of {name} are missing: "
            f"{', '.join(missing)}. Looked for {base / missing[0]} and {base / '*' / missing[0]}, "
            "with a train folder (VisA: Data) in it."
        )
    twice = [", ".join(map(str, found)) for found in places if len(found) > 1]
    if twice:
        raise ContinuadError(f"{base}: products of {name} are there twice: {'; '.join(twice)}. Give a narrower root.")
    return [found[0] for found in places]


def orders(n: int, count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """`count` different orders of `n` tasks; the first is as given, the others are seeded permutations."""
    if not 1 <= count <= math.factorial(n):
        raise ContinuadError(f"{count} orders were asked for; {n} products have 1 to {math.factorial(n)}.")
    found = [tuple(range(n))]
    random = np.random.default_rng(seed)
    while len(found) < count:
        drawn = tuple(random.permutation(n).tolist())
        if drawn not in found:
            found.append(drawn)
    return found


def val_split(number: int, share: float, seed: int, name: str) -> tuple[list[int], list[int]]:
    """Positions to learn from and positions held out, both sorted; a single image is in both."""
    if number == 1:
        return [0], [0]
    held = min(max(1, round(number * share)), number - 1)
    by_name = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    drawn = np.random.default_rng([seed, by_name]).permutation(number)
    return sorted(drawn[held:].tolist()), sorted(drawn[:held].tolist())


def working_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) from a side or a pair."""
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or any(not isinstance(side, int) or side < 1 for side in pair):
        raise ContinuadError(f"image_size is {image_size}; give a side in pixels, or height and width, e.g. 256.")
    return pair[0], pair[1]


class _Counter:
    """Adds up finished images of one product for the caller's progress bar."""

    def __init__(self, progress: Progress | None, product: Product) -> None:
        self.progress, self.name = progress, product.name
        self.done, self.total = 0, len(product.train) + len(product.test)

    def __call__(self, finished: int) -> None:
        self.done = min(self.total, self.done + finished)
        if self.progress and finished:
            self.progress(self.name, self.done, self.total)


def _in_order(products: list[Product], order: Sequence[str] | None) -> list[Product]:
    if order is None:
        return products
    by_name = {product.name: product for product in products}
    if sorted(order) != sorted(by_name):
        raise ContinuadError(f"order is {', '.join(order)}; name each of {', '.join(by_name)} once.")
    return [by_name[name] for name in order]


def _refuse_damage(read: list[tuple[Product, Split, Split]], skip_unreadable: bool) -> None:
    """One error for all files of all products that stand in the way."""
    splits = [split for _, *both in read for split in both]
    unreadable = [] if skip_unreadable else [text for split in splits for text in split.unreadable]
    wrong = [text for split in splits for text in split.wrong]
    parts = []
    if unreadable:
        parts.append(
            "\n  ".join([f"{len(unreadable)} files cannot be read:", *unreadable])
            + "\nReplace or remove them, or skip them with skip_unreadable=True."
        )
    if wrong:
        parts.append("\n  ".join([f"{len(wrong)} masks differ from their image in size:", *wrong]))
        parts.append("Export these masks again in the size of their image, or remove them.")
    parts += [
        f"{product.root}: none of its {len(product.train)} training images can be read."
        for product, train, _ in read
        if not parts and not len(train.images)
    ]
    if parts:
        raise ContinuadError("\n".join(parts))


def _hold_out(product: Product, train: Split, share: float, seed: int, store: Cache) -> tuple[ImageSet, ImageSet]:
    """Images to learn from and validation images."""
    learn, val = val_split(len(train.images), share, seed, product.name)
    if learn == val:  # a single image
        return train.images, train.images
    return rows_of(train.images, train.key, learn, store), rows_of(train.images, train.key, val, store)


def _notes(product: Product, train: Split, test: Split) -> list[str]:
    texts = [*product.problems, *train.notes, *test.notes]
    texts += [f"skipped {text}" for text in train.unreadable + test.unreadable]
    if len(train.images) == 1:
        texts.append("only one training image: it is its own validation image too, so thresholds come out too low.")
    return [f"{product.name}: {text}" for text in texts]


def _check_disjoint(task: Task) -> None:
    """An image in two subsets would make every number of the task a lie, so this is checked every time."""
    train, val, test = set(task.train.paths), set(task.val.paths), set(task.test.paths)
    shared = (train & test) | (val & test) | ((train & val) if len(train | val) > 1 else set())
    if shared:
        raise RuntimeError(f"{task.name}: images in two subsets, a fault of continuad: {listed(shared)}")


def _below(base: Path, product: str) -> list[Path]:
    return sorted(path for path in base.glob(f"*/{product}") if _is_product(path))


def _is_product(folder: Path) -> bool:
    return folder.is_dir() and child(folder, "train", "Data") is not None
