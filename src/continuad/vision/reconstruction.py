"""Shared by detectors that rebuild an image: the autoencoder of Bergmann et al. 2019, its losses and its map."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continuad.core.footprint import refuse_large
from continuad.core.hints import Range
from continuad.vision.ssim import ssim_map
from continuad.vision.winograd import Conv2d

STAGES = ((32, 4), (32, 4), (32, 3), (64, 4), (64, 3), (128, 4), (64, 3), (32, 3))
"""Channels and kernel of the encoder's convolutions; kernels of 4 halve the image, those of 3 keep its size."""

GRID = 16  # pixels a side that the encoder makes one of
SLOPE = 0.2  # of the leaky ReLU
Error = Literal["ssim", "l2"]
Width = Annotated[float, Range(0, 4, above=True)]
"""Factor on the channels of a network; 1 is the published size."""
Latent = Annotated[int, Range(1, 10_000)]
"""How many numbers an image is squeezed through."""


def reconstruction_map(rebuilt: Tensor, x: Tensor, error: Error) -> Tensor:
    """The difference (B, H, W) of pictures y (B, C, H, W) from x in [0, 1], averaged over the colours c of a pixel.

    "ssim": 1 - SSIM(x, y)_c, from 0 to 2; "l2": (x_c - y_c)^2.
    """
    return (1 - ssim_map(rebuilt, x) if error == "ssim" else (rebuilt - x).square()).mean(1)


class Encoder(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to `outputs` numbers each (B, outputs).

    Sizes that are no multiple of 16 are filled up by repeating the last row and column.

    Args:
        image_size: (H, W). outputs: how many numbers. width: scales the channels.
    """

    def __init__(self, image_size: tuple[int, int], outputs: int, width: float):
        super().__init__()
        height, columns = image_size
        self.fill = (0, -columns % GRID, 0, -height % GRID)
        layers: list[nn.Module] = []
        for inputs, channels, kernel in _stages(width):
            down = nn.Conv2d(inputs, channels, 4, 2, 1) if kernel == 4 else Conv2d(inputs, channels, 3, padding=1)
            layers += [down, nn.LeakyReLU(SLOPE)]
        refuse_large(
            f"latent numbers and width={width} at {height} x {columns} pixels",
            channels * outputs * math.prod(_innermost(image_size)),
        )
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, outputs, _innermost(image_size)))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """The latent numbers."""
        if any(self.fill):
            x = F.pad(x, self.fill, mode="replicate")
        answer: Tensor = self.layers(x)
        return answer[:, :, 0, 0]


class Decoder(nn.Module):
    """The encoder mirrored: latent numbers (B, latent) to images (B, 3, H, W), about [0, 1] but not clipped to it."""

    def __init__(self, image_size: tuple[int, int], latent: int, width: float):
        super().__init__()
        self.image_size = image_size
        stages = _stages(width)[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, stages[0][1], _innermost(image_size))]
        for a, b, kernel in stages:  # of the encoder, which goes from a to b channels
            up = nn.ConvTranspose2d(b, a, 4, 2, 1) if kernel == 4 else Conv2d(b, a, 3, padding=1)
            layers += [nn.LeakyReLU(SLOPE), up]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)
        weight, bias = self.layers[-1].parameters()
        with torch.no_grad():  # begin with about grey: what begins far off costs hundreds of steps
            weight.mul_(0.1)
            bias.add_(0.5)

    def forward(self, latent: Tensor) -> Tensor:
        """The rebuilt images."""
        height, columns = self.image_size
        answer: Tensor = self.layers(latent[:, :, None, None])
        return answer[:, :, :height, :columns]


def variational_loss(encoder: Encoder, decoder: Decoder, x: Tensor, beta: float | None, draw: bool) -> Tensor:
    """mean (x - y)^2 + beta / N KL () of images x (B, 3, H, W) in [0, 1] with N values each (Kingma, Welling 2014).

    Args:
        beta: twice the variance that pixels are taken to have around y. None: twice the mean (x - y)^2 of the batch,
            which makes the bound on the likelihood as high as any variance can (Rybkin et al. 2021).
        draw: y is rebuilt from drawn latent numbers, as in training; else from their means.
    """
    mean, log_variance = encoder(x).chunk(2, 1)
    latent = mean
    if draw:
        latent = mean + (log_variance / 2).exp() * torch.randn(mean.shape).to(mean)
    error = F.mse_loss(decoder(latent), x)
    weight = 2 * error.detach() if beta is None else beta
    return error + weight / x[0].numel() * divergence(mean, log_variance).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence (B,) in nats of normal distributions (B, latent) from the standard one."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)


def _initialise(layer: nn.Module) -> None:
    """Normal weights that keep the size of activations and gradients (He et al. 2015), no bias.

    The paper names no start; torch's own lets them shrink from layer to layer, which costs hundreds of steps.
    """
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        seen = math.prod(layer.kernel_size)
        if isinstance(layer, nn.ConvTranspose2d):  # of its kernel, an output pixel meets a quarter, or one place
            seen = 4 if layer.stride == (2, 2) else 1
        weight, bias = layer.parameters()
        nn.init.normal_(weight, 0.0, math.sqrt(2 / (1 + SLOPE**2) / (seen * layer.in_channels)))
        nn.init.zeros_(bias)


def _stages(width: float) -> list[tuple[int, int, int]]:
    """Channels in, channels out and kernel of each stage."""
    channels = [3, *(max(1, round(width * c)) for c, _ in STAGES)]
    return [(a, b, kernel) for (a, b), (_, kernel) in zip(pairwise(channels), STAGES, strict=True)]


def _innermost(image_size: tuple[int, int]) -> tuple[int, int]:
    """The grid that is left of an image."""
    return -(-image_size[0] // GRID), -(-image_size[1] // GRID)
