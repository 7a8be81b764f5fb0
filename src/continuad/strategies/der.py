"""Dark experience replay: exemplars are learned again, and answered as before (after Buzzega et al. 2020)."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.hints import Count, Range, Seed
from continuad.core.types import Task
from continuad.memory.codec import Coding
from continuad.strategies._distillation import keep_answers, moved_answers
from continuad.strategies._passes import drawn
from continuad.strategies._replay import WithExemplars


class Der(WithExemplars):
    """Replay, and strength * d(f(x), f_old(x)) on a further batch of exemplars a step, as in DER++; d is `distance_of`.

    The original keeps its answers beside every exemplar. A detector's answers are maps many times larger than the
    image, so the detector as it was after the task before is kept instead, and asked again.

    Args:
        exemplars, coding: as in replay. strength: 0 is replay.
    """

    needs_gradients = True
    needs_answers = True

    def __init__(
        self,
        detector: Detector,
        exemplars: Count | str = 300,
        strength: Annotated[float, Range(0, 1e12)] = 1.0,
        seed: Seed = 0,
        coding: Coding = "raw",
    ):
        super().__init__(detector, exemplars, seed, coding)
        self.strength = strength

    def penalty(self, images: Tensor) -> Tensor | float:
        """How far the answers on some exemplars have moved."""
        exemplars = self.memory.replayed()
        if not exemplars or not self.kept.under("old/"):
            return 0.0
        asked = drawn(exemplars, self.detector.batch_size).to(images.device)
        return self.strength * moved_answers(self.detector, self.kept, asked)

    def after(self, task: Task) -> None:
        """Take exemplars of the task, and keep the detector as it is now."""
        super().after(task)
        if self.strength:
            keep_answers(self.detector, self.kept)
