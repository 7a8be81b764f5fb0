"""Dark experience replay: exemplars are learned again, and answered as before (after Buzzega et al. 2020)."""

from __future__ import annotations

from torch import Tensor

from continuad.batches import Images
from continuad.coding import Coding
from continuad.detector import Detector
from continuad.memory import Memory
from continuad.passes import answers, distance, drawn, evaluating
from continuad.strategy import Strategy
from continuad.types import Task


class Der(Strategy):
    """Replay, and strength * |f(x) - f_old(x)|^2 (a mean) on a further batch of exemplars a step, as in DER++.

    The original keeps its answers beside every exemplar. A detector's answers are maps many times larger than the
    image, so the detector as it was after the task before is kept instead, and asked again.

    Args:
        exemplars, coding: as in replay. strength: 0 is replay.
    """

    needs_gradients = True

    def __init__(
        self,
        detector: Detector,
        exemplars: int | str = 300,
        strength: float = 1.0,
        seed: int = 0,
        coding: Coding = "raw",
    ):
        super().__init__(detector, seed)
        self.exemplars, self.strength, self.coding = exemplars, strength, coding
        self.memory = Memory(exemplars, seed=seed, coding=coding)

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images and the exemplars to train on."""
        return task.train, self.memory.replayed()

    def calibration(self, task: Task) -> Images:
        """Held-out images of the task and of every task remembered."""
        return self.memory.calibration(task)

    def penalty(self, images: Tensor) -> Tensor | float:
        """How far the answers on some exemplars have moved."""
        old, exemplars = self.kept.under("old/"), self.memory.replayed()
        if not old or not exemplars:
            return 0.0
        asked = drawn(exemplars, self.detector.batch_size).to(images.device)
        before = answers(self.detector, old, asked)
        with evaluating(self.detector):
            return self.strength * distance(self.detector(asked), before)

    def after(self, task: Task) -> None:
        """Take exemplars of the task, and keep the detector as it is now."""
        self.memory.add(task)
        if self.strength:
            for name, value in self.detector.learned().items():
                if not name.startswith("stats."):
                    self.kept[f"old/{name}"] = value
