"""How a detector meets one task after another. The default is to fine-tune and hope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from continuad.core.batches import Images, in_order
from continuad.core.checkpoint import Checkpoint
from continuad.core.detector import Detector
from continuad.core.fit import Budget, Progress, fit, seed_of
from continuad.core.state import Policy, Stats
from continuad.core.thresholds import Thresholds
from continuad.core.types import Batch, Joined, Prediction, Rows, Task
from continuad.errors import ContinuadError


class Strategy(nn.Module):
    """A continual strategy around one detector; subclasses override only what they change.

    Attributes:
        needs_gradients: it edits losses or gradients, and so refuses detectors that learn by statistics.
        statistics: what happens to the detector's statistics when a task begins.
        needs_task: `predict` must be told the task.
        separate: later lessons leave a task's answers alone: they are measured when it is learned and after the last.
        infers_task_by: ways it can infer the task, which `route` takes by name; `predict` then names the task it took
            each image for.
        kept: what the strategy remembers (counted as additional memory).
        per_task_thresholds: the three thresholds of every task by its number, see `thresholds`.
        budget: how long a gradient detector learns a task.
        checkpoint: where a half-learned task is kept, and continued from, if anywhere.
        tasks: what was learned, in order of learning.
    """

    needs_gradients: ClassVar[bool] = False
    statistics: ClassVar[Policy] = "restart"
    needs_task: ClassVar[bool] = False
    separate: ClassVar[bool] = False
    infers_task_by: ClassVar[tuple[str, ...]] = ()
    budget: Budget = Budget()
    checkpoint: Checkpoint | None = None
    tasks: Sequence[Task] = ()

    def __init__(self, detector: Detector, seed: int = 0):
        super().__init__()
        if reason := self.refuses(type(detector)):
            raise ContinuadError(reason)
        self.detector, self.seed, self.kept, self.per_task_thresholds = detector, seed, Stats(), Stats()

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
        val = self.calibration(task)
        steps = fit(
            self.detector,
            new,
            old,
            Joined(tuple(val.values())),
            self,
            statistics=self.statistics,
            seed=seed_of(self.seed, task.index),
            budget=self.budget,
            checkpoint=self.checkpoint,
            progress=progress,
        )
        self.after(task)
        self.set_thresholds({t: in_order(images, self.detector.batch_size) for t, images in val.items()})
        return steps

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images, and replayed ones if any."""
        return task.train, None

    def calibration(self, task: Task) -> dict[int, Rows]:
        """Held-out good images for the thresholds: of the task, and of those earlier ones that there are images of."""
        return {task.index: task.val}

    def set_thresholds(self, val: Mapping[int, Iterable[Batch]]) -> None:
        """Set every task's own thresholds of which held-out images are at hand; the others' stay as they are."""
        alone = len(val) == 1  # then the detector has them already
        for task, batches in val.items():
            thresholds = self.detector.thresholds() if alone else self.detector.thresholds_of(batches)
            self.per_task_thresholds[str(task)] = torch.tensor(thresholds)

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

    def infer_task(self, images: Tensor, task_inference: str | None = None) -> Tensor:
        """(B,) int64 the task each image looks most like, by one of `infers_task_by`; None: the strategy's own."""
        raise ContinuadError(f"{type(self).__name__} does not infer tasks")

    def thresholds(self, task: int | None = None) -> Thresholds:
        """Thresholds on the scale of `predict`: a task's own, or those for everything that the last lesson held out.

        A task's own are set anew after every lesson where the strategy keeps held-out images of it; else they are
        those of the lesson in which it was learned. Unknown tasks, and None, have the thresholds for everything.
        """
        own = str(task) in self.per_task_thresholds
        return Thresholds(*self.per_task_thresholds[str(task)].tolist()) if own else self.detector.thresholds()
