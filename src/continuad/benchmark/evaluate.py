"""Look at one task's test images: from a strategy's predictions to named values."""

from __future__ import annotations

import math
import tempfile
import time
from typing import NamedTuple

import numpy as np

from continuad.core.batches import in_order
from continuad.core.strategy import InfersTask, Strategy
from continuad.core.types import Task
from continuad.metrics.image import f1_from_counts, image_metrics
from continuad.metrics.pixel import pixel_metrics
from continuad.vision.feature_cache import FeatureStore, remembering

LARGE = 2**30  # bytes of maps of one task that are held in memory
Values = dict[str, float]


class Outcome(NamedTuple):
    """What a strategy said of N test images.

    Attributes:
        scores: (N,) float32. maps: (N, H, W) float32. tasks: (N,) int64 inferred tasks, or None.
        flagged: (N,) bool called anomalous. decided: (N, H, W) bool predicted defect masks.
    """

    scores: np.ndarray
    maps: np.ndarray
    tasks: np.ndarray | None
    flagged: np.ndarray
    decided: np.ndarray


def look(
    strategy: Strategy,
    task: Task,
    *,
    task_given: bool,
    per_task_thresholds: bool = True,
    store: FeatureStore | None = None,
) -> Outcome:
    """Predict a task's test images.

    Args:
        task_given: the strategy is given the true task.
        per_task_thresholds: verdicts rest on the thresholds of the task, not on those for everything.
    """
    with remembering(store):
        scores, maps, tasks = _predict_all(strategy, task, task_given)
    flagged, decided = strategy.calibration.rule.decide(
        scores, maps, strategy.thresholds(task.index if per_task_thresholds else None)
    )
    return Outcome(scores, maps, tasks, flagged, decided)


def _predict_all(strategy: Strategy, task: Task, task_given: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    detector = strategy.detector
    height, width = task.test.images.shape[-2:]
    scores = np.empty(len(task.test), np.float32)
    maps = _room((len(task.test), height, width))
    tasks = np.full(len(task.test), -1)
    inferred, start = False, 0
    for batch in in_order(task.test, detector.batch_size):
        found = strategy.predict(batch.image.to(detector.device), task.index if task_given else None)
        stop = start + len(batch.image)
        scores[start:stop] = found.score.cpu().numpy()
        maps[start:stop] = found.map.cpu().numpy()
        if found.task is not None:
            inferred, tasks[start:stop] = True, found.task.cpu().numpy()
        start = stop
    return scores, maps, tasks if inferred else None


def _room(shape: tuple[int, int, int]) -> np.ndarray:
    """An array for maps: in memory, or in a file that vanishes with it when it is large."""
    if 4 * math.prod(shape) <= LARGE:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def measure(outcome: Outcome, task: Task) -> Values:
    """Every metric of design section 5 that this task's truth allows."""
    test = task.test
    values = image_metrics(outcome.scores, test.labels)
    values["image_f1"] = _f1(outcome.flagged, test.labels)
    known = test.mask_known
    if test.masks[known].any():
        values |= pixel_metrics(outcome.maps[known], test.masks[known])
        values["pixel_f1"] = _f1(outcome.decided[known], test.masks[known])
    return {k: float(v) for k, v in values.items() if np.isfinite(v) and not k.endswith("_threshold")}


def _f1(decided: np.ndarray, truth: np.ndarray) -> float:
    return f1_from_counts(int((decided & truth).sum()), int(decided.sum()), int(truth.sum()), truth.size)


def evaluate(
    strategy: Strategy,
    task: Task,
    store: FeatureStore | None = None,
    *,
    learned: bool = True,
    task_given: bool | None = None,
    per_task_thresholds: bool = True,
) -> tuple[Values, Outcome]:
    """All values of one task under a strategy, and the predictions behind them.

    Strategies that infer the task are also measured with the true task given ("oracle_..."): the difference
    is what wrong routes cost. A task still to come (`learned` false) has no snapshot to give.

    Args:
        task_given: the strategy is given the true task, and nothing is inferred; None: if it needs it.
        per_task_thresholds: see `look`.
    """
    task_given = strategy.needs_task if task_given is None else task_given
    outcome = look(strategy, task, task_given=task_given, per_task_thresholds=per_task_thresholds, store=store)
    values = measure(outcome, task)
    if outcome.tasks is None or task_given or not learned:
        return values, outcome
    right = outcome.tasks == task.index
    oracle = values if right.all() else measure(look(strategy, task, task_given=True, store=store), task)
    values = values | {f"oracle_{name}": v for name, v in oracle.items()}
    values["task_accuracy"] = float(right.mean())
    return values, outcome


def compare_task_inference(strategy: Strategy, task: Task) -> Values:
    """Accuracy and time per image of every task_inference on one task's test images."""
    values: Values = {}
    for task_inference in strategy.infers_task_by:
        assert isinstance(strategy, InfersTask)
        right, seconds = 0, 0.0
        for batch in in_order(task.test, strategy.detector.batch_size):
            images = batch.image.to(strategy.detector.device)
            start = time.perf_counter()
            tasks = strategy.infer_task(images, task_inference).cpu()
            seconds += time.perf_counter() - start
            right += int((tasks == task.index).sum())
        values[f"task_accuracy_{task_inference}"] = right / len(task.test)
        values[f"task_inference_ms_{task_inference}"] = 1000 * seconds / len(task.test)
    return values


def inference_ms(strategy: Strategy, task: Task, task_given: bool, repeats: int = 10) -> float:
    """Median milliseconds for one image alone, from uint8 tensor to map, after warming up."""
    images = [task.test.__getitems__([i % len(task.test)]).image for i in range(repeats + 2)]
    given = task.index if task_given else None
    times = []
    for image in images:
        start = time.perf_counter()
        strategy.predict(image.to(strategy.detector.device), given).score.cpu()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[2:]))
