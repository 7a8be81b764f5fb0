"""Multitask: the upper bound that never forgets because every task is learned with all earlier ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from continuad.core.detector import Detector
from continuad.core.strategy import Strategy
from continuad.core.types import ImageSet, Joined, Rows, Task
from continuad.strategies._snapshots import Snapshots


class Multitask(Strategy):
    """Starts again at each task with the images of all tasks so far: one model for everything, at the price
    of keeping every image (not counted as model memory) and of learning them again each time."""

    def __init__(self, detector: Detector, seed: int = 0):
        super().__init__(detector, seed)
        self.snapshots = Snapshots(detector)

    def view(self, stream: Sequence[Task]) -> Sequence[Task]:
        """Task t with the train and val images of tasks 0 to t."""

        def union(parts: list[ImageSet]) -> ImageSet:
            return cast(ImageSet, Joined(tuple(parts)))

        return [
            replace(
                task,
                train=union([t.train for t in stream[: i + 1]]),
                val=union([t.val for t in stream[: i + 1]]),
            )
            for i, task in enumerate(stream)
        ]

    def val(self, task: Task) -> dict[int, Rows]:
        """The val images of tasks 0 to t of `view`."""
        if task.all_in_one:
            train, val = (cast(Joined, part).parts for part in cast(Joined, task.val).parts)
            return {i: Joined(both) for i, both in enumerate(zip(train, val, strict=True))}
        return dict(enumerate(cast(Joined, task.val).parts))

    def before(self, task: Task) -> None:
        """Learn the union from scratch."""
        self.detector.restore(self.snapshots.fresh)
