"""Convolutions of stride 1 with a quarter of the multiplications, for processors (Winograd 1980; Lavin, Gray 2016).

Libraries have this for 3x3 kernels on some processors and for 4x4 kernels, which patch description networks
consist of, on none. An output tile of m x m pixels under a k x k kernel needs (m + k - 1)^2 products instead of
m^2 k^2: with tiles of 6 x 6 inputs, 2.25 instead of 9 for k = 3 and 4 instead of 16 for k = 4. The products
become 36 ordinary matrix products; what goes in and comes out is a linear map of every tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILE = 6  # inputs a side: larger tiles save more and round worse (this one to about 1e-5 in float32)
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)  # where the polynomials are evaluated, besides infinity
STRIP = 16 * 2**20  # bytes of transformed pixels at once: more leaves the cache, and the allocator's own memory
FEW = 64  # input channels below which the transforms cost more than they save


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with the same parameters and, within rounding, the same answers and gradients; about three
    times as fast to train where the shape allows (see `applies`), and `nn.Conv2d` itself elsewhere."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.applies(input):
            return super()._conv_forward(input, weight, bias)
        padding = self.padding[0]
        assert isinstance(padding, int)
        y: Tensor = _Winograd.apply(input, weight, padding)
        return y if bias is None else y + bias[:, None, None]

    def part(self, x: Tensor, channels: slice) -> Tensor:
        """Some of the answer's channels, at their share of the cost."""
        return self._conv_forward(x, self.weight[channels], None if self.bias is None else self.bias[channels])

    def applies(self, x: Tensor) -> bool:
        """Whether the transforms are worth it: float32 on a processor, kernel 3 or 4, many channels."""
        plain = self.stride == (1, 1) and self.dilation == (1, 1) and self.groups == 1
        square = self.kernel_size in ((3, 3), (4, 4)) and self.padding in ((0, 0), (1, 1), (2, 2), (3, 3))
        fits = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        return (
            plain
            and square
            and fits
            and self.padding_mode == "zeros"
            and self.in_channels >= FEW
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_exporting()  # an exported graph is for the other side to make fast
        )


class Transforms(NamedTuple):
    """The linear maps for one kernel size, each on flattened squares.

    Attributes:
        out: m, side of an output tile. image: (36, 36). kernel: (36, k^2). result: (m^2, 36).
    """

    out: int
    image: Tensor
    kernel: Tensor
    result: Tensor


@lru_cache
def transforms(kernel: int) -> Transforms:
    """Cook's and Toom's construction: multiply polynomials by their values at `POINTS` and at infinity."""
    out = TILE - kernel + 1
    points = np.array(POINTS)
    others = [np.delete(points, i) for i in range(len(points))]
    scale = np.array([np.prod(p - rest) for p, rest in zip(points, others, strict=True)])
    infinity = np.eye(1, kernel, kernel - 1)
    of_kernel = np.vstack([points[:, None] ** np.arange(kernel) / scale[:, None], infinity])
    of_result = np.hstack([points ** np.arange(out)[:, None], np.eye(1, out, out - 1).T])
    of_image = np.zeros((TILE, TILE))
    for row, roots in enumerate([*others, points]):
        of_image[row, : len(roots) + 1] = np.poly(roots)[::-1]
    with torch.inference_mode(False):  # kept for learning, even if a prediction asks first
        both_axes = [torch.from_numpy(np.kron(m, m)).float() for m in (of_image, of_kernel, of_result)]
    return Transforms(out, *both_axes)


class _Strip(NamedTuple):
    """Some rows of output tiles of one image."""

    image: int
    start: int
    stop: int


class _Winograd(torch.autograd.Function):
    """y = convolution(x, weight), no bias. Only x and weight are kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        t = transforms(weight.shape[-1])
        padded, rows, columns = _pad(x, weight.shape[-1], padding)
        filters = _of_kernel(weight, t)
        batch, out = len(x), weight.shape[0]
        y = x.new_empty(batch, rows, t.out, columns, t.out, out)
        for strip in _strips(batch, rows, columns, weight):
            products = torch.bmm(_of_image(padded, strip, columns, t), filters)
            tiles = (t.result @ products.view(TILE * TILE, -1)).view(t.out, t.out, -1, columns, out)
            y[strip.image, strip.start : strip.stop] = tiles.permute(2, 0, 3, 1, 4)
        height, width = _size(x, weight, padding)
        return y.view(batch, rows * t.out, columns * t.out, out)[:, :height, :width].permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        t = transforms(weight.shape[-1])
        padded, rows, columns = _pad(x, weight.shape[-1], ctx.padding)
        gradient = _tiled(gradients[0], rows, columns, t.out)
        filters = _of_kernel(weight, t)
        of_x = torch.zeros_like(padded) if ctx.needs_input_grad[0] else None
        of_filters = torch.zeros_like(filters)
        for strip in _strips(len(x), rows, columns, weight):
            part = gradient[strip.image, strip.start : strip.stop].permute(1, 3, 0, 2, 4)
            products = (t.result.T @ part.reshape(t.out * t.out, -1)).view(TILE * TILE, -1, weight.shape[0])
            if ctx.needs_input_grad[1]:
                of_filters.baddbmm_(_of_image(padded, strip, columns, t).mT, products)
            if of_x is not None:
                tiles = t.image.T @ torch.bmm(products, filters.mT).view(TILE * TILE, -1)
                _add_tiles(of_x[strip.image], tiles, strip, columns, t.out)
        return _crop(of_x, x, ctx.padding), _to_kernel(of_filters, weight, t), None


def _size(x: Tensor, weight: Tensor, padding: int) -> tuple[int, int]:
    less = weight.shape[-1] - 1 - 2 * padding
    return x.shape[2] - less, x.shape[3] - less


def _pad(x: Tensor, kernel: int, padding: int) -> tuple[Tensor, int, int]:
    """Channels-last x (B, H, W, C) with zeros around, so that whole tiles cover it, and their rows and columns."""
    out = TILE - kernel + 1
    height, width = x.shape[2] + 2 * padding, x.shape[3] + 2 * padding
    rows, columns = -(-(height - kernel + 1) // out), -(-(width - kernel + 1) // out)
    below, right = rows * out + kernel - 1 - height, columns * out + kernel - 1 - width
    around = (0, 0, padding, padding + right, padding, padding + below)
    return F.pad(x.permute(0, 2, 3, 1), around).contiguous(), rows, columns


def _strips(batch: int, rows: int, columns: int, weight: Tensor) -> Iterator[_Strip]:
    channels = max(weight.shape[:2])
    together = max(1, STRIP // (4 * TILE * TILE * channels * columns))
    for image in range(batch):
        for start in range(0, rows, together):
            yield _Strip(image, start, min(start + together, rows))


def _of_image(padded: Tensor, strip: _Strip, columns: int, t: Transforms) -> Tensor:
    """(36, tiles, C): overlapping tiles of a strip, transformed."""
    _, row, column, _ = padded.stride()
    channels = padded.shape[-1]
    tiles = padded[strip.image, strip.start * t.out :].as_strided(
        (TILE, TILE, strip.stop - strip.start, columns, channels),
        (row, column, t.out * row, t.out * column, 1),
    )
    return (t.image @ tiles.reshape(TILE * TILE, -1)).view(TILE * TILE, -1, channels)


def _of_kernel(weight: Tensor, t: Transforms) -> Tensor:
    """(36, C, C')."""
    out, channels, kernel, _ = weight.shape
    return (t.kernel @ weight.permute(2, 3, 1, 0).reshape(kernel * kernel, -1)).view(-1, channels, out)


def _to_kernel(filters: Tensor, weight: Tensor, t: Transforms) -> Tensor:
    out, channels, kernel, _ = weight.shape
    flat = t.kernel.T @ filters.view(TILE * TILE, -1)
    return flat.view(kernel, kernel, channels, out).permute(3, 2, 0, 1)


def _tiled(gradient: Tensor, rows: int, columns: int, out: int) -> Tensor:
    """(B, rows, m, columns, m, C'): output tiles, zeros where they stand out."""
    batch, channels, height, width = gradient.shape
    around = (0, 0, 0, columns * out - width, 0, rows * out - height)
    return F.pad(gradient.permute(0, 2, 3, 1), around).reshape(batch, rows, out, columns, out, channels)


def _add_tiles(into: Tensor, tiles: Tensor, strip: _Strip, columns: int, out: int) -> None:
    """Add overlapping tiles (36, tiles * C) of a strip to a padded image (H, W, C)."""
    parts = tiles.view(TILE, TILE, strip.stop - strip.start, columns, -1)
    for y in range(0, TILE, out):
        for x in range(0, TILE, out):
            part = parts[y : y + out, x : x + out]  # cells that do not overlap each other
            _, _, high, wide, channels = part.shape
            tall, broad = part.shape[0], part.shape[1]
            top, (row, column, _) = strip.start * out + y, into.stride()
            place = into[top:, x:].as_strided(
                (tall, broad, high, wide, channels), (row, column, out * row, out * column, 1)
            )
            place += part


def _crop(padded: Tensor | None, x: Tensor, padding: int) -> Tensor | None:
    if padded is None:
        return None
    inner = padded[:, padding : padding + x.shape[2], padding : padding + x.shape[3]]
    return inner.permute(0, 3, 1, 2)
