"""CFA: patches drawn into small spheres around remembered centres (Lee et al. 2022; thesis 2.3.6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continuad.core.hints import Count, ImageSize, Range, Seed
from continuad.core.state import Policy
from continuad.core.types import Levels, Prediction
from continuad.detectors._frozen_features import FrozenFeatures
from continuad.errors import ContinuadError
from continuad.vision.anomaly_map import Sigma, check_sigma, side_by_side, upsample_and_smooth
from continuad.vision.backbones import DEFAULT, AnyBackbone, Strides


class Cfa(FrozenFeatures):
    """Coupled-hypersphere-based feature adaptation.

    A patch p is the 3 x 3 average of every level at a position of the finest grid; a linear layer on p and its
    two coordinates gives its feature f. Before learning, each position's mean f over the good images becomes a
    centre, or `gamma_c` times fewer k-means of those means do. With c_1, c_2, ... the centres by their distance
    from f, and a learned radius r,

        loss = 1/nu (mean_k<=K max(0, |f - c_k|^2 - r^2) + mean_K<k<=K+J max(0, r^2 - |f - c_k|^2 - alpha)).

    With d_k = |f - c_k| the patch scores d_1 exp(-d_1) / sum_k<=K exp(-d_k); the grid is enlarged and smoothed
    into the map, whose maximum is the image score.

    Policies: centres of the newest task and its replayed images ("restart"); of all images ever given, each with
    the feature it had when its task began ("accumulate"; with k-means, the old centres, weighted by their images,
    and the new means are clustered together into as many centres as before); or the first task's ("freeze").
    Under each the linear layer and the radius are trained on.

    Args:
        image_size: side or (H, W), at least 32, and large enough for K + J centres.
        backbone: its name, or a `BackboneSpec`.
        strides: levels used, enlarged bilinearly to the grid of the finest.
        gamma_c: how many times fewer centres than positions; 1 keeps one a position.
        gamma_d: how many times fewer channels f has than p.
        attracted, repelled: K nearest centres, and the J after them.
        radius: r at the start; learned.
        alpha: margin of the repulsion.
        nu: divides the loss.
        sigma: blur of the map in pixels.
        seed: of the linear layer's start and the k-means.
    """

    batch_size = 4
    steps = 1800  # the original's 30 epochs over 240 images

    def __init__(
        self,
        image_size: ImageSize = 256,
        backbone: AnyBackbone = DEFAULT,
        strides: Strides = (4, 8, 16),
        gamma_c: Count = 1,
        gamma_d: Count = 1,
        attracted: Count = 3,
        repelled: Count = 3,
        radius: Annotated[float, Range(0, 1e6)] = 1e-5,
        alpha: Annotated[float, Range(0, 1e6)] = 0.1,
        nu: Annotated[float, Range(1e-9, 1e6)] = 1e-3,
        sigma: Sigma = 4.0,
        seed: Seed = 0,
    ):
        super().__init__(image_size, backbone, strides)
        self.strides = tuple(strides)
        self.gamma_c, self.gamma_d, self.attracted, self.repelled = gamma_c, gamma_d, attracted, repelled
        self.radius, self.alpha, self.nu, self.sigma = radius, alpha, nu, sigma
        self.seed = seed
        channels = sum(self.pyramid.channels)
        self._check(channels)
        self.descriptor = nn.Conv2d(channels + 2, channels // gamma_d, 1)
        self.r = nn.Parameter(torch.tensor(float(radius)))

    def _check(self, channels: int) -> None:
        check_sigma(self.sigma, self.image_size)
        if self.gamma_d > channels:
            raise ContinuadError(f"option gamma_d is {self.gamma_d}; allowed: 1 to the backbone's {channels} channels")
        height, width = (-(-side // min(self.pyramid.strides)) for side in self.image_size)
        centres, needed = height * width // self.gamma_c, self.attracted + self.repelled
        if centres < needed:
            raise ContinuadError(
                f"image size {self.image_size[0]} x {self.image_size[1]} and gamma_c={self.gamma_c} give "
                f"{centres} centres, but attracted + repelled needs {needed}; use larger images or a smaller gamma_c"
            )

    @torch.no_grad()
    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Take the centres from the images; see the class for what each policy means."""
        frozen = statistics == "freeze" and "centres" in self.stats
        super().begin(images, statistics)
        if frozen:
            return
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        count = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in images:
            total = total + self._features(self.embed(batch)).double().sum(0)
            count = count + len(batch)
        self._merge(total / count, count)

    def _merge(self, means: Tensor, count: Tensor) -> None:
        """Make centres of the means (L, C) over `count` new images and, where there are any, the old centres."""
        known = "centres" in self.stats
        before = self.stats["count"] if known else torch.zeros_like(count)
        old = self.stats["centres"].double() if known else means[:0]
        if self.gamma_c > 1:
            number = len(means) // self.gamma_c
            share = before * len(means) / number  # an old centre stands for that many features
            weights = torch.cat([share.expand(len(old)), count.expand(len(means))])
            means = _k_means(torch.cat([old, means]), weights, number, self.seed)
        elif known:
            means = (before * old + count * means) / (before + count)
        self.stats["centres"], self.stats["count"] = means.float(), before + count

    def patches(self, levels: Levels) -> Tensor:
        """(B, C + 2, h, w): averages of all levels on the finest grid, then row and column in [-1, 1]."""
        averages = [F.avg_pool2d(level, 3, 1, 1) for level in levels]
        count, _, height, width = levels[0].shape
        rows = torch.linspace(-1, 1, height, device=self.device)[:, None].expand(count, 1, height, width)
        columns = torch.linspace(-1, 1, width, device=self.device).expand(count, 1, height, width)
        return torch.cat([side_by_side(averages), rows, columns], 1)

    def _answers(self, levels: Levels) -> list[Tensor]:
        """The features f (B, C, h, w)."""
        return [self.descriptor(self.patches(levels))]

    def distance(self, new: list[Tensor], old: list[Tensor]) -> Tensor:
        """1 / nu mean over positions of |f - f_old|^2, as distances enter the loss."""
        return (new[0] - old[0]).square().sum(1).mean() / self.nu

    def _features(self, levels: Levels) -> Tensor:
        """The features as rows, (B, L, C)."""
        return self._answers(levels)[0].flatten(2).mT

    def squared_distances(self, features: Tensor, number: int) -> Tensor:
        """(B, L, number) from features (B, L, C) to their nearest centres, ascending."""
        centres = self.stats["centres"]
        with torch.no_grad():
            half_norms = centres.square().sum(1) / 2
            # The nearest are found by products, one image at a time to bound the memory; only their differences
            # are then taken, which unlike the products never give a negative square.
            halves = (torch.addmm(half_norms, one, centres.T, alpha=-1) for one in features)
            nearest = [one.topk(number, largest=False).indices for one in halves]
        return (features[:, :, None] - centres[torch.stack(nearest)]).square().sum(-1)

    def step_on(self, levels: Levels) -> Tensor:
        """Attraction to the nearest centres and repulsion from those after them."""
        squares = self.squared_distances(self._features(levels), self.attracted + self.repelled)
        near, far = squares[..., : self.attracted], squares[..., self.attracted :]
        area = self.r.square()
        return (F.relu(near - area).mean() + F.relu(area - far - self.alpha).mean()) / self.nu

    def _predict_on(self, levels: Levels) -> Prediction:
        """Smoothed map of the nearest distances, and its maximum."""
        (features,) = self._answers(levels)
        distances = self.squared_distances(features.flatten(2).mT, self.attracted).sqrt()
        scores = F.softmin(distances, -1)[..., 0] * distances[..., 0]
        grid = scores.unflatten(1, features.shape[-2:])
        anomaly_map = upsample_and_smooth(grid, self.image_size, self.sigma)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def optimiser(self) -> torch.optim.Optimizer:
        """AdamW with AMSGrad, rate 1e-3, weight decay 5e-4."""
        return torch.optim.AdamW(self.weights().values(), 1e-3, weight_decay=5e-4, amsgrad=True)


def _k_means(points: Tensor, weights: Tensor, number: int, seed: int) -> Tensor:
    """`number` centres (number, C) of weighted points (N, C)."""
    from sklearn.cluster import KMeans  # takes longer to import than most commands to run
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # several threads add in an order of their own: results would not repeat
        found = KMeans(number, max_iter=3000, random_state=seed).fit(points.cpu(), sample_weight=weights.cpu())
    return torch.from_numpy(found.cluster_centers_).to(points)
