"""Memory aware synapses: weights are held as far as the answers depend on them (Aljundi et al. 2018)."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.fit import seed_of
from continuad.core.hints import Range, Seed
from continuad.core.strategy import Strategy
from continuad.core.types import Task
from continuad.strategies._importance import importance, quadratic_penalty

SAMPLES = 100  # images a task from which the importance is taken


class Mas(Strategy):
    """Adds strength/2 * sum_i F_i (w_i - w*_i)^2 to the loss. F_i is the sum over tasks of the mean over images of
    |d m / d w_i|, with m the mean square of the detector's answers; w* are the weights after the newest task.

    Unlike EWC it asks how the answers change, not the loss: at a minimum, where the loss has no slope, it still sees
    which weights matter.

    Args:
        strength: lambda; 0 is naive.
    """

    needs_gradients = True
    needs_answers = True

    def __init__(self, detector: Detector, strength: Annotated[float, Range(0, 1e12)] = 1000.0, seed: Seed = 0):
        super().__init__(detector, seed)
        self.strength = strength

    def penalty(self, images: Tensor) -> Tensor | float:
        """The quadratic penalty of the weights as they are."""
        return quadratic_penalty(self.detector, self.kept, self.strength)

    def after(self, task: Task) -> None:
        """Add the task's importance, and move the anchor to the weights as they are now."""
        if not self.strength:
            return
        seed = seed_of(self.seed, task.index)
        for name, found in importance(self.detector, task.train, self._size_of_answers, SAMPLES, 1, seed).items():
            if f"importance/{name}" in self.kept:
                found = found + self.kept[f"importance/{name}"]
            self.kept[f"importance/{name}"] = found
            self.kept[f"anchor/{name}"] = self.detector.weights()[name].detach().clone()

    def _size_of_answers(self, images: Tensor) -> Tensor:
        return torch.stack([answer.square().mean() for answer in self.detector(images)]).mean()
