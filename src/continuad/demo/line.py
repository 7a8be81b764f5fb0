"""The synthetic product line: ten small products with defects and exact masks, made from a seed, no download.

`draw` makes one picture and its mask, `write_line` whole folders in MVTec layout. The parts are geometry in
relative coordinates (`tools`, and a file for each product); `camera` turns a drawing into a photograph. A damaged
part is drawn twice, with and without its defect, under the same light and the same sensor noise: the mask is where
the two differ, and everywhere else the picture is that of the sound part, to the byte.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from continuad.demo import (
    bottle,
    cable,
    camera,
    capsule,
    hazelnut,
    metal_nut,
    pill,
    screw,
    toothbrush,
    transistor,
    zipper,
)
from continuad.demo.tools import Array, Grid, sample_grid
from continuad.errors import ContinuadError

__all__ = ["DEFECTS", "PRODUCTS", "draw", "write_line"]

_Painter = Callable[[Grid, np.random.Generator, "str | None", np.random.Generator], Array]

_PAINTERS: dict[str, _Painter] = {
    "bottle": bottle.draw,
    "cable": cable.draw,
    "capsule": capsule.draw,
    "hazelnut": hazelnut.draw,
    "transistor": transistor.draw,
    "metal_nut": metal_nut.draw,
    "pill": pill.draw,
    "screw": screw.draw,
    "zipper": zipper.draw,
    "toothbrush": toothbrush.draw,
}

_Picture = tuple[str, str, "str | None", int, int]  # product, file below its folder, defect, split, number

PRODUCTS: tuple[str, ...] = tuple(_PAINTERS)
"""The ten products in stream order."""

DEFECTS: dict[str, tuple[str, ...]] = {
    "bottle": bottle.DEFECTS,
    "cable": cable.DEFECTS,
    "capsule": capsule.DEFECTS,
    "hazelnut": hazelnut.DEFECTS,
    "transistor": transistor.DEFECTS,
    "metal_nut": metal_nut.DEFECTS,
    "pill": pill.DEFECTS,
    "screw": screw.DEFECTS,
    "zipper": zipper.DEFECTS,
    "toothbrush": toothbrush.DEFECTS,
}
"""The defect types of each product."""

_SMALLEST = 64
_SETTINGS = ".drawn.json"
_REVISION = 1  # of the drawings: raise it when a seed no longer gives the same bytes
_TRAIN, _TEST_GOOD, _TEST_BAD = 1, 2, 3  # which split a picture's seed belongs to; defects count on from the last


def draw(
    product: str, *, defect: str | None = None, seed: int = 0, size: int | tuple[int, int] = 128
) -> tuple[Array, Array]:
    """One photograph of a product, and where it is damaged.

    The same seed gives the same part in the same light, with or without a defect and (but for the sensor's noise)
    at every size. A picture that isn't square shows more of the table along its longer side.

    Args:
        product: one of `PRODUCTS`.
        defect: one of `DEFECTS[product]`, or None for a sound part.
        seed: 0 or more.
        size: side length, or (height, width), in pixels; 64 or more.

    Returns:
        image: (H, W, 3) uint8; mask: (H, W) bool, True where the defect changed the picture.

    Raises:
        ContinuadError: unknown product or defect, a size below 64, a negative seed.
    """
    _check(product, defect)
    return _photograph(product, defect, (_natural(seed, "seed"), PRODUCTS.index(product)), _shape(size))


def write_line(
    root: Path,
    *,
    products: Sequence[str] = PRODUCTS,
    size: int | tuple[int, int] = 128,
    train: int = 40,
    test_good: int = 12,
    per_defect: int = 5,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Path]:
    """Draws products into `root` in MVTec layout, or finds that this has been done already.

    Everything is drawn in a hidden folder beside `root`, which takes its place once complete: a `root` that exists
    is whole. A picture depends on the seed, its product, split and number only, not on what else is drawn.

    Args:
        root: the folder to make; parents are made too.
        products: some of `PRODUCTS`.
        size: side length, or (height, width), in pixels; 64 or more.
        train, test_good: how many good pictures a product.
        per_defect: how many pictures a defect type.
        seed: 0 or more.
        progress: called after every picture with its product, the pictures done and the pictures in all.

    Returns:
        The products' folders, in the order asked for.

    Raises:
        ContinuadError: a wrong option, or `root` exists and is something else.
    """
    root, shape = Path(root), _shape(size)
    if not products or len(set(products)) < len(products):
        raise ContinuadError(f"products: name one or more of {', '.join(PRODUCTS)}, each once")
    for product in products:
        _check(product, None)
    counts = {"train": train, "test_good": test_good, "per_defect": per_defect, "seed": seed}
    settings = {
        "revision": _REVISION,
        "products": list(products),
        "size": list(shape),
        **{name: _natural(value, name) for name, value in counts.items()},
    }
    pictures = [
        (product, *picture) for product in products for picture in _pictures(product, train, test_good, per_defect)
    ]
    if root.exists() and (root.is_file() or any(root.iterdir())):
        _check_same(root, settings, [root / product / name for product, name, *_ in pictures])
    else:
        _write_whole(root, settings, _photographs(pictures, seed, shape, progress))
    return [root / product for product in products]


def _photographs(
    pictures: Sequence[_Picture], seed: int, shape: tuple[int, int], progress: Callable[[str, int, int], None] | None
) -> Iterator[tuple[str, Array]]:
    """The files of some pictures below the line's folder: each picture, and its mask where it has a defect."""
    for done, (product, name, defect, split, index) in enumerate(pictures, start=1):
        image, mask = _photograph(product, defect, (seed, PRODUCTS.index(product), split, index), shape)
        yield f"{product}/{name}", image
        if defect is not None:
            yield f"{product}/ground_truth/{defect}/{index:03d}_mask.png", mask.astype(np.uint8) * 255
        if progress is not None:
            progress(product, done, len(pictures))


def _write_whole(root: Path, settings: dict[str, object], files: Iterable[tuple[str, Array]]) -> None:
    """Make `root` of these files in one step: they are written beside it first."""
    partial = root.parent / f".{root.name}.partial"
    if partial.exists():  # a write that was killed
        shutil.rmtree(partial)
    for name, pixels in files:
        _save(partial / name, pixels)
    (partial / _SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")
    if root.exists():
        root.rmdir()
    partial.rename(root)


def _pictures(product: str, train: int, test_good: int, per_defect: int) -> Iterator[tuple[str, str | None, int, int]]:
    """Every picture of a product: its file below the product's folder, its defect, and its seed's split and number."""
    for index in range(train):
        yield f"train/good/{index:03d}.png", None, _TRAIN, index
    for index in range(test_good):
        yield f"test/good/{index:03d}.png", None, _TEST_GOOD, index
    for kind, defect in enumerate(DEFECTS[product]):
        for index in range(per_defect):
            yield f"test/{defect}/{index:03d}.png", defect, _TEST_BAD + kind, index


def _photograph(product: str, defect: str | None, seed: tuple[int, ...], shape: tuple[int, int]) -> tuple[Array, Array]:
    """Draws and photographs one part; `seed` differs for every picture of every line."""
    part, flaw, light, noise = np.random.SeedSequence(seed).spawn(4)
    new = np.random.default_rng
    shot = camera.take_shot(new(light))
    grid = sample_grid(shape[0] * camera.FINENESS, shape[1] * camera.FINENESS)
    paint = _PAINTERS[product]
    picture = camera.expose(paint(grid, new(part), None, new(flaw)), shot)
    mask = np.zeros(shape, dtype=bool)
    if defect is not None:
        damaged = camera.expose(paint(grid, new(part), defect, new(flaw)), shot)
        mask = camera.changed(picture, damaged)
        picture = np.where(mask, damaged, picture)
    return camera.record(picture, shot, new(noise)), mask


def _save(path: Path, pixels: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=3)


def _check(product: str, defect: str | None) -> None:
    if product not in DEFECTS:
        raise ContinuadError(f"product {product!r} is not drawn; there are {', '.join(PRODUCTS)}")
    if defect is not None and defect not in DEFECTS[product]:
        raise ContinuadError(f"defect {defect!r}: {product} has {', '.join(DEFECTS[product])}")


def _natural(value: int, name: str) -> int:
    if value < 0:
        raise ContinuadError(f"{name}={value}: give 0 or more")
    return int(value)


def _shape(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < _SMALLEST:
        raise ContinuadError(f"size={size}: drawn products need {_SMALLEST} pixels or more on each side")
    return int(height), int(width)


def _check_same(root: Path, settings: dict[str, object], files: list[Path]) -> None:
    """Refuses a folder that isn't exactly what would be written."""
    advice = "delete it or choose another folder"
    note = root / _SETTINGS
    if not note.is_file():
        raise ContinuadError(f"{root} already exists and is not a drawn product line; {advice}")
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ContinuadError(f"{note} is not readable ({error}); {advice}") from error
    if not isinstance(found, dict) or found != settings:
        other = [k for k, v in settings.items() if not isinstance(found, dict) or found.get(k) != v]
        raise ContinuadError(f"{root} holds a product line drawn with other settings ({', '.join(other)}); {advice}")
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise ContinuadError(f"{root} lacks {len(missing)} of its pictures, the first {missing[0].name}; {advice}")
