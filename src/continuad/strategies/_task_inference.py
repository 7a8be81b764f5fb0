"""What strategies share that keep every task's weights and infer which ones an image needs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.detector import Detector, Embeds, check_size
from continuad.core.strategy import Strategy
from continuad.core.thresholds import Thresholds, standardise
from continuad.core.types import Prediction, Task
from continuad.strategies._pooled import Nearest, PooledTaskInference, pooled
from continuad.vision.backbones import DEFAULT, AnyBackbone, BackboneSpec


class TaskInferring(Strategy):
    """Every task has a snapshot of the detector; an image is scored by that of the task it looks most like.

    Snapshots answer on their own scales, so predictions are standardised by their tasks' thresholds: 0 is an ordinary
    good surface, 1 the threshold. Where detector and task inference have the same backbone, an image passes it once.

    Args:
        backbone: of the task inference, see `PooledTaskInference`.
    """

    needs_gradients = True
    infers_task_by: ClassVar[tuple[str, ...]] = ("pooled",)

    def __init__(self, detector: Detector, seed: int = 0, backbone: AnyBackbone = DEFAULT):
        super().__init__(detector, seed)
        self.backbone = BackboneSpec.of(backbone)
        self.pooled = PooledTaskInference(self.backbone, detector.embedder() if isinstance(detector, Embeds) else None)

    def snapshot(self, task: int) -> Detector:
        """The detector as it answers for a learned task; not to be changed."""
        raise NotImplementedError

    def after(self, task: Task) -> None:
        """Remember what the task's images look like."""
        size = self.detector.batch_size
        self.pooled.learn(task.index, in_order(task.train, size), in_order(task.val, size))

    @torch.no_grad()
    def infer_task(self, images: Tensor, how: str | None = None) -> Tensor:
        """(B,) int64 the learned task each image looks most like."""
        return self.nearest(images).task

    @torch.no_grad()
    def task_distance(self, images: Tensor) -> Tensor:
        """(B,) how far each image lies from its nearest task, where 1 is that task's farthest val image."""
        return self.nearest(images).distance

    def nearest(self, images: Tensor) -> Nearest:
        """Nearest task and distance of uint8 images (B, 3, H, W)."""
        self._refuse_untrained()
        check_size(self.detector, images)
        return Nearest(*self.pooled(self.pooled.embed(images)))

    def thresholds(self, task: int | str | None = None) -> Thresholds:
        """Always 0 and 1: predictions are standardised."""
        self._number_of(task)
        return Thresholds(0.0, 1.0, 1.0)

    def _predict(self, images: Tensor, task: int | None) -> Prediction:
        self._refuse_untrained()
        check_size(self.detector, images)
        levels = self._shared_levels(images)
        if task is not None:
            return self._by_task(images, levels, torch.full((len(images),), task, device=images.device))
        nearest = self._inferred(images, levels)
        return self._by_task(images, levels, nearest.task)._replace(task=self._reported(nearest))

    def _shared_levels(self, images: Tensor) -> list[Tensor] | None:
        """The backbone's answer, if it serves both the task inference and the detector."""
        detector = self.detector
        if isinstance(detector, Embeds) and detector.embedder() is self.pooled.pyramid:
            return detector.embed(images)
        return None

    def _inferred(self, images: Tensor, levels: list[Tensor] | None) -> Nearest:
        """The task whose snapshot scores each image, and how far it lies."""
        features = self.pooled.embed(images) if levels is None else pooled(levels)
        return Nearest(*self.pooled(features))

    def _reported(self, nearest: Nearest) -> Tensor:
        """(B,) the task that a prediction names."""
        return nearest.task

    def _by_task(self, images: Tensor, levels: list[Tensor] | None, tasks: Tensor) -> Prediction:
        """Each image's prediction by the snapshot of its task (B,), on one scale."""
        score = torch.empty(len(images), device=images.device)
        anomaly_map = torch.empty(len(images), *images.shape[-2:], device=images.device)
        for task in tasks.unique().tolist():
            mine = tasks == task
            whole = bool(mine.all())
            snapshot, scale = self.snapshot(task), self.calibration.thresholds(task)
            if levels is not None and isinstance(snapshot, Embeds):
                found = snapshot.predict_on(levels if whole else [level[mine] for level in levels])
            else:
                found = snapshot.predict(images if whole else images[mine])
            anomaly_map[mine] = standardise(found.map, scale.centre, scale.pixel)
            score[mine] = standardise(found.score, scale.centre, scale.image)
        return Prediction(score, anomaly_map, tasks)
