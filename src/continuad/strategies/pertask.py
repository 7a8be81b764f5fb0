"""One expert per task, chosen by what the image looks like (thesis 5.2, "less CL")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.strategy import Progress
from continuad.core.types import Prediction, Task
from continuad.errors import ContinuadError
from continuad.strategies._routing import NONE, lowest_sum
from continuad.strategies._snapshots import Experts
from continuad.strategies._task_inference import Routed
from continuad.vision.backbones import DEFAULT, Precision


class PerTask(Routed):
    """Every task's learned state is kept whole; `predict` infers the task and asks its expert.

    Experts answer on their own scales, so scores and maps are standardised by their own held-out good
    images: 0 is an ordinary good surface, 1 the expert's limit.

    Args:
        router: "pooled" compares pooled features with each task's mean (constant cost); "lowest" is the
            thesis's rule, the expert whose map has the lowest sum (one pass per expert).
        reject: an image this many times farther from its nearest task than that task's farthest held-out
            image is reported as task -1, none of the known ones (and scored by the nearest expert all the
            same). None never rejects. Needs router "pooled".
        backbone, weights_file, precision, download: the pooled router's own pyramid.
    """

    needs_gradients = False
    routers = ("pooled", "lowest")

    def __init__(
        self,
        detector: Detector,
        router: Literal["pooled", "lowest"] = "pooled",
        seed: int = 0,
        reject: float | None = None,
        backbone: str = DEFAULT,
        weights_file: str | None = None,
        precision: Precision = "float32",
        download: bool = False,
    ):
        super().__init__(detector, seed, backbone, weights_file, precision, download)
        if router not in self.routers:
            raise ContinuadError(f"pertask router '{router}' is not known; use pooled or lowest")
        if reject is not None and router != "pooled":
            raise ContinuadError("pertask can only reject unknown products with router=pooled")
        self.router, self.reject = router, reject
        self.experts = Experts(detector)

    def learn(self, task: Task, progress: Progress | None = None) -> int:
        """Learn an expert of its own for the task."""
        self.detector.restore(self.experts.fresh)
        return super().learn(task, progress)

    def after(self, task: Task) -> None:
        """Keep the expert, and what its images look like."""
        self.experts.keep(task.index, self.detector)
        super().after(task)

    def show(self, task: int) -> None:
        """Put an expert into the detector."""
        self.experts.show(task, self.detector)

    def route(self, images: Tensor, router: str | None = None) -> Tensor:
        """(B,) int64 the known task each image looks most like, by the named router (default: its own)."""
        if (router or self.router) == "pooled":
            return self.pooled(images)[0]
        return lowest_sum(self.experts.known(), self._raw, images)

    @torch.no_grad()
    def predict(self, images: Tensor, task: int | None = None) -> Prediction:
        """Standardised prediction of the inferred expert, or of `task`'s if the true task is given."""
        found = super().predict(images, task)
        if self.reject is None or task is not None:
            return found
        nearest, distance = self.pooled(images)
        return found._replace(task=nearest.where(distance <= self.reject, NONE))

    @torch.no_grad()
    def _raw(self, task: int, images: Tensor) -> Prediction:
        self.show(task)
        return self.detector.predict(images)
