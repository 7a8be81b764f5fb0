"""From scores to verdicts: where the threshold lies, set on good val images only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from scipy import ndimage
from torch import Tensor

from continuad.errors import ContinuadError


class Thresholds(NamedTuple):
    """The scale of one product's scores.

    Attributes:
        centre: map value of an ordinary good surface (mean over the val maps).
        pixel: map value above which a pixel is defective.
        image: score above which an image is anomalous.
    """

    centre: float
    pixel: float
    image: float


class Rule(Protocol):
    """How thresholds follow from the scores (N,) and maps (N, H, W) of good val images, and what they mean."""

    def thresholds(self, scores: np.ndarray, maps: np.ndarray) -> Thresholds: ...

    def decide(self, scores: np.ndarray, maps: np.ndarray, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class FalseAlarmRate:
    """At most this share of good images may be called anomalous (empirical quantile, rounded up).

    With fewer than 1/rate val images this is their highest score. The pixel threshold is the same quantile
    of the maps' maxima, so that a detector whose score is the maximum of its map calls an image anomalous
    exactly when its mask is not empty. The mask of an image that is called good is always empty.
    """

    rate: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ContinuadError(f"false alarm rate {self.rate} must lie in [0, 1)")

    def __str__(self) -> str:
        return f"far:{self.rate}"

    def thresholds(self, scores: np.ndarray, maps: np.ndarray) -> Thresholds:
        peaks = maps.reshape(len(maps), -1).max(1)
        image = float(np.quantile(scores, 1 - self.rate, method="higher"))
        pixel = float(np.quantile(peaks, 1 - self.rate, method="higher"))
        return Thresholds(float(maps.mean()), pixel, image)

    def decide(self, scores: np.ndarray, maps: np.ndarray, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bool anomalous, (N, H, W) bool defective."""
        flagged = scores > thresholds.image
        return flagged, (maps > thresholds.pixel) & flagged[:, None, None]


@dataclass(frozen=True)
class DefectArea:
    """The rule of Bergmann et al. 2019 (thesis 2.3): defects smaller than an area do not count.

    The threshold is raised until the largest connected region (8 neighbours) above it in any good val map
    is smaller than `pixels`. An image is anomalous when a region of at least `pixels` exceeds the threshold;
    smaller regions are dropped from its mask.
    """

    pixels: int = 100

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise ContinuadError(f"smallest defect area {self.pixels} must be at least 1 pixel")

    def __str__(self) -> str:
        return f"area:{self.pixels}"

    def thresholds(self, scores: np.ndarray, maps: np.ndarray) -> Thresholds:
        pixel = max(_lowest_threshold(m, self.pixels) for m in maps)
        return Thresholds(float(maps.mean()), pixel, pixel)

    def decide(self, scores: np.ndarray, maps: np.ndarray, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bool anomalous, (N, H, W) bool defective."""
        masks = np.stack([_large_regions(m > thresholds.pixel, self.pixels) for m in maps])
        return np.asarray(masks.any((1, 2))), masks


def _lowest_threshold(one: np.ndarray, area: int) -> float:
    """The lowest map value above which no connected region of `area` pixels is left, by bisection."""
    values = np.unique(one)
    low, high = -1, len(values) - 1  # above values[high] nothing is left at all
    while high - low > 1:
        middle = (low + high) // 2
        if _large_regions(one > values[middle], area).any():
            low = middle
        else:
            high = middle
    return float(values[high])


def _large_regions(mask: np.ndarray, area: int) -> np.ndarray:
    regions, _ = ndimage.label(mask, np.ones((3, 3)))  # diagonal neighbours belong together
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return (sizes >= area)[regions]


def parse_rule(text: str) -> Rule:
    """`far:0.01` or `area:100`, as the command line writes them."""
    kind, _, value = text.partition(":")
    try:
        if kind == "far":
            return FalseAlarmRate(float(value))
        if kind == "area":
            return DefectArea(int(value))
    except ValueError:
        pass
    raise ContinuadError(f"threshold rule '{text}' is not known; use far:RATE (e.g. far:0.01) or area:PIXELS")


def standardise(values: Tensor, centre: float, threshold: float) -> Tensor:
    """Scale so that 0 is an ordinary good surface and 1 the threshold; the order of values stays."""
    width = threshold - centre
    if not math.isfinite(width) or width <= 0:
        width = 1.0  # constant calibration maps: keep the scale, shift the centre
    return (values - centre) / width
