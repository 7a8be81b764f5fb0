"""Metrics of image scores: one score and one label an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from continuad.errors import ContinuadError
from continuad.metrics.ranking import auroc, average_precision, best_f1, rank


def image_metrics(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """All image metrics from one sort.

    Args:
        scores: (N,) finite, any range; higher is more anomalous.
        labels: (N,) any non-zero value is an anomalous image.

    Returns:
        image_auroc, image_ap, image_f1_max (0..1), image_f1_max_threshold (in the unit of the scores); all
        NaN ("not available") when the images are all good or all anomalous.

    Raises:
        ContinuadError: shapes differ, or a score is NaN or infinite.
    """
    ranking = rank(scores, labels)
    f1, threshold = best_f1(ranking)
    return {
        "image_auroc": auroc(ranking),
        "image_ap": average_precision(ranking),
        "image_f1_max": f1,
        "image_f1_max_threshold": threshold,
    }


def image_auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve, 0..1; NaN with one class only. Arguments as `image_metrics`.

    Anomalous 3, 2 and good 2, 1: of four pairs three are in order and one is tied, (3 + 1/2) / 4 = 0.875.
    """
    return auroc(rank(scores, labels))


def image_ap(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision (area under the precision-recall steps), 0..1; NaN with one class only.

    Anomalous 3, 1 and good 2: recall rises by 1/2 at precision 1 and by 1/2 at 2/3, together 5/6.
    """
    return average_precision(rank(scores, labels))


def f1_max(scores: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Best F1 over all thresholds on these very scores, and a threshold that attains it.

    The F1 of the thesis's tables. It is chosen on test data, hence an upper bound and named apart from the
    F1 at the model's own threshold (`f1_at`). `f1_at(scores, labels, threshold)` returns the same value.

    Returns:
        (F1 0..1, threshold); of equal ones the highest threshold. (NaN, NaN) with one class only.
    """
    return best_f1(rank(scores, labels))


def f1_at(scores: ArrayLike, labels: ArrayLike, threshold: float) -> float:
    """F1 of the decision `score > threshold`, 0..1; NaN with one class only.

    Raises:
        ContinuadError: shapes differ, or a score or the threshold is NaN.
    """
    values, positive = np.asarray(scores), np.asarray(labels) != 0
    if values.shape != positive.shape:
        raise ContinuadError(f"scores have shape {values.shape}, labels {positive.shape}: give one label a score")
    if np.isnan(values).any():
        raise ContinuadError("scores hold NaN: metrics need finite scores")
    hits, flagged = flag_counts(values, positive, threshold)
    return f1_from_counts(hits, flagged, int(positive.sum()), positive.size)


def flag_counts(scores: NDArray, positive: NDArray[np.bool_], threshold: float) -> tuple[int, int]:
    """How many positives, and how many scores in all, lie above the threshold."""
    if np.isnan(threshold):
        raise ContinuadError("the threshold is NaN: set it on good images first")
    flagged = scores > float(threshold)
    return int(np.count_nonzero(flagged & positive)), int(np.count_nonzero(flagged))


def f1_from_counts(hits: int, flagged: int, positives: int, total: int) -> float:
    """2 hits / (positives + flagged); NaN when there are no positives or no negatives."""
    if positives in (0, total):
        return float("nan")
    return 2 * hits / (positives + flagged)
