"""Measure one product's test images: from a strategy's predictions to named values."""

from __future__ import annotations

import math
import tempfile
import time
from typing import NamedTuple

import numpy as np

from continuad.core.batches import in_order
from continuad.core.strategy import InfersTask, Strategy
from continuad.core.types import NONE, Task
from continuad.metrics.image import f1_from_counts, image_metrics
from continuad.metrics.pixel import pixel_metrics
from continuad.vision.feature_cache import FeatureStore, remembering

LARGE = 2**30  # bytes of maps of one product that are held in memory
RATES = {"1pct": 0.01, "5pct": 0.05}  # of false alarms, at which verdicts are measured whatever the rule's own
NOT_DECIDED = np.zeros(0, bool), np.zeros(0, bool)
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
) -> tuple[Values, Outcome]:
    """Predict a product's test images and measure the predictions.

    Every strategy is measured by one set of rules. Under its plain name a value is that of a strategy that is not given
    the product, unless it needs it: verdicts then rest on the thresholds of the task it infers, or on those for
    everything where it infers none. As "oracle_..." it is that with the product given, for predictions and thresholds.

    Args:
        task: the product; its index is the task it is learned in.
        store: where features of the images are kept for the next time.
        learned: false for a task still to come, which cannot be given.
        task_given: the strategy is given the true task, and nothing is inferred; None: if it needs it.

    Returns:
        Values by the metric's name, those that can be measured; and the predictions behind the plain ones.
    """
    task_given = strategy.needs_task if task_given is None else task_given
    given = task.index if task_given else None
    scores, maps, tasks = _predictions(strategy, task, given, store)
    ranked = _ranked(scores, maps, task)
    values, outcome = _verdicts(strategy, task, Outcome(scores, maps, tasks, *NOT_DECIDED), given)
    values |= ranked
    if given is not None or not learned:
        return values, outcome
    if tasks is None or (tasks == task.index).all():
        oracle = ranked | _verdicts(strategy, task, outcome, task.index)[0]
    else:
        oracle = evaluate(strategy, task, store, task_given=True)[0]
    values |= {f"oracle_{name}": value for name, value in oracle.items()}
    if tasks is not None:
        values["task_accuracy"] = float((tasks == task.index).mean())
        values["unknown_rate"] = float((tasks == NONE).mean())
    return values, outcome


def _predictions(
    strategy: Strategy, task: Task, given: int | None, store: FeatureStore | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Scores, maps and inferred tasks, if any, of the test images."""
    scores = np.empty(len(task.test), np.float32)
    maps = _room((len(task.test), *task.test.images.shape[-2:]))
    tasks = np.full(len(task.test), NONE)
    inferred, done = False, 0
    with remembering(store):
        for batch in in_order(task.test, strategy.detector.batch_size):
            found = strategy.predict(batch.image.to(strategy.detector.device), given)
            at = slice(done, done + len(batch.image))
            scores[at], maps[at] = found.score.cpu().numpy(), found.map.cpu().numpy()
            if found.task is not None:
                inferred, tasks[at] = True, found.task.cpu().numpy()
            done = at.stop
    return scores, maps, tasks if inferred else None


def _verdicts(strategy: Strategy, task: Task, found: Outcome, given: int | None) -> tuple[Values, Outcome]:
    """What verdicts by the thresholds of a given task, or else the strategy's own, are worth; and the outcome."""
    truth, known = task.test.labels, task.test.mask_known
    flagged, decided = _decide(strategy, found, given)
    promised = strategy.thresholds(given if found.tasks is None else task.index).rate
    values = {"image_f1": _f1(flagged, truth), "image_fpr_promised": promised}
    values |= {"image_fpr": _share(flagged[~truth]), "image_recall": _share(flagged[truth])}
    for name, rate in RATES.items():
        at, _ = _decide(strategy, found, given, rate)
        values |= {f"image_fpr_{name}": _share(at[~truth]), f"image_recall_{name}": _share(at[truth])}
    if task.test.masks[known].any():
        values["pixel_f1"] = _f1(decided[known], task.test.masks[known])
    return _finite(values), found._replace(flagged=flagged, decided=decided)


def _decide(
    strategy: Strategy, found: Outcome, given: int | None, rate: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) bool anomalous and (N, H, W) bool defective, each image by the thresholds of the task it is taken for."""
    rule = strategy.calibration.rule
    if given is not None or found.tasks is None:
        return rule.decide(found.scores, found.maps, strategy.thresholds(given, rate))
    flagged, decided = np.zeros(len(found.scores), bool), np.zeros(found.maps.shape, bool)
    for owner in np.unique(found.tasks):
        at = found.tasks == owner
        thresholds = strategy.thresholds(None if owner == NONE else int(owner), rate)
        flagged[at], decided[at] = rule.decide(found.scores[at], found.maps[at], thresholds)
    return flagged, decided


def _share(chosen: np.ndarray) -> float:
    return float(chosen.mean()) if len(chosen) else math.nan


def _ranked(scores: np.ndarray, maps: np.ndarray, task: Task) -> Values:
    """Every metric that asks for no threshold and that the product's labels and masks allow, see docs/protocol.md."""
    values, known = image_metrics(scores, task.test.labels), task.test.mask_known
    if task.test.masks[known].any():
        values |= pixel_metrics(maps[known], task.test.masks[known])
    return _finite(values)


def _finite(values: Values) -> Values:
    return {k: float(v) for k, v in values.items() if np.isfinite(v) and not k.endswith("_threshold")}


def _room(shape: tuple[int, int, int]) -> np.ndarray:
    """An array for maps: in memory, or in a file that vanishes with it when it is large."""
    if 4 * math.prod(shape) <= LARGE:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


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
