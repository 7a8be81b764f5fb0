"""Generated noise, defect regions and pictures, for detectors that learn from synthetic anomalies.

Everything here draws from torch's global generator, which `fit` seeds before every step.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as V

from continuad.data.decode import UnreadableImage, read_picture, to_array
from continuad.data.names import missing_part, printable
from continuad.data.product import images_in
from continuad.errors import ContinuadError

LEAVES = 300  # shapes a picture: these hide about nine tenths of the ground
CORNERS = 16  # most corners a shape can have


def perlin_noise(size: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """Perlin's gradient noise as (H, W) float32, within [-1, 1].

    Args:
        size: (H, W), any.
        cells: how many lattice cells lie along each axis; they need not divide the size.
    """
    angles = 2 * math.pi * torch.rand(cells[0] + 1, cells[1] + 1)
    down, right = angles.sin(), angles.cos()
    (y0, y), (x0, x) = _in_cells(size[0], cells[0]), _in_cells(size[1], cells[1])
    # a corner's ramp is down * y + right * x: along x it can be blended for each lattice line, before any pixel
    slope = torch.lerp(down[:, x0], down[:, x0 + 1], _fade(x))
    start = torch.lerp(right[:, x0] * x, right[:, x0 + 1] * (x - 1), _fade(x))
    y = y[:, None]
    upper = slope[y0] * y + start[y0]
    lower = slope[y0 + 1] * (y - 1) + start[y0 + 1]
    return math.sqrt(2) * torch.lerp(upper, lower, _fade(y))


def _in_cells(pixels: int, cells: int) -> tuple[Tensor, Tensor]:
    """For every pixel's centre along an axis: its cell, and where in the cell it lies, in [0, 1)."""
    at = (torch.arange(pixels) + 0.5) * (cells / pixels)
    cell = at.long().clamp_max(cells - 1)
    return cell, at - cell


def _fade(t: Tensor) -> Tensor:
    """Perlin's 6 t^5 - 15 t^4 + 10 t^3."""
    return t * t * t * (t * (6 * t - 15) + 10)


def perlin_mask(size: tuple[int, int]) -> Tensor:
    """A random region as (H, W) bool: turned Perlin noise above 0.5 (thesis 5.3). It may be empty.

    Each axis has 1, 2, 4, 8, 16 or 32 cells; the turn is within 90 degrees either way.
    """
    rows, columns = (2 ** torch.randint(6, (2,))).tolist()
    angle = float(torch.rand(())) * 180 - 90
    noise = perlin_noise(size, (rows, columns))[None]
    return V.rotate(noise, angle, InterpolationMode.BILINEAR)[0] > 0.5


def dead_leaves(size: tuple[int, int]) -> Tensor:
    """A generated picture as (3, H, W) uint8: coloured, textured shapes that hide one another.

    Radii follow the power law p(r) ~ r^-3, which gives occlusion, edges and a spectrum like those of natural
    photographs, at any scale alike. Each shape has a colour, stripes and grain; light varies over the picture.
    """
    which = _leaves(size)
    colour = _palette(LEAVES + 1)
    look = torch.rand(LEAVES + 1, 4)
    turn = 2 * math.pi * look[:, 0]
    wavenumber = 2 * math.pi / 2 ** (1 + 5 * look[:, 1])  # wavelengths of 2 to 64 pixels
    rise, run = (wavenumber * turn.sin())[which], (wavenumber * turn.cos())[which]
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
    value = torch.sin(rise * y + run * x) * (0.25 * look[:, 2].square())[which]
    value += torch.randn(size) * (0.15 * look[:, 3].square())[which]
    value += 0.2 * perlin_noise(size, (2, 2))
    return ((colour.T[:, which] + value).clamp_(0, 1) * 255).round_().to(torch.uint8)


def _leaves(size: tuple[int, int]) -> Tensor:
    """(H, W) int64: which polygon is in front at each pixel, 1 to LEAVES; 0 where none is."""
    height, width = size
    smallest, largest = min(size) / 40, max(size) / 2
    u = torch.rand(LEAVES)
    radius = (smallest**-2 + u * (largest**-2 - smallest**-2)) ** -0.5  # the law's distribution, inverted
    corners = torch.randint(3, CORNERS + 1, (LEAVES,))
    jitter = torch.rand(2, LEAVES, CORNERS)
    angle = 2 * math.pi * (torch.arange(CORNERS) + 0.6 * jitter[0]) / corners[:, None]
    reach = radius[:, None] * (0.7 + 0.3 * jitter[1])
    centre, squeeze = torch.rand(2, LEAVES, 1), 0.5 + 0.5 * torch.rand(LEAVES, 1)
    x = centre[0] * width + reach * angle.cos()
    y = centre[1] * height + reach * angle.sin() * squeeze
    outlines = torch.stack([x, y], 2).flatten(1).tolist()
    canvas = Image.new("I", (width, height))
    draw = ImageDraw.Draw(canvas)
    for number, (outline, n) in enumerate(zip(outlines, corners.tolist(), strict=True), start=1):
        draw.polygon(outline[: 2 * n], fill=number)
    return torch.from_numpy(np.asarray(canvas).astype(np.int64))


def _palette(number: int) -> Tensor:
    """(number, 3) colours in about [0, 1] that go together: one tint, much difference in light, less in hue."""
    contrast, chroma = 0.1 + 0.3 * torch.rand(()), 0.2 * torch.rand(())
    light = torch.rand(()) + contrast * torch.randn(number, 1)
    return light + chroma * (torch.randn(3) + torch.randn(number, 3))


class Pictures:
    """Pictures of anything but the product: a folder's, or generated ones.

    Args:
        folder: searched with all folders below it, when first drawn from; None: `dead_leaves`.
        zoom: a folder's pictures are scaled to this multiple of the wanted size and cropped at random.
            Generated ones look alike at any scale, and are made at the wanted size.
        grey: share of the pictures that lose their colour.
    """

    def __init__(self, folder: str | None = None, zoom: float = 1.0, grey: float = 0.0):
        if zoom < 1:
            raise ContinuadError(f"zoom={zoom} must be at least 1, or no crop of the wanted size fits in the picture")
        self.folder, self.zoom, self.grey = folder, zoom, grey
        self._paths: list[Path] = []

    def draw(self, number: int, size: tuple[int, int]) -> Tensor:
        """(number, 3, H, W) uint8, each drawn with replacement.

        Raises:
            ContinuadError: the folder is missing or holds no images, or the drawn one cannot be read.
        """
        if not number:
            return torch.empty(0, 3, *size, dtype=torch.uint8)
        pictures = torch.stack([self._one(size) for _ in range(number)])
        if self.grey:
            chosen = torch.rand(number) < self.grey
            pictures[chosen] = pictures[chosen].float().mean(1, keepdim=True).byte().expand(-1, 3, -1, -1)
        return pictures

    def _one(self, size: tuple[int, int]) -> Tensor:
        if self.folder is None:
            return dead_leaves(size)
        if not self._paths:
            self._paths = _pictures_in(self.folder)
        path = self._paths[int(torch.randint(len(self._paths), ()))]
        large = round(size[0] * self.zoom), round(size[1] * self.zoom)
        try:
            picture = torch.from_numpy(to_array(read_picture(path).rgb, large))
        except UnreadableImage as error:
            raise ContinuadError(f"{error}. Repair it, or take it out of {printable(self.folder)}.") from error
        top, left = (int(torch.randint(have - want + 1, ())) for have, want in zip(large, size, strict=True))
        return picture[:, top : top + size[0], left : left + size[1]]


def _pictures_in(folder: str) -> list[Path]:
    """Image files in and below a folder."""
    root = Path(os.path.abspath(Path(folder).expanduser()))
    if not os.path.isdir(root):
        why = missing_part(root) or "this is a file"
        raise ContinuadError(
            f"{printable(root)}: pictures are to come from this folder, but {why}. Name one of images."
        )
    if not (paths := images_in(root)):
        raise ContinuadError(f"{printable(root)}: no images in this folder or below it. Name a folder of images.")
    return paths
