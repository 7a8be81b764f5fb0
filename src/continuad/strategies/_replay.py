"""What strategies that keep exemplars share."""

from __future__ import annotations

from continuad.core.detector import Detector
from continuad.core.strategy import Strategy
from continuad.core.types import Images, Task
from continuad.memory.codec import Coding
from continuad.memory.replay import Memory


class WithExemplars(Strategy):
    """Keeps exemplars of every task, and learns and calibrates on them. Set `data = Strategy.data` to calibrate alone.

    Args:
        exemplars, coding: see `Memory`.
    """

    def __init__(self, detector: Detector, exemplars: int | str, seed: int, coding: Coding):
        super().__init__(detector, seed)
        self.exemplars, self.coding = exemplars, coding
        self.memory = self.make_memory()

    def make_memory(self) -> Memory:
        """Empty."""
        return Memory(self.exemplars, seed=self.seed, coding=self.coding)

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images and the exemplars to train on."""
        return task.train, self.memory.replayed()

    def val(self, task: Task) -> dict[int, Images]:
        """Val images of the task, and of those of which any are remembered."""
        return {task.index: task.val} | self.memory.val_by_task(but=task.index)

    def after(self, task: Task) -> None:
        """Take exemplars of the task."""
        self.memory.add(task)
