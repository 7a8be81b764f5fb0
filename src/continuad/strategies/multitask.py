"""Multitask: the upper bound that never forgets because every task is learned with all earlier ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from continuad.core.detector import Detector
from continuad.core.fit import Progress
from continuad.core.hints import Seed
from continuad.core.strategy import Strategy, folds_of
from continuad.core.types import Images, ImageSet, Joined, Prediction, Task
from continuad.errors import ContinuadError
from continuad.strategies._snapshots import Snapshots


@dataclass(frozen=True)
class Union(Task):
    """The newest of several tasks, with the train and val images of all of them.

    Attributes:
        parts: the tasks, the newest last.
    """

    parts: tuple[Task, ...] = ()


class Multitask(Strategy):
    """Starts again at each task with the images of all tasks so far: one model for everything, at the price
    of keeping every image (not counted as model memory) and of learning them again each time.

    It learns tasks of `view(stream)` only, of a stream in which every task that it has learned comes before: a model
    from disk is shown the earlier tasks' images again.
    """

    def __init__(self, detector: Detector, seed: Seed = 0):
        super().__init__(detector, seed)
        self.snapshots = Snapshots(detector)

    def view(self, stream: Sequence[Task]) -> Sequence[Task]:
        """Task t with the train and val images of tasks 0 to t."""
        return [_union(tuple(stream[: i + 1])) for i in range(len(stream))]

    def val(self, task: Task) -> dict[int, Images]:
        """The val images of tasks 0 to t of `view`, under the numbers that these tasks were learned with. Images of a
        task that was passed over are learned with this one and belong to it."""
        numbers = {known.name: known.index for known in self.tasks}
        found: dict[int, list[Images]] = {}
        for part in _parts(task):
            images = part.all_good() if task.all_in_one else part.val
            found.setdefault(numbers.get(part.name, task.index), []).append(images)
        return {number: Joined(tuple(sets)) for number, sets in found.items()}

    def _crossfit(self, task: Task, progress: Progress | None) -> list[Prediction]:
        if folds_of(self.thresholds_from) and not self.predicts_out_of_fold:
            raise ContinuadError(
                f"multitask learns all tasks anew each time and cannot set thresholds by {self.thresholds_from}; use "
                "train or val"
            )
        return []

    def before(self, task: Task) -> None:
        """Learn the union from scratch.

        Raises:
            ContinuadError: it is no task of `view`, or there are no images of a task learned before.
        """
        shown = {part.name for part in _parts(task)}
        if missing := [known.name for known in self.tasks if known.name not in shown]:
            raise ContinuadError(
                f"multitask learns '{task.name}' together with all tasks before it, and there are no images of "
                f"{', '.join(missing)}: give a stream that holds those first, and learn from its view"
            )
        self.detector.restore(self.snapshots.fresh)


def _parts(task: Task) -> tuple[Task, ...]:
    return task.parts if isinstance(task, Union) else (task,)


def _union(parts: tuple[Task, ...]) -> Union:
    newest = parts[-1]
    train, val = (
        cast(ImageSet, Joined(tuple(images))) for images in zip(*((p.train, p.val) for p in parts), strict=True)
    )
    return Union(newest.index, newest.name, train, val, newest.test, newest.bits, parts)
