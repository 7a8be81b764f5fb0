"""Reservoir: replay of a uniform sample of every image seen, whatever task it came from (Vitter 1985)."""

from continuad.batches import Images
from continuad.coding import Coding
from continuad.detector import Detector
from continuad.memory import UniformMemory
from continuad.strategy import Strategy
from continuad.types import Task


class Reservoir(Strategy):
    """As replay, but tasks share the memory in proportion to their images: after N images each is in it with
    probability `exemplars` / N. No one has to know how many tasks or images there will be.

    Args:
        exemplars: images in all. coding: as in replay.
    """

    def __init__(self, detector: Detector, exemplars: int = 300, seed: int = 0, coding: Coding = "raw"):
        super().__init__(detector, seed)
        self.exemplars, self.coding = exemplars, coding
        self.memory = UniformMemory(exemplars, seed=seed, coding=coding)

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images and the exemplars to train on."""
        return task.train, self.memory.replayed()

    def calibration(self, task: Task) -> Images:
        """Held-out images of the task and of every task remembered."""
        return self.memory.calibration(task)

    def after(self, task: Task) -> None:
        """Take exemplars of the task."""
        self.memory.add(task)
