"""From a coarse grid of patch scores to an anomaly map of the image's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from continuad.core.hints import Range
from continuad.errors import ContinuadError

Sigma = Annotated[float, Range(0, 1000)]
"""Of the blur, in pixels of the image; see also `check_sigma`."""


def check_sigma(sigma: float, size: tuple[int, int]) -> None:
    """Refuse a blur wider than images (H, W): they are reflected at their borders only once.

    Raises:
        ContinuadError: it is.
    """
    if not 4 * sigma + 0.5 < min(size):
        raise ContinuadError(
            f"option sigma is {sigma}: a blur must not reach beyond the image, {size[0]} x {size[1]}; "
            f"allowed is less than {(min(size) - 0.5) / 4:g}"
        )


def side_by_side(levels: Sequence[Tensor]) -> Tensor:
    """(B, C, h, w): all levels' channels on the grid of the first, the finest; coarser ones enlarged bilinearly."""
    size = levels[0].shape[-2:]
    same = [x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear") for x in levels]
    return torch.cat(same, 1)


def upsample_and_smooth(grid: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Bilinear upsampling followed by a Gaussian blur (reflected borders), as one linear map an axis.

    Both steps are linear and separable, so their product is a matrix per axis: two small products instead
    of a resize and a wide convolution over every pixel.

    Args:
        grid: (B, h, w) patch scores.
        size: (H, W) of the image, each larger than four sigma.
        sigma: deviation of the blur in pixels of the image; 0 leaves it out.

    Returns:
        (B, H, W) float32.

    Raises:
        ContinuadError: the blur reaches beyond the image.
    """
    check_sigma(sigma, size)
    rows = _axis_matrix(grid.shape[1], size[0], sigma, grid.device)
    columns = _axis_matrix(grid.shape[2], size[1], sigma, grid.device)
    return rows @ grid.float() @ columns.mT


@lru_cache(maxsize=32)
def _axis_matrix(coarse: int, fine: int, sigma: float, device: torch.device) -> Tensor:
    """(fine, coarse): what each coarse cell gives to each fine pixel along one axis."""
    with torch.inference_mode(False):  # the matrix is kept, and may be wanted for learning later
        return _built_axis_matrix(coarse, fine, sigma).to(device)


def _built_axis_matrix(coarse: int, fine: int, sigma: float) -> Tensor:
    columns = F.interpolate(torch.eye(coarse, dtype=torch.float64)[:, None], fine, mode="linear")
    if sigma > 0:
        radius = math.floor(4 * sigma + 0.5)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        padded = F.pad(columns, (radius, radius), mode="reflect")
        columns = F.conv1d(padded, (kernel / kernel.sum())[None, None])
    return columns[:, 0].T.contiguous().float()
