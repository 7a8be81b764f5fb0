"""How a detector meets one task after another. The default is to fine-tune and hope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from continuad.batches import Images
from continuad.checkpoint import Checkpoint
from continuad.detector import Detector
from continuad.errors import ContinuadError
from continuad.fit import Budget, Progress, fit, seed_of
from continuad.stats import Policy, Stats
from continuad.thresholds import Limits
from continuad.types import Prediction, Task


class Strategy(nn.Module):
    """A continual strategy around one detector; subclasses override only what they change.

    Attributes:
        needs_gradients: it edits losses or gradients, and so refuses detectors that learn by statistics.
        statistics: what happens to the detector's statistics when a task begins.
        needs_task: `predict` must be told the task.
        routers: ways it can infer the task, which `route` takes by name; `predict` then names the task it took
            each image for.
        kept: what the strategy remembers (counted as additional memory).
        budget: how long a gradient detector learns a task.
        checkpoint: where a half-learned task is kept, and continued from, if anywhere.
    """

    needs_gradients: ClassVar[bool] = False
    statistics: ClassVar[Policy] = "restart"
    needs_task: ClassVar[bool] = False
    routers: ClassVar[tuple[str, ...]] = ()
    budget: Budget = Budget()
    checkpoint: Checkpoint | None = None

    def __init__(self, detector: Detector, seed: int = 0):
        super().__init__()
        if reason := self.refuses(type(detector)):
            raise ContinuadError(reason)
        self.detector, self.seed, self.kept = detector, seed, Stats()

    @classmethod
    def refuses(cls, detector: type[Detector]) -> str | None:
        """Why this strategy cannot serve that kind of detector, or None when it can."""
        if cls.needs_gradients and detector.learns_by != "gradient":
            return f"{cls.__name__} edits gradients, but {detector.__name__} learns by statistics and has none"
        return None

    def view(self, stream: Sequence[Task]) -> Sequence[Task]:
        """What the learner is shown. Only upper bounds may show it more than the newest task."""
        return stream

    def learn(self, task: Task, progress: Progress | None = None) -> int:
        """Learn one task of `view(stream)`; returns the steps taken. The same task and seed repeat exactly."""
        new, old = self.data(task)
        steps = fit(
            self.detector,
            new,
            old,
            self.calibration(task),
            self,
            statistics=self.statistics,
            seed=seed_of(self.seed, task.index),
            budget=self.budget,
            checkpoint=self.checkpoint,
            progress=progress,
        )
        self.after(task)
        return steps

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images, and replayed ones if any."""
        return task.train, None

    def calibration(self, task: Task) -> Images:
        """Held-out good images for the limits."""
        return task.val

    def penalty(self, images: Tensor) -> Tensor | float:
        """Added to the loss of every step."""
        return 0.0

    def on_gradients(self) -> None:
        """Called between backward and the optimiser's step."""

    def on_step(self) -> None:
        """Called after the optimiser's step (momentum moves weights that have no gradient)."""

    def after(self, task: Task) -> None:
        """Called when a task has been learned."""

    @torch.no_grad()
    def predict(self, images: Tensor, task: int | None = None) -> Prediction:
        """Score uint8 images (B, 3, H, W). `task`: the true one, if it is known."""
        return self.detector.predict(images)

    def route(self, images: Tensor, router: str | None = None) -> Tensor:
        """(B,) int64 the task each image looks most like, by one of `routers`; None: the strategy's own."""
        raise ContinuadError(f"{type(self).__name__} does not infer tasks")

    def limits(self, task: int) -> Limits:
        """Limits on the scale of `predict` for images of that task."""
        return self.detector.limits()
