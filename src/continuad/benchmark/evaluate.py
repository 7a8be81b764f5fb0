"""Measure one product's test images: from a strategy's predictions to named values."""

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

LARGE = 2**30  # bytes of maps of one product that are held in memory
Values = dict[str, float]


class Outcome(NamedTuple):
    """What a strategy answered for N test images.

    Attributes:
        scores: (N,) float32. maps: (N, H, W) float32.
        tasks: (N,) int64 inferred tasks, -1 for none of the learned ones; None where no task was inferred.
        flagged: (N,) bool, called anomalous. decided: (N, H, W) bool, predicted defect masks.
    """

    scores: np.ndarray
    maps: np.ndarray
    tasks: np.ndarray | None
    flagged: np.ndarray
    decided: np.ndarray


def evaluate(
    strategy: Strategy,
    task: Task,
    store: FeatureStore | None = None,
    *,
    learned: bool = True,
    task_given: bool | None = None,
    per_task_thresholds: bool = True,
) -> tuple[Values, Outcome]:
    """Predict a product's test images and measure the predictions.

    Strategies that infer the task are measured with the true task given, too ("oracle_..."): the difference is
    what wrong inference costs.

    Args:
        task: the product; its index is the task it is learned in.
        store: where features of the images are kept for the next time.
        learned: false for a task still to come, which cannot be given.
        task_given: the strategy is given the true task, and nothing is inferred; None: if it needs it.
        per_task_thresholds: verdicts rest on the thresholds of the task, once it is learned, not on those for
            everything.

    Returns:
        Values by the metric's name, those that `measure` can take; and the predictions behind them.
    """
    task_given = strategy.needs_task if task_given is None else task_given
    given = task.index if task_given else None
    scores = np.empty(len(task.test), np.float32)
    maps = _room((len(task.test), *task.test.images.shape[-2:]))
    tasks = np.full(len(task.test), -1)
    inferred, done = False, 0
    with remembering(store):
        for batch in in_order(task.test, strategy.detector.batch_size):
            found = strategy.predict(batch.image.to(strategy.detector.device), given)
            at = slice(done, done + len(batch.image))
            scores[at], maps[at] = found.score.cpu().numpy(), found.map.cpu().numpy()
            if found.task is not None:
                inferred, tasks[at] = True, found.task.cpu().numpy()
            done = at.stop
    flagged, decided = _verdicts(strategy, scores, maps, task.index if per_task_thresholds and learned else None)
    outcome = Outcome(scores, maps, tasks if inferred else None, flagged, decided)
    values = measure(outcome, task)
    if not inferred or task_given or not learned:
        return values, outcome
    right = tasks == task.index
    oracle = values if right.all() else evaluate(strategy, task, store, task_given=True)[0]
    values = values | {f"oracle_{name}": value for name, value in oracle.items()}
    values["task_accuracy"] = float(right.mean())
    return values, outcome


def _verdicts(
    strategy: Strategy, scores: np.ndarray, maps: np.ndarray, task: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool anomalous and (N, H, W) bool defective by the thresholds of a task, or None: of everything."""
    return strategy.calibration.rule.decide(scores, maps, strategy.thresholds(task))


def _room(shape: tuple[int, int, int]) -> np.ndarray:
    """An array for maps: in memory, or in a file that vanishes with it when it is large."""
    if 4 * math.prod(shape) <= LARGE:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def measure(outcome: Outcome, task: Task) -> Values:
    """Every metric that the product's labels and masks allow, see docs/protocol.md."""
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


def compare_task_inference(strategy: Strategy, task: Task) -> Values:
    """Accuracy, and milliseconds per image, of each way to infer the task, on one product's test images."""
    values: Values = {}
    for how in strategy.infers_task_by:
        assert isinstance(strategy, InfersTask)
        right, seconds = 0, 0.0
        for batch in in_order(task.test, strategy.detector.batch_size):
            images = batch.image.to(strategy.detector.device)
            start = time.perf_counter()
            tasks = strategy.infer_task(images, how).cpu()
            seconds += time.perf_counter() - start
            right += int((tasks == task.index).sum())
        values[f"task_accuracy_{how}"] = right / len(task.test)
        values[f"task_inference_ms_{how}"] = 1000 * seconds / len(task.test)
    return values


def inference_ms(strategy: Strategy, task: Task, task_given: bool, repeats: int = 10) -> float:
    """Median milliseconds for one image alone, from uint8 tensor to map, after two to warm up."""
    images = [task.test.__getitems__([i % len(task.test)]).image for i in range(repeats + 2)]
    given = task.index if task_given else None
    times = []
    for image in images:
        start = time.perf_counter()
        strategy.predict(image.to(strategy.detector.device), given).score.cpu()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[2:]))
