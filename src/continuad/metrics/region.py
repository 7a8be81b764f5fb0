"""AUPRO: how much of each defect *region* is found, so that large defects do not drown small ones.

Regions are the 8-connected components of each ground-truth mask. At a threshold t

    PRO(t) = mean over all regions of all images of the share of the region's pixels with score >= t,
    FPR(t) = share of all defect-free pixels, those of good images included, with score >= t.

A pixel of a region of n pixels thus weighs 1/n, and PRO is the weighted share of defect pixels found:
the kernel of `continuad.metrics.ranking` serves AUPRO as it serves the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from continuad.errors import ContinuadError
from continuad.metrics.ranking import Ranking, rank_parts, working_dtype

EIGHT_CONNECTED = np.ones((3, 3), bool)
Arrays = Iterable[ArrayLike]


def aupro(maps: Arrays, masks: Arrays, limit: float = 0.3) -> float:
    """Area under PRO over FPR up to the limit, divided by the limit, as MVTec AD defines it.

    The curve runs through the points of all distinct scores, starting at (0, 0); at the limit it is
    interpolated linearly. A curve that reaches the limit only beyond it is thereby cut at the limit, and
    the area is always divided by the limit itself, so the value lies in 0..1.
    Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021.

    Args:
        maps: (N, H, W) array, or maps (H, W) of different sizes; see `rank_pixels`.
        masks: the same shapes; any non-zero value is defect.
        limit: highest FPR, in (0, 1].

    Returns:
        0..1; NaN ("not available") without a defect pixel or without a defect-free one.
    """
    return pro_area(rank_pixels(maps, masks), limit)


def pro_area(ranking: Ranking, limit: float = 0.3) -> float:
    """`aupro` from pixels that are ranked already (`rank_pixels`)."""
    _check_limit(limit)
    if not ranking.has_both:
        return float("nan")
    # Towards each defect score the curve runs horizontally over the negatives between, then straight to
    # the point where that score is flagged: steeply, or aslant where negatives tie with it.
    alarms = np.stack([ranking.alarms_above, ranking.alarms], axis=1).ravel()
    x = np.concatenate(([0], alarms, [ranking.negatives])) / ranking.negatives
    y = np.concatenate(([0.0, 0.0], np.repeat(ranking.share, 2)))
    end = int(np.searchsorted(x, limit, "right"))
    if end < x.size:
        step = (limit - x[end - 1]) / (x[end] - x[end - 1])
        x = np.append(x[:end], limit)
        y = np.append(y[:end], y[end - 1] + step * (y[end] - y[end - 1]))
    return min(1.0, float(np.trapezoid(y, x)) / limit)


def aupro_stretched(maps: Arrays, masks: Arrays, limit: float = 0.3, steps: int = 200) -> float:
    """Not AUPRO, but what many papers' code (CFA, RD4AD, CFLOW, ADer) reports under that name.

    Thresholds are lowest + i (highest - lowest) / steps for i = 0 .. steps - 1, lowest and highest taken
    over all maps; a pixel is flagged when its score is *above* the threshold. Only points with FPR
    strictly below the limit are kept, and their FPR is stretched to [0, 1] by its own minimum and maximum
    before trapezoids are summed. (CFA and RD4AD divide by the maximum only: the same when the highest
    threshold flags no defect-free pixel.) It depends on the spread of scores, not on their order alone,
    and where the kept points end far below the limit it judges only the part they span. Use it to compare
    with such papers, and `aupro` for everything else.

    Args:
        maps, masks: as for `aupro`; iterated twice.
        limit: highest FPR, in (0, 1].
        steps: number of thresholds, at least 2.

    Returns:
        0..1; NaN without both classes, or when the kept points have no two different FPR.
    """
    _check_limit(limit)
    extremes = [(m.min(), m.max()) for m, _ in pairs(maps, masks) if m.size]
    if not extremes:
        return float("nan")
    lowest, highest = float(min(e[0] for e in extremes)), float(max(e[1] for e in extremes))
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ContinuadError("an anomaly map holds NaN or infinity: metrics need finite scores")
    grid = lowest + (highest - lowest) * np.arange(steps) / steps
    found, alarms, negatives = np.zeros(steps + 1), np.zeros(steps + 1, np.int64), 0
    for scores, mask in pairs(maps, masks):
        passed = np.searchsorted(grid, scores, "left")  # how many thresholds each score is above
        alarms += np.bincount(passed[~mask], minlength=steps + 1)
        found += np.bincount(passed[mask], region_weights(mask), steps + 1)
        negatives += mask.size - int(np.count_nonzero(mask))
    if negatives == 0 or found.sum() == 0:
        return float("nan")
    # A score that passed p thresholds is flagged at the first p of them.
    flagged = np.cumsum(alarms[::-1])[::-1][1:] / negatives
    pro = np.cumsum(found[::-1])[::-1][1:] / found.sum()
    kept = flagged < limit
    fpr, pro = flagged[kept][::-1], pro[kept][::-1]
    if fpr.size == 0 or fpr[0] == fpr[-1]:
        return float("nan")
    return float(np.trapezoid(pro, (fpr - fpr[0]) / (fpr[-1] - fpr[0])))


def region_weights(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each defect pixel of an (H, W) mask, in row order: 1 / size of its 8-connected region."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return np.zeros(0)
    # Labelling takes most of the time, and defects are small: only the box around them is labelled.
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels = ndimage.label(box, EIGHT_CONNECTED)[0][box]
    return 1.0 / np.bincount(labels)[labels]


def rank_pixels(maps: Arrays, masks: Arrays) -> Ranking:
    """Rank the pixels of all maps, with PRO as the share: one pass for defects, one for all scores.

    Memory is bounded by the defect pixels and a few chunks of a million scores. For more maps than fit in
    memory give a memory-mapped array, or any object that yields the maps anew each time it is iterated.

    Args:
        maps: (N, H, W) array, or any collection of (H, W) maps, of one or several sizes and real dtypes.
        masks: as many, of the same shapes; any non-zero value is defect.

    Raises:
        ContinuadError: numbers or shapes of maps and masks differ, a map holds NaN or infinity (both name
            the map by its position), or maps is an iterator, which would be used up after one pass.
    """
    positives: list[NDArray[Any]] = []
    weights: list[NDArray[np.float64]] = []
    dtypes: set[np.dtype[Any]] = set()
    total = 0
    for scores, mask in pairs(maps, masks):
        total += scores.size
        dtypes.add(scores.dtype)
        if mask.any():
            positives.append(scores[mask])
            weights.append(region_weights(mask))
    dtypes = dtypes or {np.dtype(np.float32)}
    working = working_dtype(dtypes)
    return rank_parts(
        np.concatenate([np.zeros(0, working), *positives], dtype=working),
        np.concatenate([np.zeros(0), *weights]),
        (np.asarray(m) for m in maps),
        total,
        dtypes,
    )


def pairs(maps: Arrays, masks: Arrays) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Each map (H, W) with its mask (H, W) as bool, checked to belong together."""
    for name, arrays in (("maps", maps), ("masks", masks)):
        if isinstance(arrays, Iterator):
            raise ContinuadError(f"{name} is an iterator, and metrics read it twice: give a list or an array")
    for index, (scores, truth) in enumerate(zip_longest(maps, masks)):
        if scores is None or truth is None:
            raise ContinuadError(f"maps and masks differ in number: {index} pairs, then one without a partner")
        scores, mask = np.asarray(scores), np.asarray(truth) != 0
        if scores.ndim != 2 or scores.shape != mask.shape:
            raise ContinuadError(
                f"anomaly map {index} has shape {scores.shape} and its mask {mask.shape}: "
                "both must be (height, width) and equal"
            )
        yield scores, mask


def _check_limit(limit: float) -> None:
    if not 0 < limit <= 1:
        raise ContinuadError(f"limit {limit} is no false-positive rate: give a value above 0 and up to 1")
