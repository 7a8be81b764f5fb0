"""From scores to verdicts: where thresholds lie, set on good images only, and what they promise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from scipy import ndimage
from torch import Tensor

from continuad.errors import ContinuadError

GOOD_PIXELS = (
    0.001  # default share of good pixels above the pixel threshold; chosen on drawn products, see docs/protocol.md
)
DRAWN_PIXELS = 16384  # of each good map, for the pixel threshold: bounds the working memory


class Thresholds(NamedTuple):
    """The scale of one product's scores, and what its image threshold promises.

    Attributes:
        centre: map value of an ordinary good surface (mean over the maps of good images).
        pixel: map value above which a pixel of an anomalous image is defective.
        image: score above which an image is anomalous.
        rate: share of good images in [0, 1] that may score higher: the one that was asked for, or, with too few images
            to promise that, the lowest that they can promise. NaN where nothing is known.
    """

    centre: float
    pixel: float
    image: float
    rate: float = math.nan


class Good(NamedTuple):
    """What is remembered of the predictions of N good images until their thresholds are set.

    Attributes:
        centres: (N,) mean of each map.
        images: (N,) what a rule compares with the image threshold.
        pixels: (N, S) what it takes the pixel threshold from.
    """

    centres: np.ndarray
    images: np.ndarray
    pixels: np.ndarray


class Rule(Protocol):
    """How thresholds follow from predictions of good images that were not learned from, and what they mean."""

    @property
    def rate(self) -> float:
        """Share of good images that may be called anomalous."""

    def look(self, scores: np.ndarray, maps: np.ndarray) -> Good:
        """What to remember of the predictions (N,), (N, H, W) of some good images."""

    def pixel(self, good: Good) -> float:
        """The pixel threshold."""

    def image(self, values: np.ndarray, rate: float) -> tuple[float, float]:
        """The image threshold for a rate of false alarms from the (N,) `Good.images`, and the rate it promises."""

    def decide(self, scores: np.ndarray, maps: np.ndarray, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bool anomalous, (N, H, W) bool defective."""


@dataclass(frozen=True)
class FalseAlarmRate:
    """At most this share of good images is called anomalous: split conformal prediction (Vovk et al. 2005).

    Of n scores of good images that were not learned from, the ceil((n + 1)(1 - rate))-th is the threshold: a further
    good image, as like to them as they are to each other, exceeds it with a probability of at most `rate`. That is a
    promise on the average over draws of the n images. With fewer than 1/rate - 1 images it cannot be given; then the
    threshold is the highest score, which promises 1/(n + 1).

    The mask of an anomalous image is a question of its own: it takes the map value that a share `pixels` of all pixels
    of those good images exceed. The mask of an image that is called good is empty.

    Args:
        rate: of false alarms among good images, in [0, 1).
        confidence: instead of on the average, the promise holds for this share of all draws of the n images, in
            (0, 1): the false-alarm rate above the k-th of n scores is distributed as Beta(n + 1 - k, k).
        pixels: share of good pixels in (0, 1), or "peaks": the pixel threshold is set as the image threshold is, from
            the highest value of every map, so that at most `rate` of good images have any pixel above it.
    """

    rate: float = 0.01
    confidence: float | None = None
    pixels: float | Literal["peaks"] = GOOD_PIXELS

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ContinuadError(f"false alarm rate {self.rate} must lie in [0, 1)")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise ContinuadError(f"confidence {self.confidence} of the false alarm rate must lie between 0 and 1")
        if self.pixels != "peaks" and not 0 < self.pixels < 1:
            raise ContinuadError(f"share of good pixels {self.pixels} must lie between 0 and 1, or be peaks")

    def __str__(self) -> str:
        parts = [f"far:{self.rate}"]
        parts += [] if self.confidence is None else [f"confidence={self.confidence}"]
        parts += [] if self.pixels == GOOD_PIXELS else [f"pixels={self.pixels}"]
        return ":".join(parts)

    def look(self, scores: np.ndarray, maps: np.ndarray) -> Good:
        """Scores, and of every map its highest value or some thousand values drawn at random."""
        flat = maps.reshape(len(maps), -1)
        if self.pixels == "peaks":
            return Good(flat.mean(1), scores, flat.max(1, keepdims=True))
        places = np.random.default_rng(0).permutation(flat.shape[1])[:DRAWN_PIXELS]
        return Good(flat.mean(1), scores, flat[:, places])

    def pixel(self, good: Good) -> float:
        """The quantile of the drawn pixels, or of the peaks."""
        if self.pixels == "peaks":
            return self.image(good.pixels[:, 0], self.rate)[0]
        return float(np.quantile(good.pixels, 1 - self.pixels, method="higher"))

    def image(self, values: np.ndarray, rate: float) -> tuple[float, float]:
        """See the class."""
        if self.confidence is None:
            return conformal(values, rate)
        return confident(values, rate, self.confidence)

    def decide(self, scores: np.ndarray, maps: np.ndarray, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bool anomalous, (N, H, W) bool defective."""
        flagged = scores > thresholds.image
        return flagged, (maps > thresholds.pixel) & flagged[:, None, None]


@dataclass(frozen=True)
class DefectArea:
    """The rule of Bergmann et al. 2019 (thesis 2.3): defects smaller than an area do not count.

    The threshold is raised until the largest connected region (8 neighbours) above it in any map of a good image is
    smaller than `pixels`: of n images this promises 1/(n + 1) false alarms. An image is anomalous when a region of at
    least `pixels` exceeds the threshold; smaller regions are dropped from its mask.
    """

    pixels: int = 100

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise ContinuadError(f"smallest defect area {self.pixels} must be at least 1 pixel")

    def __str__(self) -> str:
        return f"area:{self.pixels}"

    @property
    def rate(self) -> float:
        """No good image may be called anomalous, as far as that can be promised."""
        return 0.0

    def look(self, scores: np.ndarray, maps: np.ndarray) -> Good:
        """Of every map the lowest value above which no such region is left."""
        lowest = np.array([_lowest_threshold(m, self.pixels) for m in maps])
        return Good(maps.reshape(len(maps), -1).mean(1), lowest, lowest[:, None])

    def pixel(self, good: Good) -> float:
        """That of the image threshold."""
        return self.image(good.images, self.rate)[0]

    def image(self, values: np.ndarray, rate: float) -> tuple[float, float]:
        """As `conformal`."""
        return conformal(values, rate)

    def decide(self, scores: np.ndarray, maps: np.ndarray, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bool anomalous, (N, H, W) bool defective."""
        masks = np.stack([_large_regions(m > thresholds.image, self.pixels) for m in maps])
        return np.asarray(masks.any((1, 2))), masks


def conformal(values: np.ndarray, rate: float) -> tuple[float, float]:
    """The ceil((n + 1)(1 - rate))-th of n values in ascending order, or the highest, and the rate that it promises.

    >>> conformal(np.arange(1, 39), 0.01)  # (38.0, 1 / 39)
    """
    n = len(values)
    promised = max(rate, 1 / (n + 1))
    return float(np.sort(values)[conformal_place(n, rate) - 1]), promised


def conformal_place(n: int, rate: float) -> int:
    """ceil((n + 1)(1 - rate)), but not more than n: which of n values, counted from 1, is the threshold."""
    return min(n, math.ceil(round((n + 1) * (1 - rate), 9)))  # rounded: 100 * (1 - 0.01) may be 99.00000000000001


def confident(values: np.ndarray, rate: float, confidence: float) -> tuple[float, float]:
    """The lowest of n values above which at most a share `rate` of good images lies, for a share `confidence` of all
    draws of the n; or the highest, and the rate that it promises so."""
    from scipy.stats import beta  # takes longer to import than most commands to run

    places = np.arange(1, len(values) + 1)
    enough = np.flatnonzero(beta.cdf(rate, len(values) + 1 - places, places) >= confidence)
    place = int(places[enough[0]]) if len(enough) else len(values)
    promised = rate if len(enough) else float(beta.ppf(confidence, 1, len(values)))
    return float(np.sort(values)[place - 1]), promised


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
    """`far:0.01`, `far:0.01:confidence=0.95:pixels=0.005` or `area:100`, as the command line writes them."""
    kind, _, rest = text.partition(":")
    value, *options = rest.split(":")
    try:
        if kind == "far":
            return FalseAlarmRate(float(value), **_options(options))
        if kind == "area" and not options:
            return DefectArea(int(value))
    except (ValueError, TypeError):
        pass
    raise ContinuadError(
        f"threshold rule '{text}' is not known; use far:RATE (such as far:0.01), with or without :confidence=0.95 and "
        ":pixels=SHARE or :pixels=peaks, or area:PIXELS"
    )


def _options(parts: list[str]) -> dict[str, Any]:
    pairs = dict(part.split("=") for part in parts)
    return {name: value if value == "peaks" else float(value) for name, value in pairs.items()}


def standardise(values: Tensor, centre: float, threshold: float) -> Tensor:
    """Scale so that 0 is an ordinary good surface and 1 the threshold; the order of values stays."""
    width = threshold - centre
    if not math.isfinite(width) or width <= 0:
        width = 1.0  # constant calibration maps: keep the scale, shift the centre
    return (values - centre) / width
