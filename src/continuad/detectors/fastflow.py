"""FastFlow: feature maps turned into noise by two-dimensional normalising flows (Yu et al. 2021; thesis 2.3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from continuad.core.footprint import refuse_large
from continuad.core.hints import ImageSize, Items, Range, Seed
from continuad.core.types import Levels, Prediction
from continuad.detectors._flows import without_closures
from continuad.detectors._frozen_features import FrozenFeatures
from continuad.errors import ContinuadError
from continuad.vision.anomaly_map import upsample_and_smooth
from continuad.vision.backbones import DEFAULT, AnyBackbone, Strides
from continuad.vision.winograd import Conv2d

CLAMP = 2.0  # a coupling scales a channel by at most e^2


class FastFlow(FrozenFeatures):
    """A normalising flow over the whole feature map of every level.

    Each level, layer-normalised, goes through invertible steps into z of the same shape, which good images should
    make standard normal. A step scales and shifts half of the channels by what a small convolutional network sees
    in the other half, then every channel, and shuffles them. The loss is the negative logarithm of the likelihood
    without its constant, summed over the levels: 1/2 sum z^2 - log|det dz/dx|.

    The map is the mean over levels of -exp(-1/2 mean_c z_c^2), upsampled, from -1 (good) to 0; its maximum is the
    score.

    Policies: nothing but the thresholds lies in `stats`, so they make no difference.

    Args:
        image_size: side or (H, W), at least 32; normalisation has weights for every position.
        backbone: its name, or a `BackboneSpec`.
        strides: levels used.
        flow_steps: invertible steps a level.
        kernels: odd kernel sizes that the steps take in turn; the public implementation takes (3,) for ResNet-18.
        hidden: inner channels of a step's network as a share of those it sees.
        seed: of the weights' start and of the shuffles, which are saved with the model.

    Raises:
        ContinuadError: an option out of range.
    """

    batch_size = 32
    # 50 walks through 240 images, an average MVTec product; the public implementation's 500 are 3,750 steps.
    steps = 375

    def __init__(
        self,
        image_size: ImageSize = 256,
        backbone: AnyBackbone = DEFAULT,
        strides: Strides = (4, 8, 16),
        flow_steps: Annotated[int, Range(1, 100)] = 8,
        kernels: Annotated[Sequence[Annotated[int, Range(1, 31)]], Items(100)] = (3, 1),
        hidden: Annotated[float, Range(0, 16, above=True)] = 1.0,
        seed: Seed = 0,
    ):
        super().__init__(image_size, backbone, strides)
        self.strides = tuple(strides)
        self.flow_steps, self.kernels, self.hidden, self.seed = flow_steps, tuple(kernels), hidden, seed
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ContinuadError(f"option kernels is {list(kernels)}; allowed: odd numbers, such as [3, 1]")
        weights = flow_steps * max(self.kernels) ** 2 * hidden * sum(1.5 * c**2 for c in self.pyramid.channels)
        refuse_large(f"flow_steps={flow_steps}, kernels={list(kernels)}, hidden={hidden}", weights)
        shapes = [level.shape[1:] for level in self.embed(torch.zeros(1, 3, *self.image_size, dtype=torch.uint8))]
        self.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
        self.flows = nn.ModuleList(self._flow(shape) for shape in shapes)

    def _flow(self, shape: torch.Size) -> nn.Module:
        # FrEIA brings scipy.stats along, which would slow the start of every command down
        from FrEIA.framework import SequenceINN

        flow = SequenceINN(*shape)
        for step in range(self.flow_steps):
            flow.append(coupling, kernel=self.kernels[step % len(self.kernels)], hidden=self.hidden)
        return flow

    def transform(self, levels: Levels) -> list[tuple[Tensor, Tensor]]:
        """z (B, C, h, w) and log|det dz/dx| (B,) of every level."""
        parts = zip(levels, self.norms, self.flows, strict=True)
        return [flow(norm(level)) for level, norm, flow in parts]

    def step_on(self, levels: Levels) -> Tensor:
        """Mean over the images of 1/2 sum z^2 - log|det dz/dx|, summed over levels."""
        losses = [0.5 * z.square().sum((1, 2, 3)) - log_det for z, log_det in self.transform(levels)]
        return torch.stack(losses).sum(0).mean()

    def _answers(self, levels: Levels) -> list[Tensor]:
        """z (B, C, h, w) of every level."""
        return [z for z, _ in self.transform(levels)]

    def distance(self, new: list[Tensor], old: list[Tensor]) -> Tensor:
        """Mean over the images of 1/2 sum (z - z_old)^2: the loss is a sum over the image, too."""
        return torch.stack([(a - b).square().sum((1, 2, 3)).mean() / 2 for a, b in zip(new, old, strict=True)]).sum()

    def _predict_on(self, levels: Levels) -> Prediction:
        """Mean of the levels' negative likelihoods, and its maximum."""
        grids = [-torch.exp(-0.5 * z.square().mean(1)) for z in self._answers(levels)]
        anomaly_map = torch.stack([upsample_and_smooth(grid, self.image_size, sigma=0) for grid in grids]).mean(0)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, 1e-3, weight decay 1e-5."""
        return torch.optim.Adam(self.weights().values(), 1e-3, weight_decay=1e-5)


def coupling(dims_in: list[tuple[int, int, int]], kernel: int, hidden: float) -> nn.Module:
    """One invertible step on maps of shape `dims_in[0]` (C, h, w)."""
    from FrEIA.modules import AllInOneBlock

    def network(channels: int, out: int) -> nn.Module:
        inner = max(1, int(channels * hidden))
        first, last = (Conv2d(a, b, kernel, padding=kernel // 2) for a, b in ((channels, inner), (inner, out)))
        return nn.Sequential(first, nn.ReLU(), last)

    block = without_closures(AllInOneBlock(dims_in, subnet_constructor=network, affine_clamping=CLAMP))
    # FrEIA shuffles by multiplying with a matrix, drawn from NumPy's global generator: an order of channels does
    # the same at no cost, follows from our seed, and is a buffer, so that it is saved and restored.
    order = torch.randperm(dims_in[0][0])
    del block.w_perm, block.w_perm_inv
    block.register_buffer("w_perm", order)
    block.register_buffer("w_perm_inv", order.argsort())
    block.permute_function = _reordered
    return block


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    return x[:, order]
