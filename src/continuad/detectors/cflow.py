"""CFLOW-AD: a normalising flow of feature vectors and their positions (Gudovskiy et al. 2022; thesis 2.3.5)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continuad.core.footprint import refuse_large
from continuad.core.hints import Count, ImageSize, Range, Seed
from continuad.core.types import Levels, Prediction
from continuad.detectors._flows import without_closures
from continuad.detectors._frozen_features import FrozenFeatures
from continuad.errors import ContinuadError
from continuad.vision.backbones import DEFAULT, AnyBackbone, Strides

CLAMP = 1.9  # a coupling scales a channel by at most e^1.9
WARM_UP = 0.08  # share of the steps in which the learning rate rises, from a tenth
LAST_RATE = 0.001  # what is left of the learning rate at the end


class Cflow(FrozenFeatures):
    """A conditional normalising flow of single feature vectors for every level.

    A vector x of C features goes through invertible steps into z, which good surfaces should make standard normal.
    Every step sees the position as well, as `condition` sines and cosines. With the likelihood per feature
    l = (-C/2 log 2 pi - 1/2 |z|^2 + log|det dz/dx|) / C, the loss is the mean of -log sigmoid(l), summed over levels.

    The map is the sum over levels of 1 - exp(min(l - l_max, 0)), upsampled, from 0 (good) to the number of levels;
    its maximum is the score. `l_max` is the level's highest likelihood in good val images, kept in `stats` as
    "highest". (The original takes it from the test set, so that an image scores differently in other company.)

    A step draws `fibres` vectors of every level from the images of the batch. That is an optimiser step as in the
    original, which goes through all vectors of 32 images in portions of 256; only vectors of one portion come from
    4 images here, so that the backbone's work is not done for a few vectors of each image.

    Policies: "highest" is taken anew from whatever val images `calibrate` is given, since it
    has a meaning for the newest weights only; so "accumulate" and "freeze" make no difference.

    Args:
        image_size: side or (H, W), at least 32.
        backbone: its name, or a `BackboneSpec`.
        strides: levels used.
        flow_steps: invertible steps a level.
        condition: numbers that describe a position, a multiple of 4.
        fibres: vectors of each level that a step learns from (all, where there are fewer).
        seed: of the weights' start and of the rotations between steps, which are saved with the model.

    Raises:
        ContinuadError: an option out of range.
    """

    batch_size = 4
    # 50 walks through 240 images, an average MVTec product. The original takes 200, with more steps each.
    steps = 3000

    def __init__(
        self,
        image_size: ImageSize = 256,
        backbone: AnyBackbone = DEFAULT,
        strides: Strides = (8, 16, 32),
        flow_steps: Annotated[int, Range(1, 100)] = 8,
        condition: Annotated[int, Range(4, 4096)] = 128,
        fibres: Count = 256,
        seed: Seed = 0,
    ):
        super().__init__(image_size, backbone, strides)
        self.strides = tuple(strides)
        self.flow_steps, self.condition, self.fibres, self.seed = flow_steps, condition, fibres, seed
        if condition % 4:
            raise ContinuadError(
                f"option condition is {condition}; allowed: a multiple of 4, for a sine and a cosine of both axes"
            )
        wide = [channels + condition for channels in self.pyramid.channels]
        refuse_large(f"flow_steps={flow_steps}, condition={condition}", flow_steps * sum(4 * one**2 for one in wide))
        self.flows = nn.ModuleList(self._flow(channels) for channels in self.pyramid.channels)

    def _flow(self, channels: int) -> nn.Module:
        # FrEIA brings scipy.stats along, which would slow the start of every command down
        from FrEIA.framework import SequenceINN

        flow = SequenceINN(channels)
        for _ in range(self.flow_steps):
            flow.append(coupling, cond=0, cond_shape=(self.condition,))
        return flow

    def step_on(self, levels: Levels) -> Tensor:
        """Mean of -log sigmoid(l) over random vectors of every level, summed over levels."""
        losses = []
        for level, flow in zip(levels, self.flows, strict=True):
            vectors, places = self._fibres(level)
            chosen = torch.randperm(len(vectors))[: self.fibres].to(level.device)
            losses.append(-F.logsigmoid(log_likelihood(flow, vectors[chosen], places[chosen])).mean())
        return torch.stack(losses).sum()

    def _fibres(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B h w, C) of a level (B, C, h, w), and the positions (B h w, `condition`) they lie at."""
        batch, _, height, width = level.shape
        places = positions(self.condition, height, width, level.device)
        return level.permute(0, 2, 3, 1).flatten(0, 2), places.repeat(batch, 1)

    def _answers(self, levels: Levels) -> list[Tensor]:
        """Likelihood per feature l (B, h, w) of every level."""
        found = []
        for level, flow in zip(levels, self.flows, strict=True):
            likelihood = log_likelihood(flow, *self._fibres(level))
            found.append(likelihood.view(len(level), *level.shape[-2:]))
        return found

    @torch.no_grad()
    def calibrate_on(self, levels: Iterable[Levels]) -> None:
        """Take every level's highest likelihood from good val images."""
        highest = [torch.stack([grid.max() for grid in self._answers(some)]) for some in levels]
        self.stats["highest"] = torch.stack(highest).amax(0)

    def _predict_on(self, levels: Levels) -> Prediction:
        """How much less likely than the likeliest good surface, and the maximum."""
        grids = self._answers(levels)
        anomaly_map = grids[0].new_zeros(len(grids[0]), *self.image_size)
        for grid, highest in zip(grids, self.stats["highest"], strict=True):
            probability = torch.exp((grid - highest).clamp_max(0))
            anomaly_map += 1 - F.interpolate(
                probability[:, None], self.image_size, mode="bilinear", align_corners=True
            ).squeeze(1)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, 2e-4."""
        return torch.optim.Adam(self.weights().values(), 2e-4)

    def learning_rate(self, progress: float) -> float:
        """A cosine down to `LAST_RATE`, reached from a tenth in a straight line while warming up."""
        if progress < WARM_UP:
            return 0.1 + (_cosine(WARM_UP) - 0.1) * progress / WARM_UP
        return _cosine(progress)


class Rotation(nn.Module):
    """A fixed random rotation of feature vectors. It has no weights, so that snapshots of what was learned, which
    take every buffer beside weights, do not repeat it."""

    matrix: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("matrix", nn.init.orthogonal_(torch.empty(channels, channels)))

    def forward(self, x: Tensor, back: bool) -> Tensor:
        """(N, C) there, or back."""
        return x @ (self.matrix if back else self.matrix.mT)


def coupling(dims_in: list[tuple[int]], dims_c: list[tuple[int]]) -> nn.Module:
    """One invertible step on vectors of `dims_in[0]` numbers, conditioned on `dims_c[0]` numbers."""
    from FrEIA.modules import AllInOneBlock

    def network(channels: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, out))

    block = without_closures(AllInOneBlock(dims_in, dims_c, subnet_constructor=network, affine_clamping=CLAMP))
    # FrEIA draws rotations from NumPy's global generator, and keeps each of them twice.
    del block.w_perm, block.w_perm_inv
    block.permute_function = Rotation(dims_in[0][0])
    block.w_perm, block.w_perm_inv = False, True  # what a rotation takes beside the vectors
    return block


def log_likelihood(flow: nn.Module, vectors: Tensor, places: Tensor) -> Tensor:
    """Logarithm of the likelihood, per feature: (N,) for vectors (N, C) at places (N, `condition`)."""
    z, log_det = flow(vectors, [places])
    return (log_det - 0.5 * z.square().sum(1)) / vectors.shape[1] - 0.5 * math.log(2 * math.pi)


@lru_cache(maxsize=32)
def positions(numbers: int, height: int, width: int, device: torch.device) -> Tensor:
    """(height * width, numbers): row i, column j as sin(j f_0), cos(j f_0), sin(j f_1) ... for the first half of the
    numbers D, the same of i for the second, with f_k = 10000^(-4k / D)."""
    with torch.inference_mode(False):  # kept for learning, even if a prediction asks first
        frequencies = 10_000 ** (-4 * torch.arange(numbers // 4) / numbers)
        rows, columns = (_waves(torch.arange(side)[:, None] * frequencies) for side in (height, width))
        grid = [columns.expand(height, -1, -1), rows[:, None].expand(-1, width, -1)]
        return torch.cat(grid, 2).flatten(0, 1).to(device)


def _waves(angles: Tensor) -> Tensor:
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)


def _cosine(progress: float) -> float:
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * progress)) / 2
