"""What strategies share that keep every task's weights and infer which ones an image needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.detector import Detector
from continuad.core.strategy import Strategy
from continuad.core.thresholds import Thresholds, standardise
from continuad.core.types import Batch, Prediction, Task
from continuad.strategies._pooled import PooledTaskInference
from continuad.vision.backbones import DEFAULT, Precision


class TaskInferring(Strategy):
    """Puts a task's weights into the detector (`show`) before it answers; the task is inferred from pooled features.

    Predictions are standardised, as in pertask: 0 is an ordinary good surface, 1 the task's limit.

    Args:
        backbone, weights_file, precision, download: the task_inference's, see `PooledTaskInference`.
    """

    needs_gradients = True
    infers_task_by: ClassVar[tuple[str, ...]] = ("pooled",)

    def __init__(
        self,
        detector: Detector,
        seed: int = 0,
        backbone: str = DEFAULT,
        weights_file: str | None = None,
        precision: Precision = "float32",
        download: bool = False,
    ):
        super().__init__(detector, seed)
        self.backbone, self.weights_file = backbone, weights_file
        self.precision, self.download = precision, download
        self.pooled = PooledTaskInference(backbone, weights_file, precision, download)

    def show(self, task: int) -> None:
        """Put a known task's weights into the detector."""
        raise NotImplementedError

    def after(self, task: Task) -> None:
        """Remember what the task's images look like."""
        size = self.detector.batch_size
        self.pooled.learn(task.index, in_order(task.train, size), in_order(task.val, size))

    def infer_task(self, images: Tensor, task_inference: str | None = None) -> Tensor:
        """(B,) int64 the known task each image looks most like."""
        return self.pooled(images)[0]

    @torch.no_grad()
    def predict(self, images: Tensor, task: int | None = None) -> Prediction:
        """Standardised prediction with the weights of the inferred task, or of `task` if the true one is given."""
        tasks = self.infer_task(images) if task is None else torch.full((len(images),), task, device=images.device)

        def ask(task: int, some: Tensor) -> tuple[Prediction, Thresholds]:
            self.show(task)
            return self.detector.predict(some), self.detector.thresholds()

        return one_scale(tasks, ask, images)

    def set_thresholds(self, val: Mapping[int, Iterable[Batch]]) -> None:
        """None: every task's thresholds lie with its weights, and predictions are standardised by them."""

    def thresholds(self, task: int | None = None) -> Thresholds:
        """Always 0 and 1: predictions are standardised."""
        return Thresholds(0.0, 1.0, 1.0)


@torch.no_grad()
def one_scale(tasks: Tensor, ask: Callable[[int, Tensor], tuple[Prediction, Thresholds]], images: Tensor) -> Prediction:
    """Each image's prediction by its task (B,), where 0 is an ordinary good surface and 1 that task's limit."""
    score = torch.empty(len(images), device=images.device)
    anomaly_map = torch.empty(len(images), *images.shape[-2:], device=images.device)
    for task in tasks.unique().tolist():
        mine = tasks == task
        found, thresholds = ask(task, images if mine.all() else images[mine])
        anomaly_map[mine] = standardise(found.map, thresholds.centre, thresholds.pixel)
        score[mine] = standardise(found.score, thresholds.centre, thresholds.image)
    return Prediction(score, anomaly_map, tasks)
