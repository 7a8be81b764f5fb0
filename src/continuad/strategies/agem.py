"""Averaged gradient episodic memory: a step may not raise the exemplars' mean loss (Chaudhry et al. 2019)."""

from __future__ import annotations

from typing import Annotated

from continuad.core.detector import Detector
from continuad.core.hints import STEPS_MOST, Count, Range, Seed
from continuad.core.strategy import Strategy
from continuad.memory.codec import Coding
from continuad.strategies._passes import drawn, loss_gradients
from continuad.strategies._replay import WithExemplars


class Agem(WithExemplars):
    """Where the new images' gradient g and the gradient r of some exemplars disagree (g . r < 0), what disagrees is
    taken out of it: g - (g . r)/(r . r) r. Exemplars are looked at, not learned.

    Args:
        exemplars, coding: as in replay. sample: exemplars looked at in a step; 0: as many as a batch has.
    """

    needs_gradients = True
    data = Strategy.data

    def __init__(
        self,
        detector: Detector,
        exemplars: Count | str = 300,
        sample: Annotated[int, Range(0, STEPS_MOST)] = 0,
        seed: Seed = 0,
        coding: Coding = "raw",
    ):
        super().__init__(detector, exemplars, seed, coding)
        self.sample = sample

    def on_gradients(self) -> None:
        """Project the gradient, if it has to be."""
        exemplars = self.memory.replayed()
        if not exemplars:
            return
        images = drawn(exemplars, self.sample or self.detector.batch_size)
        reference = loss_gradients(self.detector, images)
        own = {name: w.grad for name, w in self.detector.weights().items() if w.grad is not None}
        dot = sum(float((g.double() * reference[name]).sum()) for name, g in own.items())
        size = sum(float(r.double().square().sum()) for r in reference.values())
        if dot < 0 and size > 0:
            for name, gradient in own.items():
                gradient -= dot / size * reference[name]
