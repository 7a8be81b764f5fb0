"""Which product does a picture show, or none of them? Each product is judged on a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from continuad.strategies._pooled import FARTHEST, REJECT, reach_of

ALIKE = 0.3  # of the mean feature's length: no picture that differs less is of another product, however alike all are
USUAL = 1000  # distances of good pictures that are kept
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
        usual: (M,) ascending, how far good pictures lie from the mean, each from that of the others; at most `USUAL` of
            them, and none where an older continuad taught the product.
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
        look = cls(*moments, features, torch.tensor(len(z)), _thinned(_left_out(z).float()))
        return look._replace(farthest=look._far(features))

    def with_more(self, features: Tensor) -> Look:
        """With further good pictures (N, C)."""
        more, n, m = Look.learn(features), float(self.images), len(features)
        share, shift = m / (n + m), more.mean - self.mean
        variance = (1 - share) * self.variance + share * more.variance + share * (1 - share) * shift.square()
        usual = _thinned(torch.cat([self.usual, more.usual])) if m > 1 else self.usual
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
        """A picture's place among good ones by how far its features (C,) lie from the mean, as `by_rank`."""
        return by_rank(self.usual.numpy(), float(self._apart(torch.from_numpy(features)[None])))

    def _apart(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.deviation()).norm(dim=1)

    def _far(self, features: Tensor) -> Tensor:
        return features[self._apart(features).argsort(descending=True)[:FARTHEST]]


def by_rank(good: np.ndarray, value: float) -> float:
    """A value's place among those of good pictures, (N,) ascending, as a standard normal value: 0 in their middle."""
    if not len(good):
        return 0.0
    below = (np.searchsorted(good, value, "left") + np.searchsorted(good, value, "right")) / 2
    return float(ndtri((below + 0.5) / (len(good) + 1)))


def _thinned(values: Tensor) -> Tensor:
    """Some values in ascending order, no more than `USUAL`, evenly by rank."""
    ordered = values.sort().values
    return ordered[torch.linspace(0, len(ordered) - 1, min(len(ordered), USUAL)).round().long()]


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
