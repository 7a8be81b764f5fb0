"""Folders on disk to a stream of tasks: everything decoded once, and checked before anything is learned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from continuad.core.types import ImageSet, Task
from continuad.data.cache import Cache, open_cache
from continuad.data.decode import MAX_PIXELS, quiet_pillow
from continuad.data.discover import discover_all
from continuad.data.examine import NAMED, file_findings
from continuad.data.known import STREAMS as STREAMS
from continuad.data.known import orders as orders
from continuad.data.names import counted, listed, printable
from continuad.data.product import Product
from continuad.data.reading import Split, read_split, rows_of
from continuad.data.splits import val_split, working_size
from continuad.data.wide import is_above_8_bits
from continuad.errors import ContinuadError

Progress = Callable[[str, int, int], None]
_log = logging.getLogger(__name__)
_said: set[str] = set()


class Counts(NamedTuple):
    """How many images of one product are used, and what for.

    Attributes:
        product: its name.
        train: learned from, without those for validation.
        val: for validation only (a single training image is in both).
        good, defective: test images.
        skipped: files that cannot be read, left out.
    """

    product: str
    train: int
    val: int
    good: int
    defective: int
    skipped: int

    def __str__(self) -> str:
        skipped = f"; {self.skipped} left out, which cannot be read" if self.skipped else ""
        return (
            f"{self.product}: {counted(self.train, 'image')} to learn from, {self.val} for validation, "
            f"{self.good + self.defective} to test on ({self.good} good, {self.defective} defective){skipped}"
        )


class Stream(list[Task]):
    """The tasks in order.

    Attributes:
        products: their files, in the same order.
        notes: what a person should know about the data; also logged as warnings, each once.
        bits: white level of each task's images above 8 bits; `decode_image` needs it for further images.
        counts: how many images each task learns from, validates on and tests; also logged at level INFO.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        products: Sequence[Product],
        notes: Sequence[str],
        bits: Sequence[int],
        counts: Sequence[Counts],
    ):
        super().__init__(tasks)
        self.products = tuple(products)
        self.notes = tuple(notes)
        self.bits = tuple(bits)
        self.counts = tuple(counts)


def open_stream(
    folders: str | Path | Iterable[str | Path],
    *,
    image_size: int | tuple[int, int] = 256,
    val_share: float = 0.1,
    seed: int = 0,
    order: Sequence[str] | None = None,
    cache: Path | str | None = "default",
    skip_unreadable: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Stream:
    """Decode products to one working size and set validation images apart.

    Validation images are good *training* images drawn by the seed and the product's name: at least one, at
    most all but one. Test images take no part in any choice.

    Args:
        folders: one folder for each product; `continuad.data.discover` says how they may look.
        image_size: side, or (height, width), in pixels.
        val_share: share of the training images that is for validation, between 0 and 1.
        order: product names in the order to learn them; None keeps the order given.
        cache: "default", a folder, or None to decode into memory.
        skip_unreadable: go on without images that cannot be read, with a note of each, instead of stopping.
        max_pixels: images with more pixels cannot be read; each pixel takes about 10 bytes of memory while decoding.
        progress: called with (product name, images done, images in all).

    Raises:
        ContinuadError: a folder cannot be used, or files are damaged or do not fit each other; all are named.
    """
    size = working_size(image_size)
    _refuse_options(val_share, seed, max_pixels)
    products = _in_order(discover_all(folders), order)
    store = open_cache(cache)
    read = []
    with quiet_pillow():
        for product in products:
            count = _Counter(progress, product)
            train = read_split(product.train, size, None, store, count, max_pixels)
            read.append((product, train, read_split(product.test, size, train.bits, store, count, max_pixels)))
    _refuse_damage(read, skip_unreadable)
    tasks: list[Task] = []
    notes: list[str] = _same_content(read)
    bits = [train.bits for _, train, _ in read]
    counts = []
    while read:  # without a cache the parts are copies: let go of the whole, product by product
        product, train, test = read.pop(0)
        learn, val = _set_apart(product, train, val_share, seed, store)
        seen = train.bits if any(is_above_8_bits(facts.mode) for facts in train.facts) else 8
        tasks.append(Task(len(tasks), product.name, learn, val, test.images, seen))
        notes += _notes(product, train, test, size)
        counts.append(_counts(tasks[-1], train, test))
        _log.info("%s", counts[-1])
        _check_disjoint(tasks[-1])
    for note in dict.fromkeys(notes):
        if note not in _said:  # once, however many seeds and orders open the same folders
            _said.add(note)
            _log.warning("%s", note)
    return Stream(tasks, products, notes, bits, counts)


class _Counter:
    """Adds up finished images of one product for the caller's progress bar."""

    def __init__(self, progress: Progress | None, product: Product) -> None:
        self.progress, self.name = progress, product.name
        self.done, self.total = 0, len(product.train) + len(product.test)

    def __call__(self, finished: int) -> None:
        self.done = min(self.total, self.done + finished)
        if self.progress and finished:
            self.progress(self.name, self.done, self.total)


def _refuse_options(val_share: float, seed: int, max_pixels: int) -> None:
    if not 0 < val_share < 1:
        raise ContinuadError(f"val_share is {val_share}; give the share of training images for validation, e.g. 0.1.")
    if seed < 0:
        raise ContinuadError(f"seed is {seed}; give 0 or a positive number.")
    if max_pixels < 1:
        raise ContinuadError(f"max_pixels is {max_pixels}; give a positive number of pixels, e.g. {MAX_PIXELS}.")


def _in_order(products: list[Product], order: Sequence[str] | None) -> list[Product]:
    if order is None:
        return products
    by_name = {product.name: product for product in products}
    if sorted(order) != sorted(by_name):
        raise ContinuadError(f"order is {', '.join(order)}; name each of {', '.join(by_name)} once.")
    return [by_name[name] for name in order]


def _refuse_damage(read: list[tuple[Product, Split, Split]], skip_unreadable: bool) -> None:
    """One error for all files of all products that stand in the way."""
    looked = [
        pair
        for product, train, test in read
        for items, split in ((product.train, train), (product.test, test))
        for pair in zip(items, split.facts, strict=True)
    ]
    unreadable = [f"{printable(item.path)}: {facts.error}" for item, facts in looked if facts.error]
    misfits = [
        f"{printable(item.mask)}: this mask is {facts.mask_detail} ({printable(item.path)})"
        for item, facts in looked
        if facts.mask == "misfit"
    ]
    parts = []
    if unreadable and not skip_unreadable:
        parts.append(
            "\n  ".join([f"{counted(len(unreadable), 'file')} cannot be read:", *unreadable])
            + "\nReplace or remove them, or leave them out with the option skip_unreadable."
        )
    if misfits:
        parts.append("\n  ".join([f"{counted(len(misfits), 'mask')} not of the size of the image:", *misfits]))
        parts.append("Export these masks again in the size of their image, or remove them.")
    parts += [
        f"{printable(product.root)}: none of its {len(product.train)} training images can be read."
        for product, train, _ in read
        if not parts and not len(train.images)
    ]
    if parts:
        raise ContinuadError("\n".join(parts))


def _set_apart(product: Product, train: Split, share: float, seed: int, store: Cache) -> tuple[ImageSet, ImageSet]:
    """Images to learn from and validation images."""
    learn, val = val_split(len(train.images), share, seed, product.name)
    if learn == val:  # a single image
        return train.images, train.images
    return rows_of(train.images, train.key, learn, store), rows_of(train.images, train.key, val, store)


def _same_content(read: list[tuple[Product, Split, Split]]) -> list[str]:
    """Products that are copies of one another."""
    first: dict[str, Product] = {}
    return [
        f"{product.name}: has the same training images as {owner.name}."
        for product, train, _ in read
        if (owner := first.setdefault(train.key, product)) is not product
    ]


def _notes(product: Product, train: Split, test: Split, size: tuple[int, int]) -> list[str]:
    items, facts = (*product.train, *product.test), (*train.facts, *test.facts)
    texts = [*product.problems, *product.notes]
    for finding in file_findings(product.root, items, facts, size, train.bits):
        more = " `continuad check-data` names them all." if len(finding.files) > NAMED else ""
        texts += [finding.text + more] if finding.level != "error" else []
    texts += [f"skipped {printable(i.path)}: {f.error}" for i, f in zip(items, facts, strict=True) if f.error]
    if len(train.images) == 1:
        texts.append("only one training image: it is its own validation image too, so thresholds come out too low.")
    return [f"{product.name}: {text}" for text in texts]


def _counts(task: Task, train: Split, test: Split) -> Counts:
    defective = int(task.test.labels.sum())
    skipped = sum(bool(facts.error) for facts in (*train.facts, *test.facts))
    return Counts(task.name, len(task.train), len(task.val), len(task.test) - defective, defective, skipped)


def _check_disjoint(task: Task) -> None:
    """An image in two subsets would make what is measured on the task wrong, so this is checked every time."""
    train, val, test = set(task.train.paths), set(task.val.paths), set(task.test.paths)
    shared = (train & test) | (val & test) | ((train & val) if len(train | val) > 1 else set())
    if shared:
        raise RuntimeError(f"{task.name}: images in two subsets, a fault of continuad: {listed(shared)}")
