"""Gradient episodic memory: a step may raise no earlier task's loss (Lopez-Paz, Ranzato 2017)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.hints import STEPS_MOST, Count, Range, Seed
from continuad.core.strategy import Strategy
from continuad.memory.codec import Coding
from continuad.strategies._passes import drawn, loss_gradients
from continuad.strategies._replay import WithExemplars


class Gem(WithExemplars):
    """The gradient g is replaced by the nearest one that agrees with the gradient of every earlier task's exemplars:
    the quadratic programme min |g' - g|^2 with g'. r_t >= 0 for all t, solved exactly. Exemplars are looked at, not
    learned.

    Args:
        exemplars, coding: as in replay. sample: exemplars of each earlier task looked at in a step; 0: as many as a
            batch has.
        margin: raises the lower bound of the dual variables, which favours the earlier tasks (the paper takes 0.5).
    """

    needs_gradients = True
    data = Strategy.data

    def __init__(
        self,
        detector: Detector,
        exemplars: Count | str = 300,
        sample: Annotated[int, Range(0, STEPS_MOST)] = 0,
        margin: Annotated[float, Range(0, 1e12)] = 0.5,
        seed: Seed = 0,
        coding: Coding = "raw",
    ):
        super().__init__(detector, exemplars, seed, coding)
        self.sample, self.margin = sample, margin

    def on_gradients(self) -> None:
        """Project the gradient, if it has to be."""
        weights = {name: w for name, w in self.detector.weights().items() if w.grad is not None}
        references = [flat for task in self.memory.known() if (flat := self._reference(task, weights)) is not None]
        if not references:
            return
        own = torch.cat([w.grad.flatten() for w in weights.values() if w.grad is not None])
        projected = project(own, torch.stack(references), self.margin)
        parts = projected.split([w.numel() for w in weights.values()])
        for weight, part in zip(weights.values(), parts, strict=True):
            weight.grad = part.view_as(weight).contiguous()

    def _reference(self, task: int, weights: dict[str, torch.nn.Parameter]) -> Tensor | None:
        exemplars = self.memory.part(val=False, task=task)
        if not len(exemplars):
            return None
        found = loss_gradients(self.detector, drawn(exemplars, self.sample or self.detector.batch_size))
        return torch.cat([found[name].flatten() for name in weights])


def project(gradient: Tensor, references: Tensor, margin: float) -> Tensor:
    """The gradient (P,) unchanged where it disagrees with no reference (T, P); else the paper's equation 11.

    Its dual, min over v >= margin of |R^T v + g|^2 / 2, is a problem of T non-negative least squares: with
    R R^T = L L^T and u = v - margin it is |L^T u + L^-1 (R g + R R^T margin)|.
    """
    references, g = references.double(), gradient.double()
    against = (references @ g).cpu().numpy()
    if (against >= 0).all():
        return gradient
    gram = (references @ references.T).cpu().numpy()
    lower = np.linalg.cholesky(gram + 1e-12 * np.trace(gram) * np.eye(len(gram)))
    aim = np.linalg.solve(lower, -(against + gram @ np.full(len(gram), margin)))
    dual = nnls(lower.T, aim)[0] + margin
    return (g + references.T @ torch.from_numpy(dual).to(g.device)).to(gradient.dtype)
