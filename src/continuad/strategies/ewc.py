"""Elastic weight consolidation: a quadratic penalty holds weights that mattered to earlier tasks (Kirkpatrick 2017)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.fit import seed_of
from continuad.core.hints import Range, Seed
from continuad.core.strategy import Strategy
from continuad.core.types import Task
from continuad.strategies._importance import importance, own_loss, quadratic_penalty
from continuad.strategies._passes import Gradients

SAMPLES = 100  # images a task from which the Fisher information is taken


class Ewc(Strategy):
    """Adds strength/2 * sum_t sum_i F_ti (w_i - w*_ti)^2 to the loss: F_t is the diagonal Fisher information of task t,
    the mean over its images of the squared gradient of the detector's own loss, and w*_t the weights after it.

    The penalties of all tasks are kept as one, which is exact: their sum is sum_i F_i (w_i - a_i)^2 plus a constant,
    with F = sum_t F_t and a = sum_t F_t w*_t / F. Memory is two numbers a weight, however many the tasks.

    Args:
        strength: lambda; 0 is naive.
    """

    needs_gradients = True
    variant: ClassVar[str] = ""

    def __init__(self, detector: Detector, strength: Annotated[float, Range(0, 1e12)] = 1000.0, seed: Seed = 0):
        super().__init__(detector, seed)
        self.strength = strength

    def penalty(self, images: Tensor) -> Tensor | float:
        """The quadratic penalty of the weights as they are."""
        return quadratic_penalty(self.detector, self.kept, self.strength)

    def after(self, task: Task) -> None:
        """Measure the task's Fisher information and add its penalty to those before."""
        if self.strength:
            fisher = importance(
                self.detector, task.train, own_loss(self.detector), SAMPLES, 2, seed_of(self.seed, task.index)
            )
            self._add(fisher)

    def _add(self, fisher: Gradients) -> None:
        weights = self.detector.weights()
        for name, newest_importance in fisher.items():
            newest = weights[name].detach()
            before, anchor = self._before(name, newest)
            total = before + newest_importance
            pull = (before * anchor + newest_importance * newest) / total.clamp_min(torch.finfo(total.dtype).tiny)
            self.kept[f"importance/{name}"] = total
            self.kept[f"anchor/{name}"] = torch.where(total > 0, pull, newest)

    def _before(self, name: str, newest: Tensor) -> tuple[Tensor, Tensor]:
        """Importance and anchor of the penalty so far."""
        if f"importance/{name}" not in self.kept:
            return torch.zeros_like(newest), newest
        return self.kept[f"importance/{name}"], self.kept[f"anchor/{name}"]


class EwcOnline(Ewc):
    """One penalty for all earlier tasks, around the newest weights: F = decay * F + F_t (Schwarz et al. 2018).

    Args:
        strength: lambda; 0 is naive.
        decay: gamma, what is left of the earlier tasks' Fisher information; 1 forgets none.
    """

    variant = "online"

    def __init__(
        self,
        detector: Detector,
        strength: Annotated[float, Range(0, 1e12)] = 1000.0,
        seed: Seed = 0,
        decay: Annotated[float, Range(0, 1)] = 0.9,
    ):
        super().__init__(detector, strength, seed)
        self.decay = decay

    def _before(self, name: str, newest: Tensor) -> tuple[Tensor, Tensor]:
        return self.decay * super()._before(name, newest)[0], newest
