"""One snapshot per task, chosen by what the image looks like (thesis 5.2, "less CL")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.strategy import Progress
from continuad.core.types import Prediction, Task
from continuad.errors import ContinuadError
from continuad.strategies._pooled import NONE, lowest_sum
from continuad.strategies._snapshots import Snapshots
from continuad.strategies._task_inference import TaskInferring
from continuad.vision.backbones import DEFAULT, Precision


class PerTask(TaskInferring):
    """Every task's learned state is kept whole; `predict` infers the task and asks its snapshot.

    Snapshots answer on their own scales, so scores and maps are standardised by their own held-out good
    images: 0 is an ordinary good surface, 1 the snapshot's limit.

    Args:
        task_inference: "pooled" compares pooled features with each task's mean (constant cost); "lowest" is the
            thesis's rule, the snapshot whose map has the lowest sum (one pass per snapshot).
        reject: an image this many times farther from its nearest task than that task's farthest held-out
            image is reported as task -1, none of the known ones (and scored by the nearest snapshot all the
            same). None never rejects. Needs task_inference "pooled".
        backbone, weights_file, precision, download: the pooled task_inference's own pyramid.
    """

    needs_gradients = False
    infers_task_by = ("pooled", "lowest")

    def __init__(
        self,
        detector: Detector,
        task_inference: Literal["pooled", "lowest"] = "pooled",
        seed: int = 0,
        reject: float | None = None,
        backbone: str = DEFAULT,
        weights_file: str | None = None,
        precision: Precision = "float32",
        download: bool = False,
    ):
        super().__init__(detector, seed, backbone, weights_file, precision, download)
        if task_inference not in self.infers_task_by:
            raise ContinuadError(f"pertask task_inference '{task_inference}' is not known; use pooled or lowest")
        if reject is not None and task_inference != "pooled":
            raise ContinuadError("pertask can only reject unknown products with task_inference=pooled")
        self.task_inference, self.reject = task_inference, reject
        self.snapshots = Snapshots(detector)

    def learn(self, task: Task, progress: Progress | None = None) -> int:
        """Learn an snapshot of its own for the task."""
        self.detector.restore(self.snapshots.fresh)
        return super().learn(task, progress)

    def after(self, task: Task) -> None:
        """Keep the snapshot, and what its images look like."""
        self.snapshots.keep(task.index, self.detector)
        super().after(task)

    def show(self, task: int) -> None:
        """Put an snapshot into the detector."""
        self.snapshots.show(task, self.detector)

    def infer_task(self, images: Tensor, task_inference: str | None = None) -> Tensor:
        """(B,) int64 the known task each image looks most like, by the named task_inference (default: its own)."""
        if (task_inference or self.task_inference) == "pooled":
            return self.pooled(images)[0]
        return lowest_sum(self.snapshots.known(), self._raw, images)

    @torch.no_grad()
    def predict(self, images: Tensor, task: int | None = None) -> Prediction:
        """Standardised prediction of the inferred snapshot, or of `task`'s if the true task is given."""
        found = super().predict(images, task)
        if self.reject is None or task is not None:
            return found
        nearest, distance = self.pooled(images)
        return found._replace(task=nearest.where(distance <= self.reject, NONE))

    @torch.no_grad()
    def _raw(self, task: int, images: Tensor) -> Prediction:
        self.show(task)
        return self.detector.predict(images)
