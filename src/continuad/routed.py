"""What strategies share that hold every task in one network and infer which one an image needs."""

from __future__ import annotations

import torch
from torch import Tensor

from continuad.backbones import DEFAULT, Precision
from continuad.batches import in_order
from continuad.detector import Detector
from continuad.experts import one_scale
from continuad.routing import PooledRouter
from continuad.strategy import Strategy
from continuad.thresholds import Limits
from continuad.types import Prediction, Task


class Routed(Strategy):
    """Puts a task's weights into the detector (`show`) before it answers; the task is inferred from pooled features.

    Predictions are standardised, as in pertask: 0 is an ordinary good surface, 1 the task's limit.

    Args:
        backbone, weights_file, precision, download: the router's, see `PooledRouter`.
    """

    needs_gradients = True
    routers = ("pooled",)

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
        self.router = PooledRouter(backbone, weights_file, precision, download)

    def show(self, task: int) -> None:
        """Put a known task's weights into the detector."""
        raise NotImplementedError

    def after(self, task: Task) -> None:
        """Remember what the task's images look like."""
        size = self.detector.batch_size
        self.router.learn(task.index, in_order(task.train, size), in_order(task.val, size))

    def route(self, images: Tensor, router: str | None = None) -> Tensor:
        """(B,) int64 the known task each image looks most like."""
        return self.router(images)[0]

    @torch.no_grad()
    def predict(self, images: Tensor, task: int | None = None) -> Prediction:
        """Standardised prediction with the weights of the inferred task, or of `task` if the true one is given."""
        tasks = self.route(images) if task is None else torch.full((len(images),), task, device=images.device)

        def ask(task: int, some: Tensor) -> tuple[Prediction, Limits]:
            self.show(task)
            return self.detector.predict(some), self.detector.limits()

        return one_scale(tasks, ask, images)

    def limits(self, task: int) -> Limits:
        """Always 0 and 1: predictions are standardised."""
        return Limits(0.0, 1.0, 1.0)
