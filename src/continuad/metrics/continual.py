"""Continual-learning metrics: pure functions of the matrix R[after, on].

R is (T, T): R[i, j] is the value (say pixel F1) on task j of the model that has just learned task i, both
counted from 0 in the order of training. NaN means not evaluated (usually above the diagonal) or not
available (a task without defects in its test set). Such a value drops out of every mean; where nothing is
left the result is NaN. No function warns.

Tasks that are learned together, as one step, share the row of the last of them; the rows of the others are
empty. R says so by itself: a task was learned at the first row from its own on that has any value.

The example used below, three tasks:

    R = 0.90   -     -        after task 0
        0.60  0.80   -        after task 1
        0.50  0.90  0.70      after task 2
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from continuad.errors import ContinuadError

Matrix = NDArray[np.float64]


def average(R: ArrayLike, after: int = -1) -> float:
    """Mean over the tasks seen, of the model after task `after` (-1: the last).

    Example: (0.50 + 0.90 + 0.70) / 3 = 0.70; with after=1, (0.60 + 0.80) / 2 = 0.70.
    """
    matrix, now = _matrix(R, after)
    return _mean(matrix[now, : now + 1])


def forgetting(R: ArrayLike, after: int = -1) -> float:
    """Mean over the earlier tasks of their best value so far minus their value now.

    For each task j learned before: max over stages l < after of R[l, j], minus R[after, j]. Negative when later
    tasks have helped; NaN for the first stage. Chaudhry et al., "Riemannian Walk", ECCV 2018.

    Example: task 0 falls from 0.90 to 0.50, task 1 rises from 0.80 to 0.90: (0.40 - 0.10) / 2 = 0.15.
    With after=1: 0.90 - 0.60 = 0.30.
    """
    best, now = _best_and_now(R, after)
    return _mean(best - now)


def relative_forgetting(R: ArrayLike, after: int = -1) -> float:
    """As `forgetting`, each task's loss divided by that task's best value so far; 1 is complete loss.

    A best of 0 leaves nothing to forget: the term is 0 if the value is 0 still, and else not available.

    Example: (0.40 / 0.90 - 0.10 / 0.80) / 2 = 0.1597.
    """
    best, now = _best_and_now(R, after)
    lost = best - now
    terms = np.full_like(best, np.nan)
    np.divide(lost, best, out=terms, where=best != 0)
    terms[(best == 0) & (now == 0)] = 0.0
    return _mean(terms)


def backward_transfer(R: ArrayLike, after: int = -1) -> float:
    """Mean over the earlier tasks of their value now minus their value when just learned (`when_learned`).

    Negative values are forgetting. NaN for the first stage.
    Lopez-Paz and Ranzato, "Gradient Episodic Memory", NeurIPS 2017.

    Example: ((0.50 - 0.90) + (0.90 - 0.80)) / 2 = -0.15.
    """
    matrix, now = _matrix(R, after)
    return _mean((matrix[now] - when_learned(matrix))[learned_at(matrix) < now])


def forward_transfer(R: ArrayLike, baseline: ArrayLike) -> float:
    """Mean over all tasks but the first of the value just before learning it minus an untrained model's.

    Needs R[j-1, j] (at the stage before the task is learned), the evaluation of tasks to come. Same paper as
    `backward_transfer`.

    Args:
        R: (T, T).
        baseline: (T,) value on each task of a model that has learned nothing.

    Example: R[0, 1] = 0.30, R[1, 2] = 0.50, baseline (0.1, 0.2, 0.2): ((0.30-0.20) + (0.50-0.20)) / 2 = 0.20.
    """
    matrix, _ = _matrix(R, -1)
    untrained = _per_task(baseline, matrix, "baseline")
    tasks, stages = np.arange(len(matrix)), _stages(matrix)
    before = np.searchsorted(stages, tasks)  # how many stages there were before the task's own
    later = tasks[before > 0]
    return _mean(matrix[stages[before[later] - 1], later] - untrained[later])


def intransigence(reference: ArrayLike, R: ArrayLike) -> Matrix:
    """How much worse each task is learned in the stream than by a reference model: reference[k] - R[k, k]
    (`when_learned`).

    The reference is a model that had the data of all tasks up to k at once. Chaudhry et al., ECCV 2018.

    Args:
        reference: (T,) its value on task k.
        R: (T, T).

    Returns:
        (T,); negative where the stream does better, NaN where one of the two is not available.

    Example: reference (0.90, 0.85, 0.80) gives (0.00, 0.05, 0.10).
    """
    matrix, _ = _matrix(R, -1)
    return _per_task(reference, matrix, "reference") - when_learned(matrix)


def learned_at(R: ArrayLike) -> NDArray[np.int64]:
    """The row of the step in which each task is learned, (T,); T for a task whose step has no row yet.

    Example: where tasks 0 and 1 are learned together and then 2, rows 1 and 2 have values: (1, 1, 2).
    """
    matrix, _ = _matrix(R, -1)
    stages = np.append(_stages(matrix), len(matrix))
    return stages[np.searchsorted(stages, np.arange(len(matrix)))]


def when_learned(R: ArrayLike) -> Matrix:
    """Each task's value just after its step, (T,): the diagonal of R, where every task is a step of its own.

    Example: (0.90, 0.80, 0.70).
    """
    matrix, _ = _matrix(R, -1)
    padded = np.pad(matrix, ((0, 1), (0, 0)), constant_values=np.nan)
    return padded[learned_at(matrix), np.arange(len(matrix))]


def relative_gap(value: float, single: float) -> float:
    """How far a strategy's value stays behind one model per task: (single - value) / single.

    Example: 0.60 beside 0.75 is a gap of 0.20. Negative when better; NaN when single is 0 or one is NaN.
    """
    return (single - value) / single if single != 0 else float("nan")


def _matrix(R: ArrayLike, after: int) -> tuple[Matrix, int]:
    matrix = np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ContinuadError(f"R has shape {matrix.shape}: give one row and one column a task, (T, T)")
    tasks = len(matrix)
    if not -tasks <= after < tasks:
        raise ContinuadError(f"after={after}: R holds {tasks} tasks, counted from 0")
    return matrix, after % tasks


def _per_task(values: ArrayLike, matrix: Matrix, name: str) -> Matrix:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(matrix),):
        raise ContinuadError(f"{name} has shape {array.shape}: give one value for each of the {len(matrix)} tasks")
    return array


def _best_and_now(R: ArrayLike, after: int) -> tuple[Matrix, Matrix]:
    """For the tasks learned before stage `after`: best value at an earlier stage, and the value at that stage."""
    matrix, now = _matrix(R, after)
    earlier = learned_at(matrix) < now
    # fmax passes over NaN unless all are NaN; an initial NaN keeps it silent for no stages at all.
    return np.fmax.reduce(matrix[:now, earlier], axis=0, initial=np.nan), matrix[now, earlier]


def _stages(matrix: Matrix) -> NDArray[np.int64]:
    """Rows that have any value."""
    return np.flatnonzero(~np.isnan(matrix).all(axis=1))


def _mean(values: Matrix) -> float:
    available = values[~np.isnan(values)]
    return float(available.mean()) if available.size else float("nan")
