"""Measure one product's test images: from a strategy's predictions to named values."""

from __future__ import annotations

import math
import tempfile
import time
from typing import NamedTuple

import numpy as np
import torch

from continuad.core.batches import in_order
from continuad.core.strategy import InfersTask, Strategy
from continuad.core.thresholds import standardise
from continuad.core.types import NONE, Images, ImageSet, Task
from continuad.metrics.image import f1_from_counts, image_metrics
from continuad.metrics.pixel import pixel_metrics
from continuad.vision.feature_cache import FeatureStore, remembering

LARGE = 2**30  # bytes of maps of one product that are held in memory
RATES = {"1pct": 0.01, "5pct": 0.05}  # of false alarms, at which verdicts are measured whatever the rule's own
HIGHEST = 6  # good images with the highest scores, whose maps are shown
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
    found = _predictions(strategy, task.test, given, store)
    ranked, tasks = _ranked(found.scores, found.maps, task), found.tasks
    values, outcome = _verdicts(strategy, task, found, given)
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


def good_again(
    strategy: Strategy, task: Task, store: FeatureStore | None, task_given: bool
) -> tuple[Values, ImageSet, Outcome]:
    """Look again at a learned product's own good images, where no defective ones are known.

    All of them, each predicted as if it had not been learned, where detector and strategy can do so; else the val
    images. Verdicts are those of the strategy as it is used: a strategy that infers no task is given the product.

    Returns:
        good_fpr, the share called anomalous, and good_level, the median score on a scale where 0 is an ordinary good
        image and 1 the threshold; the images that score highest; and the predictions of those.
    """
    images = task.all_good() if strategy.predicts_out_of_fold else task.val
    given = task.index if task_given or not isinstance(strategy, InfersTask) else None
    found = _predictions(strategy, images, given, store, out_of_fold=True)
    flagged, decided = _decide(strategy, found, given)
    calibration = strategy.calibration
    low, high = calibration.ordinary(task.index), calibration.thresholds(task.index).image
    values = {"good_fpr": _share(flagged)}
    level = torch.tensor(np.median(found.scores))
    values["good_level"] = float(level if found.tasks is not None else standardise(level, low, high))
    highest = np.argsort(-found.scores, kind="stable")[:HIGHEST]
    tasks = None if found.tasks is None else found.tasks[highest]
    kept = Outcome(found.scores[highest], found.maps[highest], tasks, flagged[highest], decided[highest])
    return values, _chosen(task, images, highest), kept


def _chosen(task: Task, images: Images, at: np.ndarray) -> ImageSet:
    """Some of all a task's good images, or of its val images, as a set of their own."""
    learned = len(images) - len(task.val)  # before the val images there are those, or none
    parts = [task.val.subset([i - learned]) if i >= learned else task.train.subset([i]) for i in at.tolist()]
    return ImageSet(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        masks=np.concatenate([part.masks for part in parts]),
        mask_known=np.concatenate([part.mask_known for part in parts]),
        defects=tuple(part.defects[0] for part in parts),
        paths=tuple(part.paths[0] for part in parts),
        sizes=tuple(part.sizes[0] for part in parts),
    )


def _predictions(
    strategy: Strategy, images: Images, given: int | None, store: FeatureStore | None, *, out_of_fold: bool = False
) -> Outcome:
    """Scores, maps and inferred tasks, if any; no verdicts yet."""
    scores = np.empty(len(images), np.float32)
    maps = _room((len(images), *strategy.detector.image_size))
    tasks = np.full(len(images), NONE)
    inferred, done = False, 0
    with remembering(store):
        for batch in in_order(images, strategy.detector.batch_size):
            found = strategy.predict(batch.image.to(strategy.detector.device), given, out_of_fold=out_of_fold)
            at = slice(done, done + len(batch.image))
            scores[at], maps[at] = found.score.cpu().numpy(), found.map.cpu().numpy()
            if found.task is not None:
                inferred, tasks[at] = True, found.task.cpu().numpy()
            done = at.stop
    return Outcome(scores, maps, tasks if inferred else None, *NOT_DECIDED)


def _verdicts(strategy: Strategy, task: Task, found: Outcome, given: int | None) -> tuple[Values, Outcome]:
    """What verdicts by the thresholds of a given task, or else the strategy's own, are worth; and the outcome."""
    truth, known = task.test.labels, task.test.mask_known
    flagged, decided = _decide(strategy, found, given)
    learned = any(one.index == task.index for one in strategy.tasks)
    promised = strategy.thresholds(task.index if found.tasks is not None and learned else given).rate
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
    """(N,) bool anomalous and (N, H, W) bool defective, each image by the thresholds of the task it is taken for.

    An image that is taken for none of the tasks does not pass as good, so it counts as anomalous.
    """
    rule = strategy.calibration.rule
    if given is not None or found.tasks is None:
        return rule.decide(found.scores, found.maps, strategy.thresholds(given, rate))
    flagged, decided = np.zeros(len(found.scores), bool), np.zeros(found.maps.shape, bool)
    for owner in np.unique(found.tasks):
        at = found.tasks == owner
        thresholds = strategy.thresholds(None if owner == NONE else int(owner), rate)
        flagged[at], decided[at] = rule.decide(found.scores[at], found.maps[at], thresholds)
        flagged[at] |= owner == NONE
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
    if not isinstance(strategy, InfersTask):
        return values
    for how in strategy.infers_task_by:
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
