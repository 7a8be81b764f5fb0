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
from dataclasses import replace
from pathlib import Path

from continuad.data.pairing import pair_masks
from continuad.data.product import (
    IMAGE_SUFFIXES,
    Item,
    Product,
    child,
    counted,
    images_in,
    listed,
    shown,
    subfolders,
)
from continuad.data.visa import read_visa
from continuad.errors import ContinuadError

_GOOD_FOLDERS = ("good", "ok", "normal")
_BAD_FOLDERS = (
    "bad", "ko", "nok", "ng", "defect", "defects", "defective", "anomaly", "anomalous", "anomalies",
    "abnormal", "faulty", "reject", "rejects", "validation", "valid", "val",
)  # fmt: skip
_MASK_FOLDERS = ("ground_truth", "groundtruth", "ground truth", "masks", "mask")


def discover(folder: str | Path) -> Product:
    """Find a product's layout and list its files.

    Raises:
        ContinuadError: the folder is missing, holds no good image to learn from, or holds several products.
    """
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
