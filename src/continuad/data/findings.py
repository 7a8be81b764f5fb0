"""Findings about the images of a product as a whole: duplicates, shortcuts, shapes, metrics that are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from continuad.data.examine import Facts, Finding
from continuad.data.names import counted, listed, shown
from continuad.data.near_duplicates import NEAR, all_alike, closest
from continuad.data.product import GOOD, Item
from continuad.data.trivial import Look, Separation

IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1_max", "image_f1")
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_f1", "pixel_aupro")
SAME_FILE, SAME_PIXELS, NEARLY = "same file", "same pixels", "nearly the same"
_FEW = 10
_STRETCH = 1.5


@dataclass(frozen=True)
class Copy:
    """A test image that is in the training images too.

    Attributes:
        test, train: paths within the product's folder.
        how: "same file", "same pixels" or "nearly the same".
        correlation: correlation of the thumbnails, 1 for the same pixels.
    """

    test: str
    train: str
    how: str
    correlation: float = 1.0


@dataclass(frozen=True)
class Seen:
    """One image and its mask, looked at; only small things are kept.

    Attributes:
        facts: what was found out; nothing below is set if the image cannot be read.
        file, pixels: digests of the file and of the decoded picture.
        thumb: `near_duplicates.thumbnail`.
        look: statistics for `trivial.separations`.
    """

    item: Item
    facts: Facts
    file: str = ""
    pixels: str = ""
    thumb: np.ndarray | None = None
    look: Look | None = None


def available_metrics(good: int, defective: int, masks: int) -> dict[str, str]:
    """Metric to "", or to why it is not available, by numbers of test images and of masks of defect images."""
    if not good + defective:
        image = pixel = "no test images"
    else:
        image = "no good test images" if not good else "no defective test images" if not defective else ""
        pixel = "no defective test images" if not defective else "" if masks else "no masks"
    return dict.fromkeys(IMAGE_METRICS, image) | dict.fromkeys(PIXEL_METRICS, pixel)


def find_copies(root: Path, train: Sequence[Seen], test: Sequence[Seen]) -> tuple[list[Copy], bool]:
    """Test images among the training images, each once by its closest kind; and whether all parts look alike."""
    if not train or not test:
        return [], False
    files, pixels = {s.file: s for s in train}, {s.pixels: s for s in train}
    thumbs = np.stack([s.thumb for s in train if s.thumb is not None])
    alike = all_alike(thumbs)
    where, correlation = closest(np.stack([s.thumb for s in test if s.thumb is not None]), thumbs)
    found = []
    for s, at, value in zip(test, where, correlation, strict=True):
        if twin := files.get(s.file):
            found.append(Copy(shown(root, s.item.path), shown(root, twin.item.path), SAME_FILE))
        elif twin := pixels.get(s.pixels):
            found.append(Copy(shown(root, s.item.path), shown(root, twin.item.path), SAME_PIXELS))
        elif value >= NEAR and not alike:
            path = shown(root, train[at].item.path)
            found.append(Copy(shown(root, s.item.path), path, NEARLY, round(float(value), 4)))
    return found, alike


def duplicate_findings(
    root: Path, copies: Sequence[Copy], train: Sequence[Seen], test: Sequence[Seen], alike: bool
) -> list[Finding]:
    """Test images that are training images too, pictures that are both good and defective, and repeated ones."""
    found = []
    for how in (SAME_FILE, SAME_PIXELS, NEARLY):
        if some := [copy for copy in copies if copy.how == how]:
            same = how if how == NEARLY else f"the {how}"
            text = f"{len(some)} of {len(test)} test images are {same} as a training image"
            text += f", so scores on them are too good; for example {some[0].test} and {some[0].train}."
            found.append(Finding("warning", text))
    labels: dict[str, set[bool]] = {}
    for s in test:
        labels.setdefault(s.pixels, set()).add(s.item.defect == GOOD)
    if both := [s.item.path.name for s in test if len(labels[s.pixels]) == 2]:
        found.append(Finding("warning", f"the same picture is both good and defective in test: {listed(both)}."))
    first: dict[str, Seen] = {}
    again = [(s, twin) for s in train if (twin := first.setdefault(s.pixels, s)) is not s]
    if again:
        files = tuple((shown(root, s.item.path), f"(as {shown(root, twin.item.path)})") for s, twin in again)
        then = "copies among the validation images make thresholds too low"
        found.append(Finding("warning", "training images more than once", files, then))
    if alike:
        text = "the parts look so alike that near-copies in test cannot be distinguished from new parts."
        found.append(Finding("note", text))
    return found


def shortcut_findings(separations: Sequence[Separation], shifts: Sequence[Separation]) -> list[Finding]:
    """Statistics that give the answer away, and good test images that are unlike the training images."""
    found = []
    if away := [s for s in separations if s.separates]:
        names = "; ".join(f"{s.statistic} (AUROC {s.auroc:.2f}, defective ones are {s.other})" for s in away)
        text = f"good and defective test images can be separated without looking at the part: {names}. "
        text += "Image scores up to that mean nothing."
        found.append(Finding("warning", text))
    if unlike := [s for s in shifts if s.separates]:
        names = "; ".join(f"{s.statistic} (AUROC {s.auroc:.2f}, test ones are {s.other})" for s in unlike)
        text = f"good test images are unlike the training images: {names}. Expect false alarms."
        found.append(Finding("warning", text))
    return found


def shape_findings(train: int, sizes: Iterable[str], size: tuple[int, int]) -> list[Finding]:
    """How many training images there are, and shapes ("width x height") that scaling will stretch."""
    found = []
    if not train:
        found.append(Finding("error", "no training image can be read."))
    elif train < _FEW:
        found.append(Finding("warning", f"only {counted(train, 'training image')}: thresholds will be rough."))
    shapes = [[int(side) for side in text.split(" x ")] for text in sizes]
    wanted = size[1] / size[0]
    stretched = [f"{w} x {h}" for w, h in shapes if not 1 / _STRETCH < w / h / wanted < _STRETCH]
    if stretched:
        text = f"{listed(stretched, 3)} is scaled to {size[1]} x {size[0]}: shapes are stretched."
        found.append(Finding("note", text))
    return found


def metric_findings(metrics: dict[str, str]) -> list[Finding]:
    """Why kinds of metrics are not available."""
    return [
        Finding("note", f"{kind} metrics not available: {metrics[names[0]]}.")
        for kind, names in (("image", IMAGE_METRICS), ("pixel", PIXEL_METRICS))
        if metrics[names[0]]
    ]


def counts(things: Iterable[str]) -> dict[str, int]:
    """How often each thing occurs, the commonest first."""
    return dict(Counter(things).most_common())
