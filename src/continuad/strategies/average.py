"""Average: running average of per-task means and covariances (thesis Algorithm 5.1, "CL")."""

from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.detector import Detector
from continuad.core.strategy import Progress, Strategy
from continuad.core.types import Task


class Average(Strategy):
    """After task i (from 0): M = M i/(i+1) + M_i /(i+1), and the same for the covariance.

    Memory stays that of one task. Unlike `accumulate` it weighs tasks equally whatever their size and drops
    the spread between the tasks' means, so the result is not the Gaussian of all images. The thresholds are set
    on the newest task's held-out images, the only ones at hand.
    """

    def __init__(self, detector: Detector, seed: int = 0):
        super().__init__(detector, seed)
        self.before: dict[str, Tensor] | None = None

    @classmethod
    def refuses(cls, detector: type[Detector]) -> str | None:
        """Only detectors whose state is means and covariances can be averaged."""
        if detector.moments is Detector.moments:
            return f"Average merges means and covariances; {detector.__name__} keeps none"
        return super().refuses(detector)

    def learn(self, task: Task, progress: Progress | None = None) -> int:
        """Learn the task alone, then blend it into what was there."""
        self.before = self.detector.moments() if task.index else None
        return super().learn(task, progress)

    def after(self, task: Task) -> None:
        """Blend, and set the thresholds anew for the blended model."""
        before, self.before = self.before, None
        now = self.detector.moments()
        if before is None or now is None:
            return
        i = task.index
        self.detector.set_moments({k: before[k] * (i / (i + 1)) + now[k] * (1 / (i + 1)) for k in now})
        self.detector.calibrate(in_order(task.val, self.detector.batch_size))
