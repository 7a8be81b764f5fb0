"""Metrics of anomaly maps against ground-truth masks: all pixels of all images of one task together.

`maps` and `masks` are (N, H, W) arrays or collections of (H, W) arrays of any sizes and real dtypes that
can be iterated twice; `continuad.metrics.region.rank_pixels` says more on memory and errors.
"""

from __future__ import annotations

import numpy as np

from continuad.errors import ContinuadError
from continuad.metrics.image import f1_from_counts, flag_counts
from continuad.metrics.ranking import auroc, average_precision, best_f1
from continuad.metrics.region import Arrays, aupro, pairs, pro_area, rank_pixels


def pixel_metrics(maps: Arrays, masks: Arrays, limit: float = 0.3) -> dict[str, float]:
    """All pixel metrics from one sort.

    Args:
        maps: scores, finite, any range; higher is more anomalous.
        masks: any non-zero value is defect.
        limit: highest false-positive rate of AUPRO.

    Returns:
        pixel_auroc, pixel_ap, pixel_f1_max, pixel_aupro (0..1), pixel_f1_max_threshold (in the unit of the
        maps; the decision is `score > threshold`). All NaN ("not available") without a defect pixel or
        without a defect-free one.
    """
    ranking = rank_pixels(maps, masks)
    f1, threshold = best_f1(ranking)
    return {
        "pixel_auroc": auroc(ranking),
        "pixel_ap": average_precision(ranking),
        "pixel_f1_max": f1,
        "pixel_aupro": pro_area(ranking, limit),
        "pixel_f1_max_threshold": threshold,
    }


def pixel_auroc(maps: Arrays, masks: Arrays) -> float:
    """Area under the ROC curve over all pixels, 0..1; NaN with one class only."""
    return auroc(rank_pixels(maps, masks))


def pixel_ap(maps: Arrays, masks: Arrays) -> float:
    """Average precision (PR-AUC) over all pixels, 0..1; NaN with one class only."""
    return average_precision(rank_pixels(maps, masks))


def pixel_f1_max(maps: Arrays, masks: Arrays) -> tuple[float, float]:
    """Best F1 over all thresholds on these very pixels, and the threshold; see `image.f1_max`."""
    return best_f1(rank_pixels(maps, masks))


def pixel_aupro(maps: Arrays, masks: Arrays, limit: float = 0.3) -> float:
    """Area under per-region overlap up to the false-positive rate `limit`; see `region.aupro`."""
    return aupro(maps, masks, limit)


def pixel_f1_at(maps: Arrays, masks: Arrays, threshold: float) -> float:
    """F1 over all pixels of the decision `score > threshold`, 0..1; NaN with one class only."""
    hits = flagged = positives = total = 0
    for index, (scores, mask) in enumerate(pairs(maps, masks)):
        if np.isnan(scores).any():
            raise ContinuadError(f"anomaly map {index} holds NaN: metrics need finite scores")
        found, marked = flag_counts(scores, mask, threshold)
        hits, flagged = hits + found, flagged + marked
        positives, total = positives + int(np.count_nonzero(mask)), total + mask.size
    return f1_from_counts(hits, flagged, positives, total)
