"""Herding: replay of the exemplars whose mean feature stays closest to their task's (Rebuffi et al. 2017, iCaRL)."""

import torch
from torch import Tensor

from continuad.batches import Images, in_order
from continuad.coding import Coding
from continuad.data.images import ImageSet
from continuad.detector import Detector
from continuad.memory import Memory
from continuad.strategy import Strategy
from continuad.types import Task


class Herding(Strategy):
    """As replay, but each next exemplar is the image that brings the mean of those chosen closest to the mean of
    all the task's images, in the detector's own pooled features just after it learned the task.

    Args:
        exemplars, coding: as in replay.
    """

    def __init__(self, detector: Detector, exemplars: int | str = 300, seed: int = 0, coding: Coding = "raw"):
        super().__init__(detector, seed)
        self.exemplars, self.coding = exemplars, coding
        self.memory = Memory(exemplars, seed=seed, coding=coding, order=self._order)

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images and the exemplars to train on."""
        return task.train, self.memory.replayed()

    def calibration(self, task: Task) -> Images:
        """Held-out images of the task and of every task remembered."""
        return self.memory.calibration(task)

    def after(self, task: Task) -> None:
        """Take exemplars of the task."""
        self.memory.add(task)

    def _order(self, images: ImageSet, _: torch.Generator) -> Tensor:
        batches = in_order(images, self.detector.batch_size)
        return herd(torch.cat([self.detector.features(batch.image.to(self.detector.device)) for batch in batches]))


def herd(features: Tensor) -> Tensor:
    """All indices (N,) of features (N, C) in iCaRL's order, on vectors of length 1."""
    features = torch.nn.functional.normalize(features.double().cpu())
    mean, total = features.mean(0), torch.zeros_like(features[0])
    left = torch.ones(len(features), dtype=torch.bool)
    order = []
    for number in range(1, len(features) + 1):
        apart = (mean - (total + features) / number).norm(dim=1)
        order.append(int(apart.where(left, torch.inf).argmin()))
        total += features[order[-1]]
        left[order[-1]] = False
    return torch.tensor(order, dtype=torch.int64)
