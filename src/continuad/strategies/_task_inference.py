"""What strategies share that keep every task's weights and infer which ones an image needs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.detector import Detector, Embeds, ask, check_size
from continuad.core.hints import Seed
from continuad.core.strategy import Strategy
from continuad.core.thresholds import Thresholds, standardise
from continuad.core.types import NONE, Levels, Prediction, Task
from continuad.strategies._pooled import REJECT, Nearest, PooledTaskInference, Reject, pooled
from continuad.vision.backbones import DEFAULT, AnyBackbone, BackboneSpec


class TaskInferring(Strategy):
    """Every task has a snapshot of the detector; an image is scored by that of the task it looks most like.

    Snapshots answer on their own scales, so predictions are standardised by their tasks' thresholds: 0 is an ordinary
    good surface, 1 the threshold. Where detector and task inference have the same backbone, an image passes it once.

    Args:
        backbone: of the task inference, see `PooledTaskInference`.
        reject: share of good images, in [0, 1), that may be taken for task -1, none of the known ones; an image farther
            than that from its nearest task is, and is scored by that task all the same. None never rejects.
    """

    needs_gradients = True
    infers_task_by: ClassVar[tuple[str, ...]] = ("pooled",)

    def __init__(
        self,
        detector: Detector,
        seed: Seed = 0,
        backbone: AnyBackbone = DEFAULT,
        reject: Reject | None = REJECT,
    ):
        super().__init__(detector, seed)
        self.backbone, self.reject = BackboneSpec.of(backbone), reject
        shared = detector.embedder() if isinstance(detector, Embeds) else None
        self.pooled = PooledTaskInference(self.backbone, shared, REJECT if reject is None else reject)

    def snapshot(self, task: int) -> Detector:
        """The detector as it answers for a learned task; not to be changed."""
        raise NotImplementedError

    def after(self, task: Task) -> None:
        """Remember what the task's images look like."""
        self.pooled.learn(task.index, in_order(task.all_good(), self.detector.batch_size))

    @torch.no_grad()
    def infer_task(self, images: Tensor, how: str | None = None) -> Tensor:
        """(B,) int64 the learned task each image looks most like."""
        return self.nearest(images).task

    @torch.no_grad()
    def task_distance(self, images: Tensor) -> Tensor:
        """(B,) how far each image lies from its nearest task, where 1 is as far as an image of that task may lie."""
        return self.nearest(images).distance

    def nearest(self, images: Tensor) -> Nearest:
        """Nearest task and distance of uint8 images (B, 3, H, W)."""
        self._refuse_untrained()
        check_size(self.detector, images)
        return self._inferred(images, None)

    def thresholds(self, task: int | str | None = None, rate: float | None = None) -> Thresholds:
        """0, 1 and 1, since predictions are standardised; the image threshold of a task differs for another rate.

        For None, the rate is the highest that any task promises.
        """
        number = self._number_of(task)
        if number is None:
            self._refuse_untrained()
            rates = [self.calibration.thresholds(known.index, rate).rate for known in self.tasks]
            return Thresholds(0.0, 1.0, 1.0, max(rates))
        own, asked = self.calibration.thresholds(number), self.calibration.thresholds(number, rate)
        image = standardise(torch.tensor(asked.image), self.calibration.ordinary(number), own.image)
        return Thresholds(0.0, 1.0, 1.0 if rate is None else float(image), asked.rate)

    def _predict(self, images: Tensor, task: int | None, out_of_fold: bool) -> Prediction:
        self._refuse_untrained()
        check_size(self.detector, images)
        levels = self._shared_levels(images)
        if task is not None:
            tasks = torch.full((len(images),), task, device=images.device)
            return self._by_task(images, levels, tasks, out_of_fold)
        nearest = self._inferred(images, levels)
        found = self._by_task(images, levels, nearest.task, out_of_fold)
        if self.reject is None:
            return found
        return found._replace(task=nearest.task.where(nearest.distance <= 1, NONE))

    def _shared_levels(self, images: Tensor) -> Levels | None:
        """The backbone's answer, if it serves both the task inference and the detector."""
        detector = self.detector
        if isinstance(detector, Embeds) and detector.embedder() is self.pooled.pyramid:
            return detector.embed(images)
        return None

    def _inferred(self, images: Tensor, levels: Levels | None) -> Nearest:
        """The task whose snapshot scores each image, and how far it lies from its nearest task."""
        features = self.pooled.embed(images) if levels is None else pooled(levels)
        return Nearest(*self.pooled(features))

    def _by_task(self, images: Tensor, levels: Levels | None, tasks: Tensor, out_of_fold: bool) -> Prediction:
        """Each image's prediction by the snapshot of its task (B,), on one scale."""
        score = torch.empty(len(images), device=images.device)
        anomaly_map = torch.empty(len(images), *images.shape[-2:], device=images.device)
        for task in tasks.unique().tolist():
            mine = tasks == task
            whole = bool(mine.all())
            snapshot, scale = self.snapshot(task), self.calibration.thresholds(task)
            if levels is not None and not out_of_fold and isinstance(snapshot, Embeds):
                found = snapshot.predict_on(levels if whole else [level[mine] for level in levels])
            else:
                found = ask(snapshot, images if whole else images[mine], out_of_fold)
            anomaly_map[mine] = standardise(found.map, scale.centre, scale.pixel)
            score[mine] = standardise(found.score, self.calibration.ordinary(task), scale.image)
        return Prediction(score, anomaly_map, tasks)
