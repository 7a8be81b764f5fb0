"""Average: running average of per-task means and covariances (thesis Algorithm 5.1, "CL")."""

from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.detector import Detector, HasMoments
from continuad.core.hints import Seed
from continuad.core.strategy import Strategy
from continuad.core.types import Task


class Average(Strategy):
    """After task i (from 0): M = M i/(i+1) + M_i /(i+1), and the same for the covariance.

    Memory stays that of one task. Unlike `accumulate` it weighs tasks equally whatever their size and drops
    the spread between the tasks' means, so the result is not the Gaussian of all images. The thresholds are set
    on the newest task's val images, the only ones at hand.
    """

    def __init__(self, detector: Detector, seed: Seed = 0):
        super().__init__(detector, seed)
        self.earlier: dict[str, Tensor] | None = None

    @property
    def predicts_out_of_fold(self) -> bool:
        """Never: no image can be taken out of an average."""
        return False

    @classmethod
    def refuses(cls, detector: type[Detector]) -> str | None:
        """Only detectors whose state is means and covariances can be averaged."""
        if not issubclass(detector, HasMoments):
            return "the strategy averages means and covariances, and the detector keeps none"
        return super().refuses(detector)

    def before(self, task: Task) -> None:
        """Take what was learned so far."""
        assert isinstance(self.detector, HasMoments)
        self.earlier = self.detector.moments() if self.tasks else None

    def after(self, task: Task) -> None:
        """Blend it with what the task taught; what scores are scaled by follows the blend."""
        assert isinstance(self.detector, HasMoments)
        earlier, self.earlier = self.earlier, None
        now = self.detector.moments()
        if earlier is None or now is None:
            return
        i = len(self.tasks)
        self.detector.set_moments({k: earlier[k] * (i / (i + 1)) + now[k] * (1 / (i + 1)) for k in now})
        batches = in_order(task.val, self.detector.batch_size)
        self.detector.calibrate(batch.image.to(self.detector.device) for batch in batches)
