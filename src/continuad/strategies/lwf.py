"""Learning without forgetting: new images are also answered as before they came (Li, Hoiem 2016)."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.hints import Range, Seed
from continuad.core.strategy import Strategy
from continuad.core.types import Task
from continuad.strategies._distillation import keep_answers, moved_answers


class Lwf(Strategy):
    """Adds strength * d(f(x), f_old(x)) on the new images to the loss: f_old is the detector as it was after the task
    before, and is kept whole; d is `distance_of`. No old image is needed. Beside a replay strategy
    (`replay:300+lwf`) the images are new and replayed ones.

    Args:
        strength: 0 is naive.
    """

    needs_gradients = True
    needs_answers = True

    def __init__(self, detector: Detector, strength: Annotated[float, Range(0, 1e12)] = 1.0, seed: Seed = 0):
        super().__init__(detector, seed)
        self.strength = strength

    def penalty(self, images: Tensor) -> Tensor | float:
        """How far the answers have moved."""
        if not self.kept.under("old/"):
            return 0.0
        return self.strength * moved_answers(self.detector, self.kept, images)

    def after(self, task: Task) -> None:
        """Keep the detector as it is now."""
        if self.strength:
            keep_answers(self.detector, self.kept)
