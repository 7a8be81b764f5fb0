"""PaDiM: one Gaussian per patch position over frozen features (Defard et al. 2021; thesis 2.3.3, 5.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated

import torch
from torch import Tensor

from continuad.core.hints import Count, ImageSize, Range, Seed
from continuad.core.state import Policy, fold_in
from continuad.core.types import Levels, Prediction
from continuad.detectors._frozen_features import FeatureStatistics
from continuad.errors import ContinuadError
from continuad.vision.anomaly_map import Sigma, check_sigma, upsample_and_smooth
from continuad.vision.backbones import DEFAULT, AnyBackbone, Strides

POSITIONS_AT_ONCE = 64  # matrices inverted together in double precision: bounds the working memory


class Padim(FeatureStatistics):
    """Patch Distribution Modelling.

    Each position of the finest feature grid keeps the mean and covariance of `channels` randomly chosen
    feature channels over all good images. A patch x scores its Mahalanobis distance
    sqrt((x - mean)^T (covariance + epsilon I)^-1 (x - mean)); the grid is upsampled and smoothed into the
    map, whose maximum is the image score.

    Images are folded in batch by batch and let go. What is kept is `mean` (L, C) and one triangular matrix
    `factor` (L, C, C), the inverse Cholesky factor of the regularised covariance: the distance is the norm of
    factor @ (x - mean), and the covariance can be had back from it, so nothing is stored twice.

    Thresholds come from all images, each predicted by the Gaussian of the others (`_without`).

    Policies: "restart" is the Gaussian of the newest task alone; "accumulate" is the Gaussian of all images
    seen, equal to learning them in one go; "freeze" keeps the first task's.

    Args:
        image_size: side or (H, W), at least 32.
        backbone: its name, or a `BackboneSpec`.
        strides: levels used; all are brought to the grid of the finest by repeating cells.
        channels: how many of all levels' channels are drawn (100 for small networks; the thesis takes 350
            of WideResNet-50-2's 1792).
        epsilon: added to the covariance's diagonal, so that it can be inverted; 1e-6 to 1000.
        sigma: blur of the map in pixels.
        seed: of the channel draw; the drawn channels are saved with the model.
    """

    leaves_out_groups = False  # the closed form is that of copies of one image
    drawn: Tensor

    def __init__(
        self,
        image_size: ImageSize = 256,
        backbone: AnyBackbone = DEFAULT,
        strides: Strides = (4, 8, 16),
        channels: Count = 100,
        epsilon: Annotated[float, Range(1e-6, 1000)] = 0.01,
        sigma: Sigma = 4.0,
        seed: Seed = 0,
    ):
        super().__init__(image_size, backbone, strides)
        self.strides = tuple(strides)
        self.channels, self.epsilon, self.sigma, self.seed = channels, epsilon, sigma, seed
        total = sum(self.pyramid.channels)
        if channels > total:
            raise ContinuadError(f"option channels is {channels}; allowed: 1 to the {total} of {self.backbone.name}")
        check_sigma(sigma, self.image_size)
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:channels]
        self.register_buffer("drawn", drawn.sort().values)
        self.frozen = False

    def foresee(self, images: int) -> tuple[int, int]:
        """The matrices of all positions, and beside them the features of a batch three times over."""
        positions = math.prod(-(-side // min(self.strides)) for side in self.image_size)
        kept = 4 * positions * (self.channels + 1) * self.channels
        return kept + 12 * positions * self.channels * self.batch_size, kept

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Open the statistics; see the class for what each policy means."""
        self.frozen = statistics == "freeze" and "factor" in self.stats
        super().begin(images, statistics)
        if "factor" in self.stats and not self.frozen:
            self._reopen()

    def _absorb(self, levels: Levels, owners: Tensor) -> None:
        """Fold the images into the moments of every position, and note whose they are."""
        if self.frozen:
            return
        known = self.stats["owners"] if "owners" in self.stats else owners[:0]
        self.stats["owners"] = torch.cat([known, owners])
        x, _ = self.positions(levels)
        if "scatter" not in self.stats:
            positions, _, channels = x.shape
            self.stats["count"] = torch.zeros((), dtype=torch.float64, device=x.device)
            self.stats["mean"] = x.new_zeros(positions, channels)
            self.stats["scatter"] = x.new_zeros(positions, channels, channels)
        fold_in(self.stats["count"], self.stats["mean"], self.stats["scatter"], x)

    def finish(self) -> None:
        """Invert the covariances; the scatter gives way to the factor in the same memory."""
        if "scatter" not in self.stats:
            return
        matrices = self.stats["scatter"]
        del self.stats["scatter"]
        ridge = self.epsilon * torch.eye(self.channels, dtype=torch.float64, device=matrices.device)
        for part in matrices.split(POSITIONS_AT_ONCE):
            covariance = part.double() / (self.stats["count"] - 1).clamp_min(1)
            part.copy_(_inverse_factor(covariance + ridge))
        self.stats["factor"] = matrices

    def _reopen(self) -> None:
        """Scatter, from the covariances that the factor stands for; snapshots that share it stay untouched."""
        scatter = self._covariance()
        scatter *= (self.stats["count"] - 1).clamp_min(1).float()
        self.stats["scatter"] = scatter
        self.stats["count"], self.stats["mean"] = self.stats["count"].clone(), self.stats["mean"].clone()
        del self.stats["factor"]

    def _covariance(self) -> Tensor:
        factor = self.stats["factor"]
        covariance = torch.empty_like(factor)
        ridge = self.epsilon * torch.eye(self.channels, dtype=torch.float64, device=factor.device)
        parts = zip(covariance.split(POSITIONS_AT_ONCE), factor.split(POSITIONS_AT_ONCE), strict=True)
        for out, part in parts:
            lower = torch.linalg.solve_triangular(part.double(), torch.eye(self.channels).to(ridge), upper=False)
            out.copy_(lower @ lower.mT - ridge)
        return covariance

    def moments(self) -> dict[str, Tensor] | None:
        """`mean` (L, C) and `covariance` (L, C, C) without epsilon, or None before the first task."""
        if "factor" not in self.stats:
            return None
        return {"mean": self.stats["mean"], "covariance": self._covariance()}

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Take over a mean and a covariance; the number of images behind them is kept."""
        self.stats["mean"] = moments["mean"]
        self.stats["scatter"] = moments["covariance"] * (self.stats["count"] - 1).clamp_min(1).float()
        self.finish()

    def positions(self, levels: Levels) -> tuple[Tensor, tuple[int, int]]:
        """The drawn channels of all levels at every position of the finest grid, (L, B, C), and its size."""
        count, _, height, width = levels[0].shape
        x = levels[0].new_empty(height, width, count, self.channels)
        starts = [0, *accumulate(self.pyramid.channels)]
        done = 0
        for level, start, stop in zip(levels, starts, starts[1:], strict=False):
            chosen = self.drawn[(self.drawn >= start) & (self.drawn < stop)] - start
            rows, columns = _nearest(level.shape[2], height), _nearest(level.shape[3], width)
            small = level.permute(2, 3, 0, 1)[..., chosen]  # (h, w, B, some of C)
            x[..., done : done + len(chosen)] = small[rows][:, columns]
            done += len(chosen)
        return x.flatten(0, 1), (height, width)

    def _predict_on(self, levels: Levels, owners: Tensor | None = None) -> Prediction:
        """Mahalanobis map and its maximum."""
        deviations, grid_size = self.positions(levels)
        deviations -= self.stats["mean"][:, None]
        squares = torch.bmm(deviations, self.stats["factor"].mT).square().sum(-1, dtype=torch.float64)  # (L, B)
        if owners is not None:
            squares = self._without(squares, owners)
        grid = squares.sqrt().float().T.reshape(-1, *grid_size)
        anomaly_map = upsample_and_smooth(grid, self.image_size, self.sigma)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _without(self, squares: Tensor, owners: Tensor) -> Tensor:
        """Squared distances (L, B) from the Gaussian of the other images, in closed form.

        Of n images whose covariance is S, m are copies of x, which lies d from their mean and q = d^T (S + epsilon
        I)^-1 d from the Gaussian. Without them the mean lies n / (n - m) d away, and the scatter has lost
        m n / (n - m) d d^T. With the scatter divided by n - 1 as before, the Sherman-Morrison formula gives the squared
        distance

            (n / (n - m))^2 q / (1 - q m n / ((n - m)(n - 1))).

        A covariance divides by n - m - 1 instead, under which distances are smaller, by at most sqrt((n - m - 1) /
        (n - 1)); so thresholds come out a little too high rather than too low.
        """
        n = self.stats["count"]
        m = (owners[:, None] == self.stats["owners"]).sum(1).clamp_max(n - 1)  # (B,): 0 for images never learned
        left = 1 - squares.double() * (m * n / ((n - m) * (n - 1).clamp_min(1)))
        return squares * (n / (n - m)).square() / left.clamp_min(1e-9)


def _nearest(coarse: int, fine: int) -> Tensor:
    """Which cell of a coarse axis each cell of a fine one repeats."""
    return torch.arange(fine) * coarse // fine


def _inverse_factor(matrices: Tensor) -> Tensor:
    """Lower triangular W with W^T W = M^-1, for positive definite M (N, C, C)."""
    lower, failed = torch.linalg.cholesky_ex(matrices)
    if failed.any():
        raise ContinuadError("PaDiM: a covariance is not positive definite; use a larger epsilon")
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False)
