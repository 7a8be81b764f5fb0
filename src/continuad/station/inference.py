"""Which product does a picture show, or none of them? Each product is judged on a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from continuad.strategies._pooled import FARTHEST, REJECT, reach_of

ALIKE = 0.3  # of the mean feature's length: no picture that differs less is of another product, however alike all are
SHARED = 0.1  # share of the mean variance in every channel's: few pictures do not tell all channels apart


class Near(NamedTuple):
    """A product and how far a picture lies from it, where 1 is as far as its pictures may lie.

    That is the product's reach (`Look.reach`), or a difference of `ALIKE`, whichever is the farther: where all good
    pictures are nearly the same, a defect lies far beyond the reach and is still no other product.
    """

    product: str
    distance: float


class Look(NamedTuple):
    """What a product's pictures look like.

    Attributes:
        mean, variance: (C,) of pooled features.
        farthest: (N, C) features of the good pictures that lie farthest from the mean.
        images: () how many good pictures there were.
        usual: (2,) median distance of good pictures, each from what the others look like, and their deviation (1.4826
            times the median distance from it).
    """

    mean: Tensor
    variance: Tensor
    farthest: Tensor
    images: Tensor
    usual: Tensor

    @classmethod
    def learn(cls, features: Tensor) -> Look:
        """From the pooled features (N, C) of all good pictures."""
        z = features.double()
        moments = z.mean(0).float(), z.var(0, correction=0).float()
        look = cls(*moments, features, torch.tensor(len(z)), torch.zeros(2))
        apart = _left_out(z)
        usual = torch.stack([apart.median(), 1.4826 * (apart - apart.median()).abs().median()]).float()
        return look._replace(farthest=look._far(features), usual=usual)

    def with_more(self, features: Tensor) -> Look:
        """With further good pictures (N, C)."""
        more, n, m = Look.learn(features), float(self.images), len(features)
        share, shift = m / (n + m), more.mean - self.mean
        variance = (1 - share) * self.variance + share * more.variance + share * (1 - share) * shift.square()
        usual = (1 - share) * self.usual + share * more.usual if m > 1 else self.usual
        look = Look(self.mean + share * shift, variance, self.farthest, self.images + m, usual)
        return look._replace(farthest=look._far(torch.cat([self.farthest, features])))

    def deviation(self) -> Tensor:
        """(C,) by which features are divided before they are compared."""
        return _deviation(self.variance)

    def reach(self) -> Tensor:
        """() distance that counts as 1; infinite where a single picture tells no spread."""
        found = reach_of(self._apart(self.farthest), int(self.images), REJECT)
        return found if found > 0 else torch.tensor(torch.inf)

    def unusual(self, features: np.ndarray) -> float:
        """How many deviations farther from the mean a picture's features (C,) lie than those of good pictures."""
        median, deviation = self.usual.tolist()
        return (float(self._apart(torch.from_numpy(features)[None])) - median) / max(deviation, 1e-6 * median, 1e-12)

    def _apart(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.deviation()).norm(dim=1)

    def _far(self, features: Tensor) -> Tensor:
        return features[self._apart(features).argsort(descending=True)[:FARTHEST]]


def _deviation(variance: Tensor) -> Tensor:
    return ((1 - SHARED) * variance + SHARED * variance.mean(-1, keepdim=True) + 1e-6).sqrt()


def _left_out(z: Tensor) -> Tensor:
    """(N,) distance of each of some features (N, C) from the mean of the others, by the deviation of the others.

    Few pictures lie nearer to a mean and a deviation that they made themselves than any new picture will.
    """
    n = len(z)
    if n < 2:
        return torch.zeros(n, dtype=z.dtype)
    mean, variance = z.mean(0), z.var(0, correction=0)
    others = (z - mean) * (n / (n - 1))  # each less the mean of the others
    variances = ((n * variance - (z - mean).square() * (n / (n - 1))) / (n - 1)).clamp(min=0)
    return (others / _deviation(variances)).norm(dim=1)


class ProductInference:
    """Products that a picture may show.

    Args:
        looks: by product, in the order they were taught; at least one.
    """

    def __init__(self, looks: Mapping[str, Look]):
        self.products = list(looks)
        self._means = torch.stack([look.mean for look in looks.values()])
        self._scales = torch.stack([look.deviation() * look.reach() for look in looks.values()])
        self._alike = ALIKE * self._means.norm(dim=1)

    def nearest(self, features: Tensor) -> list[Sequence[Near]]:
        """Of each picture's pooled features (B, C): the two nearest products, the nearest first."""
        differences = features[:, None] - self._means
        length = differences.norm(dim=2) / self._alike
        apart = (differences / self._scales).norm(dim=2)
        apart = torch.where(self._scales.isinf().all(1), length, apart)  # a single picture tells no spread
        places = apart.topk(min(2, len(self.products)), largest=False).indices
        distances = torch.minimum(apart, length).gather(1, places)
        return [
            [Near(self.products[place], distance) for place, distance in zip(*row, strict=True)]
            for row in zip(places.tolist(), distances.tolist(), strict=True)
        ]
