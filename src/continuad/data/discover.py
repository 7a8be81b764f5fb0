"""What lies in a product's folder: which layout it has, which images, which masks. Nothing is decoded here.

Layouts, recognised by the names of their folders (in any case):

- `mvtec`, MPDD's too: `train/good` (or images directly in `train`), `test/good`, `test/<defect>`,
  `ground_truth/<defect>`. All but the training images may be missing.
- `btad`: the same with `train/ok`, `test/ok`, `test/ko`, `ground_truth/ko`.
- `visa`: `Data/Images/Normal`, divided by `../split_csv/1cls.csv`; `Data/Images/Anomaly`,
  `Data/Masks/Anomaly`.
- `plain`: good images in the folder and below it, nothing to test on.

Sub-folders of these are read too, and a note counts their images. What continuad drew itself (the figures in a
results folder) is left out, with a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from continuad.data.names import counted, listed, printable, shown, unique_names
from continuad.data.pairing import pair_masks
from continuad.data.product import IMAGE_SUFFIXES, Item, Product, child, contents, images_in, subfolders
from continuad.data.roots import Owners, product_roots, refuse_missing
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
    refuse_missing(root)
    data, train = child(root, "Data"), child(root, "train")
    if data and child(data, "Images"):
        product = read_visa(root)
    elif train:
        product = _mvtec(root, train)
    else:
        product = _plain(root)
    if not product.train:
        raise ContinuadError(_nothing_to_learn(product))
    return replace(product, notes=_below(root, product))


def discover_all(folders: str | Path | Iterable[str | Path]) -> list[Product]:
    """`discover` every folder; products of one name get as many parents in front as make them differ.

    Raises:
        ContinuadError: what is wrong with the folders, all at once; a folder given twice, by whatever path; products
            that share images; or no folder at all.
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
    owners = Owners()
    return [
        owners.add(replace(product, name=name)) for product, name in zip(products, unique_names(roots), strict=True)
    ]


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
    return Product(printable(root.name), root, layout, tuple(map(Item, learn)), tuple(items), tuple(problems))


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
        bad += [Item(path, printable(folder.name), pairs.get(path)) for path in images]
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
            why = "good images need none" if good else f"test/ has no folder {printable(folder.name)}"
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
    return Product(printable(root.name), root, "plain", tuple(map(Item, learn)), (), tuple(problems))


def _refuse_collections(root: Path, images: list[Path]) -> None:
    """A folder of products, or one with a test set but nothing to learn from, is no folder of good images."""
    if child(root, "test"):
        raise ContinuadError(
            f"{printable(root)}: has a test folder but no train folder. Put good images in its train/good."
        )
    inside: dict[Path, None] = {}
    for path in images:
        parts = [part.casefold() for part in path.relative_to(root).parts[:-1]]
        for mark in ("train", "test", "data"):
            if mark in parts[1:] and (mark != "data" or "images" in parts):  # Data/Images is VisA's
                inside[root.joinpath(*path.relative_to(root).parts[: parts.index(mark, 1)])] = None
    if inside:
        first = next(iter(inside))
        raise ContinuadError(
            f"{printable(root)}: holds several products ({listed(shown(root, path) for path in inside)}), not one. "
            f"Give each product's own folder, e.g. {printable(first)}."
        )


def _nothing_to_learn(product: Product) -> str:
    train = child(product.root, "train") or product.root
    where = child(train, *_GOOD_FOLDERS) or train
    also = "".join(f"\n  {problem}" for problem in product.problems)
    return (
        f"{printable(where)}: no good image to learn from. Looked for {' '.join(IMAGE_SUFFIXES)} (in any case). Put "
        f"images of good parts there, or check the path; convert other formats, e.g. to .png.{also}"
    )


def _left_out(root: Path, folder: Path, why: str) -> str:
    return f"{shown(root, folder)}/ left out ({counted(len(images_in(folder)), 'image')}): {why}."


def _below(root: Path, product: Product) -> tuple[str, ...]:
    """Notes about sub-folders whose images are read too, pictures drawn by continuad, and formats that are not read."""
    notes = []
    for items, use in ((product.train, "learned"), (product.test, "tested")):
        number = Counter(item.path.parent for item in items)
        deeper = {
            folder: n for folder, n in number.items() if _is_deeper(product.layout, folder.relative_to(root).parts)
        }
        if deeper:
            names = listed(f"{shown(root, folder)} ({n})" for folder, n in deeper.items())
            notes.append(f"{counted(sum(deeper.values()), 'image')} in sub-folders {use} too: {names}.")
    found = contents(root)
    if found.drawn:
        drawn = [f"{shown(root, folder)}/ ({counted(len(images_in(folder)), 'image')})" for folder in found.drawn]
        notes.append(f"left out, continuad wrote it as results: {listed(drawn)}.")
    if found.foreign:
        kinds = Counter(path.suffix.lower() for path in found.foreign)
        text = ", ".join(f"{number} {suffix}" for suffix, number in kinds.items())
        notes.append(
            f"{counted(len(found.foreign), 'picture')} in formats that are not read ({text}): "
            f"{listed(shown(root, path) for path in found.foreign)}. Convert them, e.g. to .png."
        )
    return tuple(notes)


def _is_deeper(layout: str, parts: tuple[str, ...]) -> bool:
    """Whether a folder lies below those that a layout names."""
    if layout == "visa":
        return len(parts) > len(("Data", "Images", "Normal"))
    if layout == "plain":
        return len(parts) > (bool(parts) and parts[0].casefold() in _GOOD_FOLDERS)
    return len(parts) > len(("test", "defect"))
