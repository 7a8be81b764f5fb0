"""A snapshot of the detector for each task, chosen by what the image looks like (thesis 5.2, "less CL")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.hints import Seed
from continuad.core.types import Levels, Task
from continuad.strategies._pooled import REJECT, Nearest, Reject
from continuad.strategies._snapshots import Snapshots
from continuad.strategies._task_inference import TaskInferring
from continuad.vision.backbones import DEFAULT, AnyBackbone


class PerTask(TaskInferring):
    """Every task's learned state is kept whole; `predict` infers the task and asks its snapshot.

    Args:
        task_inference: "pooled" compares pooled features with each task's mean (constant cost); "lowest" is the
            thesis's rule, the snapshot whose map has the lowest sum (one pass per snapshot).
        reject: see `TaskInferring`; also with "lowest", the distance is measured in pooled features.
        backbone: of the pooled task inference.
    """

    needs_gradients = False
    infers_task_by = ("pooled", "lowest")

    def __init__(
        self,
        detector: Detector,
        task_inference: Literal["pooled", "lowest"] = "pooled",
        seed: Seed = 0,
        reject: Reject | None = REJECT,
        backbone: AnyBackbone = DEFAULT,
    ):
        super().__init__(detector, seed, backbone, reject)
        self.task_inference = task_inference
        self.snapshots = Snapshots(detector)

    def before(self, task: Task) -> None:
        """Start from where the first task started."""
        self.detector.restore(self.snapshots.fresh)

    def after(self, task: Task) -> None:
        """Keep the snapshot, and what its images look like."""
        self.snapshots.keep(task.index)
        super().after(task)

    def snapshot(self, task: int) -> Detector:
        """A light view."""
        return self.snapshots.view(task)

    @torch.no_grad()
    def infer_task(self, images: Tensor, how: str | None = None) -> Tensor:
        """(B,) int64 the learned task each image looks most like, in its own way or the named one."""
        self._refuse_untrained()
        if (how or self.task_inference) == "pooled":
            return super()._inferred(images, None).task
        return self._lowest(images)

    def _inferred(self, images: Tensor, levels: Levels | None) -> Nearest:
        found = super()._inferred(images, levels)
        return found if self.task_inference == "pooled" else found._replace(task=self._lowest(images))

    def _lowest(self, images: Tensor) -> Tensor:
        """The thesis's rule (5.2): (B,) the task whose snapshot's map has the lowest sum. One pass per snapshot."""
        tasks = [known.index for known in self.tasks]
        sums = torch.stack([self.snapshot(task).predict(images).map.flatten(1).sum(1) for task in tasks])
        return torch.tensor(tasks, device=images.device)[sums.argmin(0)]
