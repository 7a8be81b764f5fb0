"""Check product folders before anything is learned: what is there, what is wrong, what scores on it can prove."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from continuad.data.decode import MAX_PIXELS, in_threads, quiet_pillow, white_bits
from continuad.data.discover import discover
from continuad.data.examine import LEVELS, Finding, examine, file_findings
from continuad.data.findings import (
    Copy,
    Seen,
    available_metrics,
    counts,
    duplicate_findings,
    find_copies,
    metric_findings,
    shape_findings,
    shortcut_findings,
)
from continuad.data.machine import refuse_exhausted
from continuad.data.names import printable, shown, unique_names
from continuad.data.near_duplicates import thumbnail
from continuad.data.product import GOOD, Item, Product
from continuad.data.roots import Owners, product_roots
from continuad.data.splits import val_split, working_size
from continuad.data.trivial import Separation, look_at, separations
from continuad.errors import ContinuadError

Progress = Callable[[str, int, int], None]


@dataclass
class ProductAudit:
    """What was found out about one product.

    Attributes:
        name, root, layout: as in `Product`.
        train: images to learn from, those for validation included.
        val: how many of them are for validation.
        test: defect type (or "good") to number of test images.
        masks: defect images whose mask says where the defect is.
        unreadable: file, within the product's folder, to what is wrong with it.
        sizes, modes, file_types: "width x height", Pillow mode, suffix, each to its number of images.
        copies: test images that are in the training images too.
        metrics: metric to "", or to the reason why it will not be available.
        separations: statistics by how well they separate good from defective test images, the best first.
        shifts: the same for good test images against training images.
        findings: everything to know, worst first.
    """

    name: str
    root: Path
    layout: str = ""
    train: int = 0
    val: int = 0
    test: dict[str, int] = field(default_factory=dict)
    masks: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    file_types: dict[str, int] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    metrics: dict[str, str] = field(default_factory=dict)
    separations: list[Separation] = field(default_factory=list)
    shifts: list[Separation] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """What learning would be refused for."""
        return [finding.text for finding in self.findings if finding.level == "error"]

    @property
    def usable(self) -> bool:
        """Whether learning will start."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold in any encoding of Unicode; the root with forward slashes."""
        findings = [asdict(finding) | {"text": finding.text} for finding in self.findings]
        return asdict(self) | {"root": printable(self.root.as_posix()), "usable": self.usable, "findings": findings}


def audit(
    folders: str | Path | Iterable[str | Path],
    *,
    image_size: int | tuple[int, int] = 256,
    val_share: float = 0.1,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> list[ProductAudit]:
    """Look at product folders as `open_stream` would read them, and at every file in them.

    A folder that cannot be used at all comes back with an error finding instead of raising.

    Args:
        image_size: the working size that masks have to survive.
        val_share: share of the training images that will be for validation.
        max_pixels: images with more pixels cannot be read.
        progress: called with (product name, images done, images in all).

    Raises:
        ContinuadError: no folder, or one given twice; a wrong image size.
    """
    size = working_size(image_size)
    roots = product_roots(folders)
    owners, found = Owners(), []
    learned: dict[str, str] = {}  # pixels of training images, and the first product that has them
    with quiet_pillow():
        for name, root in zip(unique_names(roots), roots, strict=True):
            try:
                product = replace(discover(root), name=name)
            except ContinuadError as error:
                found.append(ProductAudit(name, root, findings=[Finding("error", str(error))]))
                continue
            extra = []
            try:
                product = owners.add(product)
            except ContinuadError as error:
                extra.append(Finding("error", str(error)))
            bits, seen = _look(product, size, max_pixels, progress)
            items, facts = [s.item for s in seen], [s.facts for s in seen]
            extra += file_findings(root, items, facts, size, bits)
            train, test = seen[: len(product.train)], seen[len(product.train) :]
            extra += _elsewhere(product, train, learned)
            found.append(_report(product, train, test, extra, size, val_share))
    return found


def _look(
    product: Product, size: tuple[int, int], max_pixels: int, progress: Progress | None
) -> tuple[int, list[Seen]]:
    """White level, training and then test images of a product."""
    items = (*product.train, *product.test)
    bits = white_bits((item.path for item in product.train), max_pixels)
    seen: list[Seen] = []
    for one in in_threads(lambda item: _see(item, size, bits, max_pixels), items):
        seen.append(one)
        if progress:
            progress(product.name, len(seen), len(items))
    return bits, seen


def _see(item: Item, size: tuple[int, int], bits: int, max_pixels: int) -> Seen:
    """Read and decode one image and its mask."""
    facts, picture, _ = examine(item, size, bits, max_pixels)
    if picture is None:
        return Seen(item, facts)
    try:
        with item.path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
            length = file.tell()
    except OSError as error:  # removed meanwhile
        refuse_exhausted(error, item.path)
        return Seen(item, replace(facts, error=f"cannot be opened ({error.strerror})"))
    return Seen(
        item,
        facts,
        digest,
        hashlib.blake2b(picture.rgb.tobytes(), digest_size=20).hexdigest() + str(picture.size),
        thumbnail(picture.rgb),
        look_at(picture.rgb, item.path.suffix.lower(), picture.mode, length),
    )


def _elsewhere(product: Product, train: Sequence[Seen], learned: dict[str, str]) -> list[Finding]:
    """Training images that an earlier product has too; remembers those of this one."""
    again = [(s, learned[s.pixels]) for s in train if s.pixels in learned]
    learned |= {s.pixels: product.name for s in train if s.pixels and s.pixels not in learned}
    files = tuple((shown(product.root, s.item.path), f"(in {name})") for s, name in again)
    return [Finding("warning", "training images that another product has too", files)] if files else []


def _report(
    product: Product,
    train: list[Seen],
    test: list[Seen],
    extra: list[Finding],
    size: tuple[int, int],
    share: float,
) -> ProductAudit:
    """Everything about one product from what was seen of its files."""
    name, root, both = product.name, product.root, train + test
    learn, probe = ([s for s in some if not s.facts.error] for some in (train, test))
    good, bad = ([s for s in probe if (s.item.defect == GOOD) is wanted] for wanted in (True, False))
    known = sum(s.facts.mask == "known" for s in bad)
    copies, alike = find_copies(root, learn, probe)
    looks = [[s.look for s in some if s.look] for some in (learn, good, bad)]
    result = ProductAudit(
        name,
        root,
        product.layout,
        train=len(learn),
        val=len(val_split(len(learn), share, 0, name)[1]) if learn else 0,
        test=dict(Counter(s.item.defect for s in probe)),
        masks=known,
        unreadable={shown(root, s.item.path): s.facts.error for s in both if s.facts.error},
        sizes=counts(f"{s.facts.size[1]} x {s.facts.size[0]}" for s in learn + probe),
        modes=counts(s.facts.mode for s in learn + probe),
        file_types=counts(s.item.path.suffix.lower() for s in learn + probe),
        copies=copies,
        metrics=available_metrics(len(good), len(bad), known),
        separations=separations(looks[1], looks[2]),
        shifts=separations(looks[0], looks[1]),
    )
    result.findings = [
        *extra,
        *(Finding("warning", problem) for problem in product.problems),
        *(Finding("note", note) for note in product.notes),
        *duplicate_findings(root, copies, learn, probe, alike),
        *shortcut_findings(result.separations, result.shifts),
        *shape_findings(result.train, result.sizes, size),
        *metric_findings(result.metrics),
    ]
    result.findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return result
