"""Single model: one separate model per task, told at test time which task an image belongs to."""

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.strategy import Progress, Strategy
from continuad.core.types import Prediction, Task
from continuad.errors import ContinuadError
from continuad.strategies._snapshots import Snapshots


class Single(Strategy):
    """The reference that relative gaps are measured against (thesis "Single Model"). Nothing is shared or
    inferred: it needs the true task, and its memory grows with every task."""

    needs_task = True
    separate = True

    def __init__(self, detector: Detector, seed: int = 0):
        super().__init__(detector, seed)
        self.snapshots = Snapshots(detector)

    def learn(self, task: Task, progress: Progress | None = None) -> int:
        """Learn a model of its own for the task."""
        self.detector.restore(self.snapshots.fresh)
        return super().learn(task, progress)

    def after(self, task: Task) -> None:
        """Keep it."""
        self.snapshots.keep(task.index, self.detector)

    @torch.no_grad()
    def predict(self, images: Tensor, task: int | None = None) -> Prediction:
        """The raw prediction of the task's own model."""
        if task is None:
            raise ContinuadError("strategy 'single' must be told the task of an image; use 'pertask' to infer it")
        self.snapshots.show(task, self.detector)
        return self.detector.predict(images)
