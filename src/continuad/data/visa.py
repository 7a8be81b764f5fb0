"""VisA as its authors distribute it: `<class>/Data/Images/{Normal,Anomaly}`, one table splits all classes."""

from __future__ import annotations

import csv
from pathlib import Path

from continuad.data.names import counted, listed, printable
from continuad.data.pairing import pair_masks
from continuad.data.product import GOOD, Item, Product, child, images_in
from continuad.errors import ContinuadError

_EVERY = 10  # without a table every tenth normal image is for testing, the share the authors' own table has


def read_visa(root: Path) -> Product:
    """One class of VisA; `split_csv/1cls.csv` beside the classes says what is learned from.

    Defect types come from `image_anno.csv` where it is there, else all are called "anomaly".
    """
    data = child(root, "Data")
    images = child(data, "Images") if data else None
    masks = child(data, "Masks") if data else None
    normal = _in(images, "Normal")
    bad_folder = child(images, "Anomaly") if images else None
    mask_folder = child(masks, "Anomaly") if masks else None
    bad = _in(images, "Anomaly")
    pairs, problems = pair_masks(bad_folder or root, bad, mask_folder, _in(masks, "Anomaly"))
    types = _defect_types(root)
    table = root.parent / "split_csv" / "1cls.csv"
    if table.is_file():
        learn, test, notes = _by_table(table, root, normal, bad)
    else:
        learn, test = (
            [p for i, p in enumerate(normal) if i % _EVERY != _EVERY - 1],
            normal[_EVERY - 1 :: _EVERY],
        )
        notes = [f"{printable(table)} not found: every {_EVERY}th normal image ({len(test)}) is used for testing."]
        test += bad
    problems += notes
    known = set(bad)
    items = [Item(p, types.get(p.name, "anomaly") if p in known else GOOD, pairs.get(p)) for p in test]
    return Product(printable(root.name), root, "visa", tuple(map(Item, learn)), tuple(items), tuple(problems))


def _by_table(table: Path, root: Path, normal: list[Path], bad: list[Path]) -> tuple[list[Path], list[Path], list[str]]:
    """Train and test images as `1cls.csv` (columns object, split, label, image, mask) lists them."""
    split = {row["image"].replace("\\", "/").casefold(): row["split"] for row in _rows(table, "image", "split")}
    learn: list[Path] = []
    test: list[Path] = []
    unlisted = []
    for path in normal + bad:
        where = split.pop(path.relative_to(root.parent).as_posix().casefold(), None)
        if where is None:
            unlisted.append(path.name)
        elif where == "train" and path in normal:
            learn.append(path)
        else:
            test.append(path)
    missing = [image for image in split if image.startswith(f"{root.name.casefold()}/")]
    problems = []
    if unlisted:
        problems.append(f"{counted(len(unlisted), 'image')} left out, not in {table.name}: {listed(unlisted)}.")
    if missing:
        problems.append(f"{counted(len(missing), 'image')} of {table.name} not on disk: {listed(missing)}.")
    return learn, test, problems


def _defect_types(root: Path) -> dict[str, str]:
    """Image name to the defects written in `image_anno.csv`; several are joined by a plus."""
    table = root / "image_anno.csv"
    if not table.is_file():
        return {}
    rows = _rows(table, "image", "label")
    return {
        Path(row["image"].replace("\\", "/")).name: printable(
            "+".join(part.strip() for part in row["label"].split(","))
        )
        for row in rows
        if "Anomaly" in row["image"]
    }


def _rows(table: Path, *needed: str) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ContinuadError(
            f"{printable(table)}: cannot be read as a table ({error}). Restore it from VisA."
        ) from error
    if rows and not set(needed) <= set(rows[0]):
        raise ContinuadError(f"{printable(table)}: needs the columns {', '.join(needed)}; it has {', '.join(rows[0])}.")
    return rows


def _in(folder: Path | None, name: str) -> list[Path]:
    below = child(folder, name) if folder else None
    return images_in(below) if below else []
