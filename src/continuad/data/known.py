"""Known streams of products by name, and orders to learn them in."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from continuad.data.names import listed, missing_part, printable
from continuad.data.product import child
from continuad.errors import ContinuadError

STREAMS: dict[str, tuple[str, ...]] = {
    "thesis10": (
        "bottle", "cable", "capsule", "hazelnut", "transistor", "metal_nut", "pill", "screw", "zipper",
        "toothbrush",
    ),
    "mvtec15": (
        "bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw",
        "tile", "toothbrush", "transistor", "wood", "zipper",
    ),
    "realset": ("screw", "magnetic_tile", "fabric_03", "hazelnut", "transistor", "pcb", "ballscrew"),
    "visa": (
        "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pcb1", "pcb2",
        "pcb3", "pcb4", "pipe_fryum",
    ),
    "btad": ("01", "02", "03"),
    "mpdd": ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"),
}  # fmt: skip


def named_stream(name: str, root: str | Path) -> list[Path]:
    """The folders of a known stream, each at `root/<product>` or `root/<set>/<product>`.

    Raises:
        ContinuadError: unknown name, or products that are missing or there twice, all named at once.
    """
    if name not in STREAMS:
        raise ContinuadError(f"{name}: no such stream. Known are {', '.join(STREAMS)}; or give the product folders.")
    base = Path(root).expanduser().absolute()
    here = printable(base.as_posix())
    if not os.path.isdir(base):
        why = missing_part(base) or "this is a file, not a folder"
        raise ContinuadError(f"{here}: {why}. Give the folder that holds {listed(STREAMS[name], 3)}.")
    places = [[base / product] if _is_product(base / product) else _below(base, product) for product in STREAMS[name]]
    missing = [product for product, found in zip(STREAMS[name], places, strict=True) if not found]
    if missing:
        raise ContinuadError(
            f"{here}: {len(missing)} of the {len(STREAMS[name])} products of {name} are missing: "
            f"{', '.join(missing)}. Looked for {here}/{missing[0]} and {here}/*/{missing[0]}, "
            "with a train folder (VisA: Data) in it."
        )
    twice = [", ".join(map(str, found)) for found in places if len(found) > 1]
    if twice:
        places_of = "; ".join(map(printable, twice))
        raise ContinuadError(f"{here}: products of {name} are there twice: {places_of}. Give a narrower root.")
    return [found[0] for found in places]


def orders(n: int, count: int, seed: int = 0) -> list[tuple[int, ...]]:
    """`count` different orders of `n` tasks; the first is as given, the others are seeded permutations."""
    if not 1 <= count <= math.factorial(n):
        raise ContinuadError(f"{count} orders were asked for; {n} products have 1 to {math.factorial(n)}.")
    found = [tuple(range(n))]
    random = np.random.default_rng(seed)
    while len(found) < count:
        drawn = tuple(random.permutation(n).tolist())
        if drawn not in found:
            found.append(drawn)
    return found


def _below(base: Path, product: str) -> list[Path]:
    return sorted(path for path in base.glob(f"*/{product}") if _is_product(path))


def _is_product(folder: Path) -> bool:
    return folder.is_dir() and child(folder, "train", "Data") is not None
