"""One learned state per task, in turn put into the same detector."""

from __future__ import annotations

from torch import nn

from continuad.core.detector import Detector
from continuad.core.state import Stats


class Snapshots(nn.Module):
    """Snapshots of a detector, one a task. Statistics are shared with the snapshot, not copied, when it is
    put back, so asking another snapshot costs next to nothing. Not for concurrent use on one detector."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.fresh = detector.learned()  # where every task starts from; made again from the seed on loading
        self.kept = Stats()

    def keep(self, task: int, detector: Detector) -> None:
        """Remember what the detector has just learned as that task's snapshot."""
        for name, value in detector.learned().items():
            self.kept[f"{task}/{name}"] = value

    def known(self) -> list[int]:
        """Tasks that have an snapshot, in order."""
        return sorted({int(name.split("/")[0]) for name in self.kept})

    def show(self, task: int, detector: Detector) -> None:
        """Put that task's snapshot into the detector."""
        detector.restore(self.kept.under(f"{task}/"))
