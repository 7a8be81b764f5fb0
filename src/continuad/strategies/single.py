"""Single model: one separate model per task, given at test time which task an image belongs to."""

from torch import Tensor

from continuad.core.detector import Detector, ask
from continuad.core.hints import Seed
from continuad.core.strategy import Strategy
from continuad.core.types import Prediction, Task
from continuad.errors import ContinuadError
from continuad.strategies._snapshots import Snapshots


class Single(Strategy):
    """The reference that relative gaps are measured against (thesis "Single Model"). Nothing is shared or
    inferred: it needs the true task, and its memory grows with every task."""

    needs_task = True

    def __init__(self, detector: Detector, seed: Seed = 0):
        super().__init__(detector, seed)
        self.snapshots = Snapshots(detector)

    def before(self, task: Task) -> None:
        """Start from where the first task started."""
        self.detector.restore(self.snapshots.fresh)

    def after(self, task: Task) -> None:
        """Keep the model."""
        self.snapshots.keep(task.index)

    def _predict(self, images: Tensor, task: int | None, out_of_fold: bool) -> Prediction:
        """The raw prediction of the task's own model."""
        if task is None:
            raise ContinuadError("strategy 'single' must be given the task of an image; use 'pertask' to infer it")
        return ask(self.snapshots.view(task), images, out_of_fold)
