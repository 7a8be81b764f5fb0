"""Statistics that separate good from defective test images without looking at the part.

If the brightness of a picture, or the program that saved it, gives the answer away, then a high image score proves
nothing about the detector. Each statistic is judged by its AUROC, as a detector would be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SEPARATES = 0.9
_SURE = 3.3  # standard deviations from 0.5, about 1 in 1,000 by chance; several statistics are tried

# Name, and how the upper and the lower end of it are called.
MEASURES = {
    "brightness": ("brighter", "darker"),
    "contrast": ("richer in contrast", "poorer in contrast"),
    "sharpness": ("sharper or noisier", "softer"),
    "bytes/pixel": ("larger as files", "smaller as files"),
}
KINDS = ("file type", "colour mode", "image size")


@dataclass(frozen=True)
class Look:
    """Statistics of one image: numbers for `MEASURES`, and what it is for `KINDS`."""

    measures: tuple[float, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Separation:
    """How well one statistic separates two groups of images.

    Attributes:
        statistic: a name of `MEASURES` or `KINDS`.
        auroc: 0.5 to 1; 1 means that the statistic alone separates the groups without a mistake.
        needed: from which AUROC this is no accident with so few images; may be above 1.
        other: what the second group is like, compared with the first.
    """

    statistic: str
    auroc: float
    needed: float
    other: str

    @property
    def separates(self) -> bool:
        return self.auroc >= self.needed


def look_at(rgb: Image.Image, file_type: str, mode: str, file_bytes: int) -> Look:
    """Mean grey, its standard deviation, variance of the Laplacian, bytes per pixel; file type, mode and size."""
    grey = np.asarray(rgb.convert("L"), dtype=np.int16)
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    sharpness = float(edges.var(dtype=np.float64)) if edges.size else 0.0
    measures = (
        float(grey.mean(dtype=np.float64)),
        float(grey.std(dtype=np.float64)),
        sharpness,
        file_bytes / grey.size,
    )
    return Look(measures, (file_type, mode, f"{rgb.width} x {rgb.height}"))


def separations(first: Sequence[Look], second: Sequence[Look]) -> list[Separation]:
    """How well every statistic separates two groups, the best first; none if a group is empty.

    A kind is scored as "is it what most of the first group are", so that many kinds in few images prove nothing.
    """
    if not first or not second:
        return []
    needed = needed_auroc(len(first), len(second))
    found = []
    for i, (name, (upper, lower)) in enumerate(MEASURES.items()):
        value = auroc([look.measures[i] for look in first], [look.measures[i] for look in second])
        found.append(Separation(name, max(value, 1 - value), needed, upper if value > 0.5 else lower))
    for i, name in enumerate(KINDS):
        usual = Counter(look.kinds[i] for look in first).most_common(1)[0][0]
        strange = [look.kinds[i] for look in second if look.kinds[i] != usual]
        value = auroc([look.kinds[i] != usual for look in first], [look.kinds[i] != usual for look in second])
        other = f"{Counter(strange).most_common(1)[0][0]} instead of {usual}" if strange else usual
        found.append(Separation(name, max(value, 0.5), needed, other))
    return sorted(found, key=lambda separation: -separation.auroc)


def auroc(low: Sequence[float], high: Sequence[float]) -> float:
    """Share of pairs in which the one of `high` is the larger; ties count half."""
    _, which, number = np.unique([*low, *high], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(number) - (number - 1) / 2)[which][len(low) :]  # equal values share their mean rank
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


def needed_auroc(n: int, m: int) -> float:
    """At least `SEPARATES`, and more than chance explains: 0.5 + 3.3 standard deviations of n against m images."""
    return max(SEPARATES, 0.5 + _SURE * ((n + m + 1) / (12 * n * m)) ** 0.5)
