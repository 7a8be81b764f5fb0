"""The kernel of all threshold metrics: how positives and negatives rank, exactly and in bounded memory.

AUROC, average precision, the best F1 and AUPRO need the negatives only as counts: how many lie at or
above each distinct score of a positive. Positives (defect pixels) are few, so they are kept and sorted;
all scores then pass by in chunks, each sorted by itself and looked up. Nothing is binned, ties are
exact, and memory is a few chunks plus the positives, however many images there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from continuad.errors import ContinuadError

# Scores sorted at a time: large enough that look-ups are few, small enough to stay near the cache.
CHUNK = 1 << 20
WORKERS = min(8, os.cpu_count() or 1)

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """What a rising number of flagged scores finds, threshold by threshold from strict to lax.

    A threshold t flags every score >= t. Only the K distinct scores of positives are listed: between
    two of them nothing but false alarms is added, so no metric can have its optimum or a bend there.

    Attributes:
        thresholds: (K,) distinct scores of positives, descending.
        hits: (K,) positives >= threshold; the last is `positives`.
        alarms: (K,) negatives >= threshold.
        alarms_above: (K,) negatives > threshold; less than `alarms` where negatives tie with it.
        share: (K,) weighted share of the positives >= threshold, 0..1; the last is 1. Without weights
            it is hits / positives; weighted by region it is the PRO (see `continuad.metrics.region`).
        positives: number of positives.
        negatives: number of negatives.
        dtype: the dtype the scores came in.
    """

    thresholds: NDArray[Any]
    hits: Counts
    alarms: Counts
    alarms_above: Counts
    share: NDArray[np.float64]
    positives: int
    negatives: int
    dtype: np.dtype[Any]

    @property
    def has_both(self) -> bool:
        """Whether there are positives and negatives; without both no metric is available."""
        return self.positives > 0 and self.negatives > 0


def rank(scores: ArrayLike, labels: ArrayLike) -> Ranking:
    """Rank one array of scores.

    Args:
        scores: any shape, any real dtype, any range; higher is more anomalous.
        labels: same shape; any non-zero value is a positive.

    Raises:
        ContinuadError: shapes differ, or a score is NaN or infinite.
    """
    values, positive = np.asarray(scores), np.asarray(labels) != 0
    if values.shape != positive.shape:
        raise ContinuadError(f"scores have shape {values.shape}, labels {positive.shape}: give one label a score")
    working_dtype([values.dtype])
    if not np.isfinite(values).all():
        where = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ContinuadError(f"score {where} is {values.flat[where]}: metrics need finite scores")
    return rank_parts(values[positive], None, [values], values.size, [values.dtype])


def rank_parts(
    positives: NDArray[Any],
    weights: NDArray[np.float64] | None,
    parts: Iterable[NDArray[Any]],
    total: int,
    dtypes: Iterable[np.dtype[Any]],
) -> Ranking:
    """Rank positives that are at hand against all scores, which pass by part after part.

    Args:
        positives: (P,) scores of the positives.
        weights: (P,) what each positive counts in `Ranking.share`; None counts all alike.
        parts: arrays of any shape holding all scores, positives included; iterated once.
        total: number of scores in all parts.
        dtypes: dtypes that occur in the parts, at least one.

    Raises:
        ContinuadError: a part holds NaN or infinity; the message names the part as an anomaly map.
    """
    given = np.result_type(*dtypes)
    working = working_dtype([given])
    positives = positives.astype(working, copy=False)
    order = np.argsort(positives)
    ordered = positives[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if ordered.size else order
    thresholds = ordered[starts]
    below, at = _count(thresholds, parts, working, total)

    tied = np.diff(np.append(starts, ordered.size))  # positives at each threshold
    hits = np.cumsum(tied[::-1])
    alarms = (total - below)[::-1] - hits
    if weights is None:
        share = hits / max(1, ordered.size)
    else:
        share = np.cumsum(np.add.reduceat(weights[order], starts)[::-1])
        share = share / share[-1:]
    return Ranking(
        thresholds=thresholds[::-1],
        hits=hits,
        alarms=alarms,
        alarms_above=alarms - (at - tied)[::-1],
        share=share,
        positives=ordered.size,
        negatives=total - ordered.size,
        dtype=given,
    )


def working_dtype(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype that holds scores of all these dtypes without merging any two; small ones become float32."""
    common = np.result_type(*dtypes)
    if common.kind not in "buif":
        raise ContinuadError(f"scores of dtype {common} cannot be ranked: give real numbers")
    return np.result_type(common, np.float32) if common.itemsize <= 2 else common


# --- the metrics that follow from a ranking ------------------------------------------------------------


def auroc(ranking: Ranking) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN with one class only."""
    if not ranking.has_both:
        return float("nan")
    fresh = np.diff(ranking.hits, prepend=0)
    lost = np.dot(fresh.astype(np.float64), (ranking.alarms + ranking.alarms_above) / 2)
    return max(0.0, 1.0 - float(lost) / ranking.positives / ranking.negatives)


def average_precision(ranking: Ranking) -> float:
    """Sum over thresholds of the gain in recall times the precision there; NaN with one class only."""
    if not ranking.has_both:
        return float("nan")
    gain = np.diff(ranking.hits, prepend=0) / ranking.positives
    return min(1.0, float(np.dot(gain, ranking.hits / (ranking.hits + ranking.alarms))))


def best_f1(ranking: Ranking) -> tuple[float, float]:
    """Best F1 over all thresholds, and a threshold whose decision `score > threshold` attains it.

    Of several equally good thresholds the highest (fewest alarms) is taken. (NaN, NaN) with one class only.
    """
    if not ranking.has_both:
        return float("nan"), float("nan")
    f1 = 2 * ranking.hits / (ranking.positives + ranking.hits + ranking.alarms)
    best = int(np.argmax(f1))
    return float(f1[best]), just_below(ranking.thresholds[best], ranking.dtype)


def just_below(score: Any, dtype: np.dtype[Any]) -> float:
    """The threshold that makes `scores > threshold` say the same as `scores >= score` for scores of dtype."""
    if dtype.kind != "f":
        return float(score) - 0.5
    lower = np.nextafter(dtype.type(score), dtype.type(-np.inf))
    tiny = np.finfo(dtype).tiny
    # Where denormals are flushed, "0 > the number before 0" is false; float16 is compared in software.
    if dtype.itemsize > 2 and score == 0:
        lower = -tiny
    return float(lower)


# --- counting in chunks ---------------------------------------------------------------------------------


def _count(
    thresholds: NDArray[Any], parts: Iterable[NDArray[Any]], working: np.dtype[Any], total: int
) -> tuple[Counts, Counts]:
    """For ascending thresholds: how many scores are below each, and how many equal each."""
    tally = _Tally(thresholds, working)
    if total <= CHUNK:
        for pieces in _chunks(parts):
            tally.add(pieces)
        return tally.result()
    # Sorting and look-up release the GIL. No more chunks are in flight than there are threads.
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        for pieces in _chunks(parts):
            if len(pending) == WORKERS:
                pending.popleft().result()
            pending.append(pool.submit(tally.add, pieces))
        for future in pending:
            future.result()
    return tally.result()


def _chunks(parts: Iterable[NDArray[Any]]) -> Iterator[list[tuple[int, NDArray[Any]]]]:
    """Group small parts and cut large ones into chunks of at most CHUNK scores; pieces know their part."""
    pieces: list[tuple[int, NDArray[Any]]] = []
    room = CHUNK
    for index, part in enumerate(parts):
        flat = part.reshape(-1)
        while flat.size:
            pieces.append((index, flat[:room]))
            flat = flat[room:]
            room -= pieces[-1][1].size
            if room == 0:
                yield pieces
                pieces, room = [], CHUNK
    if pieces:
        yield pieces


class _Tally:
    """Counts scores below and at each threshold; safe to add to from several threads."""

    def __init__(self, thresholds: NDArray[Any], working: np.dtype[Any]) -> None:
        self._thresholds, self._working, self._lock = thresholds, working, Lock()
        self._below = np.zeros(thresholds.size, np.int64)
        self._at = np.zeros(thresholds.size, np.int64)
        self._passed = np.zeros(thresholds.size + 1, np.int64)  # scores by how many thresholds they reach

    def add(self, pieces: list[tuple[int, NDArray[Any]]]) -> None:
        chunk = np.concatenate([piece for _, piece in pieces], dtype=self._working)
        chunk.sort()
        if not np.isfinite(chunk[0]) or not np.isfinite(chunk[-1]):  # NaN sorts to the end
            bad = next(index for index, piece in pieces if not np.isfinite(piece).all())
            raise ContinuadError(f"anomaly map {bad} holds NaN or infinity: metrics need finite scores")
        # Look the fewer up among the more: the work stays proportional to the chunk.
        if self._thresholds.size <= chunk.size:
            left = np.searchsorted(chunk, self._thresholds, "left")
            tied = np.flatnonzero(chunk.take(left, mode="clip") == self._thresholds)
            right = np.searchsorted(chunk, self._thresholds[tied], "right")
            with self._lock:
                self._below += left
                self._at[tied] += right - left[tied]
        else:
            reached = np.searchsorted(self._thresholds, chunk, "right")
            # A score below all thresholds is compared with the highest, and does not equal it either.
            equal = reached[self._thresholds[reached - 1] == chunk] - 1
            with self._lock:
                np.add.at(self._passed, reached, 1)
                np.add.at(self._at, equal, 1)

    def result(self) -> tuple[Counts, Counts]:
        return self._below + np.cumsum(self._passed)[:-1], self._at
