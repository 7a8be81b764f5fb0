"""A look at the data before anything is learned: what is there, what is wrong with it, what scores will be worth."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from continuad.data.decode import UnreadableImage, in_threads, read_mask, read_picture, resize_mask, white_bits
from continuad.data.discover import discover, product_roots, unique_names
from continuad.data.near_duplicates import NEAR, all_alike, closest, thumbnail
from continuad.data.product import GOOD, Item, Product, counted, listed, shown
from continuad.data.stream import val_split, working_size
from continuad.data.trivial import Look, Separation, look_at, separations
from continuad.errors import ContinuadError

IMAGE_METRICS = ("image_auroc", "image_ap", "image_f1_max", "image_f1")
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_f1", "pixel_aupro")
_FEW = 10
_NEARLY = "nearly the same"
_STRETCH = 1.5


@dataclass(frozen=True)
class Finding:
    """One thing to know, in plain sentences.

    Attributes:
        level: "error" (learning will be refused), "warning" (results will mislead) or "note".
    """

    level: str
    text: str


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


@dataclass
class ProductAudit:
    """What was found out about one product.

    Attributes:
        name, root, layout: as in `Product`.
        train: images to learn from, held-out ones included.
        val: how many of them are held out for validation.
        test: defect type (or "good") to number of test images.
        masks: defect images whose mask says where the defect is.
        unreadable: file, within the product's folder, to what is wrong with it.
        sizes, modes, file_types: "width x height", Pillow mode, suffix, each to its number of images.
        copies: test images that are in the training images too.
        metrics: metric to "", or to the reason why it will not be available.
        separations: statistics by how well they tell good from defective test images, the best first.
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
        """Plain values for JSON; the root with forward slashes."""
        return asdict(self) | {"root": self.root.as_posix(), "usable": self.usable}


@dataclass(frozen=True)
class _Seen:
    """One image and its mask, looked at."""

    item: Item
    error: str = ""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    file: str = ""  # digest of the file
    pixels: str = ""  # digest of the decoded picture
    thumb: np.ndarray | None = None
    look: Look | None = None
    mask: str = "none"  # "known", "empty", "lost", "unreadable", "misfit"
    mask_detail: str = ""


def audit(
    folders: str | Path | Iterable[str | Path],
    *,
    image_size: int | tuple[int, int] = 256,
    val_share: float = 0.1,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[ProductAudit]:
    """Look at product folders as `open_stream` would read them, and at every file in them.

    A folder that cannot be used at all comes back with an error finding instead of raising.

    Args:
        image_size: the working size that masks have to survive.
        val_share: share of the training images that will be held out.
        progress: called with (product name, images done, images in all).
    """
    size = working_size(image_size)
    roots = product_roots(folders)
    return [
        _audit(name, root, size, val_share, progress) for name, root in zip(unique_names(roots), roots, strict=True)
    ]


def available_metrics(good: int, defective: int, masks: int) -> dict[str, str]:
    """Metric to "", or to why it is not available, by numbers of test images and of masks of defect images."""
    if not good + defective:
        image = pixel = "no test images"
    else:
        image = "no good test images" if not good else "no defective test images" if not defective else ""
        pixel = "no defective test images" if not defective else "" if masks else "no masks"
    return dict.fromkeys(IMAGE_METRICS, image) | dict.fromkeys(PIXEL_METRICS, pixel)


def _audit(
    name: str, root: Path, size: tuple[int, int], share: float, progress: Callable[[str, int, int], None] | None
) -> ProductAudit:
    try:
        product = discover(root)
    except ContinuadError as error:
        return ProductAudit(name, root, findings=[Finding("error", str(error))])
    items = (*product.train, *product.test)
    bits = white_bits(item.path for item in product.train)
    seen = []
    for one in in_threads(lambda item: _see(item, size, bits), items):
        seen.append(one)
        if progress:
            progress(name, len(seen), len(items))
    train, test = seen[: len(product.train)], seen[len(product.train) :]
    return _report(name, product, train, test, size, share)


def _see(item: Item, size: tuple[int, int], bits: int) -> _Seen:
    """Read and decode one image and its mask; only small things are kept."""
    try:
        data = item.path.read_bytes()
        picture = read_picture(data, bits)
    except UnreadableImage as error:
        return _Seen(item, error.reason)
    except OSError as error:
        return _Seen(item, f"cannot be opened ({error.strerror})")
    state, detail = _see_mask(item.mask, picture.size, size)
    return _Seen(
        item,
        "",
        picture.size,
        picture.mode,
        hashlib.blake2b(data, digest_size=20).hexdigest(),
        hashlib.blake2b(picture.rgb.tobytes(), digest_size=20).hexdigest() + str(picture.size),
        thumbnail(picture.rgb),
        look_at(picture.rgb, item.path.suffix.lower(), picture.mode, len(data)),
        state,
        detail,
    )


def _see_mask(path: Path | None, original: tuple[int, int], size: tuple[int, int]) -> tuple[str, str]:
    if path is None:
        return "none", ""
    try:
        mask = read_mask(path)
    except UnreadableImage as error:
        return "unreadable", error.reason
    if mask.shape != original:
        return "misfit", f"{mask.shape[1]} x {mask.shape[0]}, the image {original[1]} x {original[0]}"
    if not mask.any():
        return "empty", ""
    return ("known" if resize_mask(mask, size).any() else "lost"), ""


def _report(
    name: str, product: Product, train: list[_Seen], test: list[_Seen], size: tuple[int, int], share: float
) -> ProductAudit:
    """Everything about one product from what was seen of its files."""
    root = product.root
    learn, probe = [s for s in train if not s.error], [s for s in test if not s.error]
    good = [s for s in probe if s.item.defect == GOOD]
    bad = [s for s in probe if s.item.defect != GOOD]
    known = sum(s.mask == "known" for s in bad)
    copies, alike = _copies(root, learn, probe)
    result = ProductAudit(
        name,
        root,
        product.layout,
        train=len(learn),
        val=len(val_split(len(learn), share, 0, name)[1]) if learn else 0,
        test=dict(Counter(s.item.defect for s in probe)),
        masks=known,
        unreadable={shown(root, s.item.path): s.error for s in train + test if s.error},
        sizes=_counts(f"{s.size[1]} x {s.size[0]}" for s in learn + probe),
        modes=_counts(s.mode for s in learn + probe),
        file_types=_counts(s.item.path.suffix.lower() for s in learn + probe),
        copies=copies,
        metrics=available_metrics(len(good), len(bad), known),
        separations=separations(_looks(good), _looks(bad)),
        shifts=separations(_looks(learn), _looks(good)),
    )
    result.findings = [
        *_files(result, product, test),
        *_likeness(result, learn, probe, alike),
        *_trivial(result),
        *_shape(result, size),
        *_missing_metrics(result),
    ]
    result.findings.sort(key=lambda finding: ("error", "warning", "note").index(finding.level))
    return result


def _copies(root: Path, train: list[_Seen], test: list[_Seen]) -> tuple[list[Copy], bool]:
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
            found.append(Copy(shown(root, s.item.path), shown(root, twin.item.path), "same file"))
        elif twin := pixels.get(s.pixels):
            found.append(Copy(shown(root, s.item.path), shown(root, twin.item.path), "same pixels"))
        elif value >= NEAR and not alike:
            path = shown(root, train[at].item.path)
            found.append(Copy(shown(root, s.item.path), path, _NEARLY, round(float(value), 4)))
    return found, alike


def _files(result: ProductAudit, product: Product, test: list[_Seen]) -> list[Finding]:
    """Unreadable files, what discovery noticed, and masks that do not say what they should."""
    found = []
    if result.unreadable:
        files = listed(f"{path} {reason}" for path, reason in result.unreadable.items())
        found.append(Finding("error", f"{counted(len(result.unreadable), 'image')} cannot be read: {files}."))
    if not result.train:
        found.append(Finding("error", "no training image can be read."))
    if misfits := [f"{_mask(s)} ({s.mask_detail})" for s in test if s.mask == "misfit"]:
        text = f"masks of another size than their image ({len(misfits)}): {listed(misfits)}."
        found.append(Finding("error", text))
    found += [Finding("warning", problem) for problem in product.problems]
    for state, what in (
        ("unreadable", "masks that cannot be read"),
        ("empty", "empty masks of defect images"),
        ("lost", "masks with no defective pixel left at the working size"),
    ):
        if names := [_mask(s) for s in test if s.mask == state]:
            text = f"{what} ({len(names)}): {listed(names)}; pixel metrics leave these images out."
            found.append(Finding("warning", text))
    if lossy := [_mask(s) for s in test if s.item.mask and s.item.mask.suffix.lower() in (".jpg", ".jpeg", ".jfif")]:
        text = f"masks saved as JPEG, whose noise counts as defect ({len(lossy)}): {listed(lossy, 3)}."
        found.append(Finding("warning", text))
    return found


def _likeness(result: ProductAudit, train: list[_Seen], test: list[_Seen], alike: bool) -> list[Finding]:
    """Images that are where they should not be."""
    found = []
    for how in ("same file", "same pixels", _NEARLY):
        if copies := [copy for copy in result.copies if copy.how == how]:
            same = how if how == _NEARLY else f"the {how}"
            text = f"{len(copies)} of {len(test)} test images are {same} as a training image, so scores on them flatter"
            text += f"; for example {copies[0].test} and {copies[0].train}."
            found.append(Finding("warning", text))
    labels: dict[str, set[bool]] = {}
    for s in test:
        labels.setdefault(s.pixels, set()).add(s.item.defect == GOOD)
    if both := [s.item.path.name for s in test if len(labels[s.pixels]) == 2]:
        found.append(Finding("warning", f"the same picture is both good and defective in test: {listed(both)}."))
    repeats = len(train) - len({s.pixels for s in train})
    if repeats:
        text = f"{counted(repeats, 'training image')} more than once; held-out copies make thresholds too low."
        found.append(Finding("warning", text))
    if alike:
        found.append(Finding("note", "the parts look so alike that near-copies in test cannot be told from new parts."))
    return found


def _trivial(result: ProductAudit) -> list[Finding]:
    """Statistics that give the answer away, and good test images that are unlike the training images."""
    found = []
    if tells := [s for s in result.separations if s.separates]:
        names = "; ".join(f"{s.statistic} (AUROC {s.auroc:.2f}, defective ones are {s.other})" for s in tells)
        text = f"good and defective test images can be told apart without looking at the part: {names}. "
        text += "Image scores up to that mean nothing."
        found.append(Finding("warning", text))
    if shifts := [s for s in result.shifts if s.separates]:
        names = "; ".join(f"{s.statistic} (AUROC {s.auroc:.2f}, test ones are {s.other})" for s in shifts)
        text = f"good test images are unlike the training images: {names}. Expect false alarms."
        found.append(Finding("warning", text))
    return found


def _shape(result: ProductAudit, size: tuple[int, int]) -> list[Finding]:
    """How many and what shapes."""
    found = []
    if 0 < result.train < _FEW:
        found.append(Finding("warning", f"only {counted(result.train, 'training image')}: thresholds will be rough."))
    shapes = [[int(side) for side in text.split(" x ")] for text in result.sizes]
    wanted = size[1] / size[0]
    stretched = [f"{w} x {h}" for w, h in shapes if not 1 / _STRETCH < w / h / wanted < _STRETCH]
    if stretched:
        found.append(
            Finding("note", f"{listed(stretched, 3)} is scaled to {size[1]} x {size[0]}: shapes are stretched.")
        )
    return found


def _missing_metrics(result: ProductAudit) -> list[Finding]:
    return [
        Finding("note", f"{kind} metrics not available: {result.metrics[metrics[0]]}.")
        for kind, metrics in (("image", IMAGE_METRICS), ("pixel", PIXEL_METRICS))
        if result.metrics[metrics[0]]
    ]


def _counts(things: Iterable[str]) -> dict[str, int]:
    return dict(Counter(things).most_common())


def _looks(seen: Sequence[_Seen]) -> list[Look]:
    return [s.look for s in seen if s.look is not None]


def _mask(seen: _Seen) -> str:
    return f"{seen.item.defect}/{seen.item.mask.name}" if seen.item.mask else ""
