"""Herding: replay of the exemplars whose mean feature stays closest to their task's (Rebuffi et al. 2017, iCaRL)."""

import torch
from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.detector import Detector, HasFeatures, features_of, gives_answers
from continuad.core.hints import Count, Seed
from continuad.core.types import ImageSet
from continuad.memory.codec import Coding
from continuad.memory.replay import Memory
from continuad.strategies._replay import WithExemplars


class Herding(WithExemplars):
    """As replay, but each next exemplar is the image that brings the mean of those chosen closest to the mean of
    all the task's images, in the detector's own pooled features just after it learned the task.

    Args:
        exemplars, coding: as in replay.
    """

    def __init__(self, detector: Detector, exemplars: Count | str = 300, seed: Seed = 0, coding: Coding = "raw"):
        super().__init__(detector, exemplars, seed, coding)

    @classmethod
    def refuses(cls, detector: type[Detector]) -> str | None:
        """Detectors in whose features images cannot be compared."""
        if not gives_answers(detector) and not issubclass(getattr(detector, "kind", detector), HasFeatures):
            return "the strategy compares images, and the detector gives nothing to compare (no forward, no features)"
        return super().refuses(detector)

    def make_memory(self) -> Memory:
        """In iCaRL's order."""
        return Memory(self.exemplars, seed=self.seed, coding=self.coding, order=self._order)

    def _order(self, images: ImageSet, _: torch.Generator) -> Tensor:
        batches = in_order(images, self.detector.batch_size)
        return herd(torch.cat([features_of(self.detector, batch.image.to(self.detector.device)) for batch in batches]))


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
