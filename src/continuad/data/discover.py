"""What lies in a product's folder: which layout it has, which images, which masks. Nothing is decoded here.

Layouts that are told apart by their folders (names in any case):

- `mvtec`, MPDD's too: `train/good` (or images directly in `train`), `test/good`, `test/<defect>`,
  `ground_truth/<defect>`. All but the training images may be missing.
- `btad`: the same with `train/ok`, `test/ok`, `test/ko`, `ground_truth/ko`.
- `visa`: `Data/Images/Normal`, divided by `../split_csv/1cls.csv`; `Data/Images/Anomaly`,
  `Data/Masks/Anomaly`.
- `plain`: good images in the folder and below it, nothing to test on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from continuad.data.pairing import pair_masks
from continuad.errors import ContinuadError

GOOD = "good"
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
_GOOD_FOLDERS = ("good", "ok", "normal")
_BAD_FOLDERS = (
    "bad", "ko", "nok", "ng", "defect", "defects", "defective", "anomaly", "anomalous", "anomalies",
    "abnormal", "faulty", "reject", "rejects", "validation", "valid", "val",
)  # fmt: skip
_MASK_FOLDERS = ("ground_truth", "groundtruth", "ground truth", "masks", "mask")
_SYSTEM_FOLDERS = (
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
)


@dataclass(frozen=True)
class Item:
    """One image file.

    Attributes:
        path: where it lies, absolute.
        defect: "good" or the type of defect.
        mask: the file that says where the defect is, or None.
    """

    path: Path
    defect: str = GOOD
    mask: Path | None = None


@dataclass(frozen=True)
class Product:
    """The files of one product.

    Attributes:
        name: the folder's name; unique once it comes from `discover_all`.
        root: its folder, absolute.
        layout: "mvtec", "btad", "visa" or "plain".
        train: good images to learn from, sorted by path.
        test: good and defective images, by defect, then by path; may be empty.
        problems: what a person should know, in plain sentences (a mask without image, files left out ...).
    """

    name: str
    root: Path
    layout: str
    train: tuple[Item, ...]
    test: tuple[Item, ...]
    problems: tuple[str, ...] = ()


def discover(folder: str | Path) -> Product:
    """Find a product's layout and list its files.

    Raises:
        ContinuadError: the folder is missing, holds no good image to learn from, or holds several products.
    """
    from continuad.data.visa import read_visa  # it builds on this module

    (root,) = product_roots([folder])
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise ContinuadError(f"{root}: this folder {what}. Give the folder of one product, e.g. .../mvtec/bottle.")
    data, train = child(root, "Data"), child(root, "train")
    if data and child(data, "Images"):
        product = read_visa(root)
    elif train:
        product = _mvtec(root, train)
    else:
        product = _plain(root)
    if not product.train:
        raise ContinuadError(_nothing_to_learn(product))
    return product


def discover_all(folders: str | Path | Iterable[str | Path]) -> list[Product]:
    """`discover` every folder; products of one name get as many parents in front as tell them apart.

    Raises:
        ContinuadError: what is wrong with the folders, all at once; a folder given twice, or none at all.
    """
    roots = product_roots(folders)
    products, wrong = [], []
    for root in roots:
        try:
            products.append(discover(root))
        except ContinuadError as error:
            wrong.append(str(error))
    if wrong:
        raise ContinuadError("\n".join(wrong))
    names = unique_names(roots)
    return [replace(product, name=name) for product, name in zip(products, names, strict=True)]


def product_roots(folders: str | Path | Iterable[str | Path]) -> list[Path]:
    """Folders as absolute paths, fixed now: a later change of the working directory changes nothing.

    Raises:
        ContinuadError: no folder, or one given twice.
    """
    several = [folders] if isinstance(folders, str | Path) else list(folders)
    if not several:
        raise ContinuadError("No product folder was given. Name at least one, e.g. .../mvtec/bottle.")
    roots = [Path(os.path.abspath(Path(folder).expanduser())) for folder in several]
    for root in roots:
        if roots.count(root) > 1:
            raise ContinuadError(f"{root}: this folder was given {roots.count(root)} times. Give it once.")
    return roots


def unique_names(roots: Sequence[Path]) -> list[str]:
    """Folder names, with as many parents in front ("a/screw", "b/screw") as it takes to tell them apart."""
    depth = [1] * len(roots)
    while True:
        names = ["/".join(root.parts[-d:]) for root, d in zip(roots, depth, strict=True)]
        seen = [name.casefold() for name in names]  # "Screw" and "screw" would be one file on many disks
        clash = [seen.count(s) > 1 and d < len(r.parts) for s, d, r in zip(seen, depth, roots, strict=True)]
        if not any(clash):
            return names
        depth = [d + c for d, c in zip(depth, clash, strict=True)]


def images_in(folder: Path, *, deep: bool = True) -> list[Path]:
    """Image files in a folder (and below it), sorted; hidden files and system folders are left out.

    Links to folders are followed, but never to a folder above the link and never twice to the same folder.
    """
    found: list[Path] = []
    seen: set[str] = set()
    queue = [folder]
    while queue:
        here = queue.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        for entry in _visible(here):
            path = here / entry.name
            if _is_dir(entry):
                above = f"{real}{os.sep}".startswith(f"{os.path.realpath(path)}{os.sep}")
                if deep and not above:
                    queue.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in a folder, sorted."""
    return sorted(folder / entry.name for entry in _visible(folder) if _is_dir(entry))


def child(folder: Path, *names: str) -> Path | None:
    """The sub-folder of one of these names, in any case; earlier names first, None if there is none."""
    below = {path.name.casefold(): path for path in reversed(subfolders(folder))}
    return next((below[name.casefold()] for name in names if name.casefold() in below), None)


def listed(names: Iterable[object], limit: int = 10) -> str:
    """Names joined by commas; beyond `limit` the rest is counted."""
    several = [str(name) for name in names]
    more = f" and {len(several) - limit} more" if len(several) > limit else ""
    return ", ".join(several[:limit]) + more


def counted(number: int, what: str) -> str:
    """ "1 image", "3 images"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Entries that are no hidden file, no macOS or Windows left-over, no system folder."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name.casefold() not in _SYSTEM_FOLDERS]
    except OSError as error:
        raise ContinuadError(f"{folder}: cannot be listed ({error.strerror}). Check its permissions.") from error


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def _mvtec(root: Path, train: Path) -> Product:
    """`train/good`, `test/<defect>` and `ground_truth/<defect>`."""
    good = child(train, *_GOOD_FOLDERS)
    learn = images_in(train, deep=False) + (images_in(good) if good else [])
    problems = [
        _left_out(root, folder, "only good images are learned from; the good ones belong in train/good")
        for folder in subfolders(train)
        if folder != good and images_in(folder)
    ]
    test, truth = child(root, "test"), child(root, *_MASK_FOLDERS)
    items, notes = _test_items(root, test, truth) if test else ([], [])
    problems += notes
    problems += [
        _left_out(root, folder, "this layout reads train, test and ground_truth")
        for folder in subfolders(root)
        if folder not in (train, test, truth) and images_in(folder)
    ]
    layout = "btad" if good and good.name.casefold() == "ok" else "mvtec"
    return Product(root.name, root, layout, tuple(map(Item, learn)), tuple(items), tuple(problems))


def _test_items(root: Path, test: Path, truth: Path | None) -> tuple[list[Item], list[str]]:
    """Test images with their masks, the good ones first."""
    good, bad, problems = [], [], []
    if loose := images_in(test, deep=False):
        problems.append(
            f"{counted(len(loose), 'image')} directly in {test.name}/ left out; nothing says whether "
            f"they are good ({listed(p.name for p in loose)}): put them in test/good or test/<defect>."
        )
    masked = set()
    for folder in subfolders(test):
        images = images_in(folder)
        if folder.name.casefold() in _GOOD_FOLDERS:
            good += [Item(path) for path in images]
            continue
        masks = child(truth, folder.name) if truth else None
        masked.add(masks)
        pairs, notes = pair_masks(folder, images, masks, images_in(masks) if masks else [])
        bad += [Item(path, folder.name, pairs.get(path)) for path in images]
        problems += notes if truth else []
    if bad and not truth:
        problems.append("no ground_truth folder: defects are known by image only, not by pixel.")
    if truth:
        problems += _stray_masks(root, truth, masked)
    return good + bad, problems


def _stray_masks(root: Path, truth: Path, used: set[Path | None]) -> list[str]:
    """Masks that belong to no folder of defect images."""
    problems = []
    if loose := images_in(truth, deep=False):
        problems.append(
            f"masks without image: {listed(p.name for p in loose)} directly in {truth.name}/; "
            f"they belong in {truth.name}/<defect>."
        )
    for folder in subfolders(truth):
        if folder not in used and (masks := images_in(folder)):
            good = folder.name.casefold() in _GOOD_FOLDERS
            why = "good images need none" if good else f"test/ has no folder {folder.name}"
            problems.append(f"masks without image: {counted(len(masks), 'file')} in {shown(root, folder)}/; {why}.")
    return problems


def _plain(root: Path) -> Product:
    """Good images only: all in the folder and below it, or those in its `good` folder if it has one."""
    good = child(root, *_GOOD_FOLDERS)
    learn, problems = images_in(root, deep=False), []
    for folder in subfolders(root):
        bad = folder.name.casefold() in (*_BAD_FOLDERS, *_MASK_FOLDERS)
        if bad or (good and folder != good):
            if images_in(folder):
                problems.append(_left_out(root, folder, "to test on them use train/good and test/<defect>"))
        else:
            learn += images_in(folder)
    _refuse_collections(root, learn)
    return Product(root.name, root, "plain", tuple(map(Item, learn)), (), tuple(problems))


def _refuse_collections(root: Path, images: list[Path]) -> None:
    """A folder of products, or one with a test set but nothing to learn from, is no folder of good images."""
    if child(root, "test"):
        raise ContinuadError(f"{root}: has a test folder but no train folder. Put good images in {root / 'train'}.")
    inside: dict[Path, None] = {}
    for path in images:
        parts = [part.casefold() for part in path.relative_to(root).parts[:-1]]
        for mark in ("train", "test", "data"):
            if mark in parts[1:] and (mark != "data" or "images" in parts):  # Data/Images is VisA's
                inside[root.joinpath(*path.relative_to(root).parts[: parts.index(mark, 1)])] = None
    if inside:
        first = next(iter(inside))
        raise ContinuadError(
            f"{root}: holds several products ({listed(shown(root, path) for path in inside)}), not one. "
            f"Give each product's own folder, e.g. {first}."
        )


def _nothing_to_learn(product: Product) -> str:
    train = child(product.root, "train") or product.root
    where = child(train, *_GOOD_FOLDERS) or train
    also = "".join(f"\n  {problem}" for problem in product.problems)
    return (
        f"{where}: no good image to learn from. Looked for {' '.join(IMAGE_SUFFIXES)} (in any case). Put "
        f"images of good parts there, or check the path; convert other formats, e.g. to .png.{also}"
    )


def _left_out(root: Path, folder: Path, why: str) -> str:
    return f"{shown(root, folder)}/ left out ({counted(len(images_in(folder)), 'image')}): {why}."


def shown(root: Path, path: Path) -> str:
    """A path as seen from the product's folder, with forward slashes on every system."""
    return path.relative_to(root).as_posix()
