"""Examine an image and its mask, and collect findings about many: the same for learning and for `check-data`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from continuad.data.decode import MAX_PIXELS, Picture, UnreadableImage, read_mask, read_picture
from continuad.data.masks import shrink
from continuad.data.names import counted, listed, oddity, printable, shown
from continuad.data.product import Item
from continuad.data.wide import is_above_8_bits

Size = tuple[int, int]
NAMED = 10
"""Up to so many files are named in the sentence about them."""
LEVELS = ("error", "warning", "note")
_BAND, _USUAL_BAND = 0.1, 0.02  # share of the rows in one colour: of a picture that was cut short, and of others
_MOSTLY = 0.5  # share of the picture from which a mask may be inverted


@dataclass(frozen=True)
class Facts:
    """What was found out about one image and its mask; plain values without paths, which a cache can keep.

    Attributes:
        size: (height, width) of the file.
        error: why the image cannot be read; empty if it can.
        mode, clipped, pages, band, drawn: as in `Picture`.
        mask: "none", "known", "empty", "lost" in scaling, "unreadable" or "misfit".
        mask_detail: what is wrong with the mask.
        noisy, background: as in `masks.Reading`.
        regions, dropped: as in `masks.Shrunk`.
        share: how much of the picture the mask covers, 0 to 1.
    """

    size: tuple[int, ...] = (0, 0)
    error: str = ""
    mode: str = ""
    clipped: bool = False
    pages: int = 1
    band: float = 0.0
    drawn: bool = False
    mask: str = "none"
    mask_detail: str = ""
    noisy: bool = False
    background: int = 0
    regions: int = 0
    dropped: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class Finding:
    """One thing to know, about some files or the whole product.

    Attributes:
        level: "error" (learning will be refused), "warning" (results will mislead) or "note".
        what: what is the matter: with files, a clause about them; else whole sentences.
        files: each one's printable name, and what is particular to it, if anything.
        then: what follows from it, or what to do; may be empty.
    """

    level: str
    what: str
    files: tuple[tuple[str, str], ...] = ()
    then: str = ""

    @property
    def lines(self) -> list[str]:
        """A line for each file."""
        return [f"{name} {detail}".rstrip() for name, detail in self.files]

    @property
    def text(self) -> str:
        """In full sentences; names up to `NAMED` files."""
        if not self.files:
            return self.what
        return f"{self.what} ({len(self.files)}): {listed(self.lines, NAMED)}{f'; {self.then}' if self.then else ''}."


def examine(
    item: Item, size: Size, bits: int, max_pixels: int = MAX_PIXELS
) -> tuple[Facts, Picture | None, np.ndarray | None]:
    """Read one image and its mask.

    Args:
        size: (height, width), the working size.
        bits: white level of pictures above 8 bits.

    Returns:
        What was found out; the picture at its own size, None if it cannot be read; the mask (h, w) at the working
        size, None if there is none that can be used.
    """
    try:
        picture = read_picture(item.path, bits, max_pixels)
    except UnreadableImage as error:
        return Facts(error=error.reason), None, None
    facts = Facts(picture.size, "", picture.mode, picture.clipped, picture.pages, picture.band, picture.drawn)
    if item.mask is None:
        return facts, picture, None
    try:
        reading = read_mask(item.mask, max_pixels)
    except UnreadableImage as error:
        return replace(facts, mask="unreadable", mask_detail=error.reason), picture, None
    full = reading.mask
    if full.shape != picture.size:
        sizes = f"{full.shape[1]} x {full.shape[0]}, the image {picture.size[1]} x {picture.size[0]}"
        return replace(facts, mask="misfit", mask_detail=sizes), picture, None
    small = shrink(full, size)
    facts = replace(
        facts,
        mask="known" if small.mask.any() else "lost" if full.any() else "empty",
        noisy=reading.noisy,
        background=reading.background,
        regions=small.regions,
        dropped=small.dropped,
        share=float(full.mean()),
    )
    return facts, picture, small.mask


def file_findings(root: Path, items: Sequence[Item], facts: Sequence[Facts], size: Size, bits: int) -> list[Finding]:
    """What a person should know about the files of a product, errors first.

    Args:
        root: the product's folder.
        items, facts: the same number of each.
        size: the working size.
        bits: white level of pictures above 8 bits.
    """
    both = list(zip(items, facts, strict=True))
    read = [(item, found) for item, found in both if not found.error]
    image, mask = (lambda item: shown(root, item.path)), _mask_name
    unfit = [(item, found) for item, found in both if found.mask == "misfit"]
    usual = Counter(f.mode for _, f in read).most_common(1)[0][0] if read else ""
    even = sum(f.band >= _USUAL_BAND for _, f in read) * 4 > len(read)  # then that is how these pictures are
    cut = [] if even else [(i, f) for i, f in read if f.band >= _BAND]
    found = [
        _finding("error", "images that cannot be read", [(image(i), f.error) for i, f in both if f.error]),
        _finding(
            "error",
            "masks of another size than their image",
            [(mask(i), f"({f.mask_detail})") for i, f in unfit],
            "export these masks again in the size of their image, or remove them",
        ),
        _finding(
            "warning",
            "images with many rows of one colour, as if cut short",
            [(image(i), f"({f.band:.0%} of its rows)") for i, f in cut],
        ),
        _finding("warning", "plots drawn by Matplotlib, no photographs", [(image(i), "") for i, f in read if f.drawn]),
        _finding(
            "warning",
            "images brighter than all training images, clipped",
            [(image(i), "") for i, f in read if f.clipped],
        ),
        *_mask_findings(read, size),
        _finding(
            "note",
            "files of several pictures, of which the first is used",
            [(image(i), f"({f.pages} pictures)") for i, f in read if f.pages > 1],
        ),
        _finding(
            "note",
            f"pictures of another colour mode than most, which is {usual}",
            [(image(i), f"({f.mode})") for i, f in read if f.mode != usual],
        ),
        _finding("note", "unusual names", [(image(i), f"({why})") for i, _ in both if (why := oddity(i.path.name))]),
    ]
    found = [finding for finding in found if finding.files]
    if any(is_above_8_bits(f.mode) for _, f in read):
        text = f"white level of pictures above 8 bits: {2**bits - 1} ({bits} bits), from the training images."
        found.append(Finding("note", text))
    return found


def _mask_findings(read: Sequence[tuple[Item, Facts]], size: Size) -> list[Finding]:
    """About masks that say less or other than they seem to."""

    def some(which: Callable[[Facts], object], detail: Callable[[Facts], str] = lambda f: "") -> list[tuple[str, str]]:
        return [(_mask_name(item), detail(found)) for item, found in read if which(found)]

    small, leave_out = f"{size[1]} x {size[0]}", "pixel metrics leave their images out"
    return [
        _finding(
            "warning",
            "masks that cannot be read",
            some(lambda f: f.mask == "unreadable", lambda f: f.mask_detail),
            leave_out,
        ),
        _finding("warning", "empty masks of defect images", some(lambda f: f.mask == "empty"), leave_out),
        _finding(
            "warning", f"masks with no defective pixel left at {small}", some(lambda f: f.mask == "lost"), leave_out
        ),
        _finding(
            "warning",
            f"masks with regions too small to be seen at {small}, dropped",
            some(
                lambda f: f.mask == "known" and f.dropped, lambda f: f"({f.dropped} of {counted(f.regions, 'region')})"
            ),
        ),
        _finding(
            "warning",
            "masks that cover most of the picture",
            some(lambda f: f.mask == "known" and f.share > _MOSTLY, lambda f: f"({f.share:.0%})"),
            "if defects are black in them, invert them",
        ),
        _finding(
            "note",
            "masks with noise or smoothed edges",
            some(lambda f: f.noisy),
            "values above half of the largest count as defect",
        ),
        _finding(
            "note",
            "masks without a pixel of 0",
            some(lambda f: f.background, lambda f: f"(lowest {f.background})"),
            "their lowest value counts as background",
        ),
    ]


def _finding(level: str, what: str, files: Iterable[tuple[str, str]], then: str = "") -> Finding:
    return Finding(level, what, tuple(files), then)


def _mask_name(item: Item) -> str:
    return printable(f"{item.defect}/{item.mask.name}") if item.mask else ""
