"""RIAD: inpaints every part of an image from its surroundings (Zavrtanik et al. 2021; thesis 2.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continuad.core.detector import Detector
from continuad.core.hints import ImageSize, Items, Range, Seed
from continuad.core.types import Prediction
from continuad.errors import ContinuadError
from continuad.vision.reconstruction import Width
from continuad.vision.ssim import msgms_loss, msgms_map, ssim_loss
from continuad.vision.winograd import Conv2d

CHANNELS = (64, 128, 256, 512, 512)  # of the five levels
SMOOTH = 21  # pixels, side of the mean filter on the map


class Riad(Detector):
    """Reconstruction by inpainting for anomaly detection.

    The image is cut into cells of k x k pixels (smaller at its right and lower edge where k does not divide its
    size), which fall at random into `sets` equal sets. Each set is removed in turn and inpainted from the rest;
    the inpainted cells together are the rebuilt image y. Loss, with k drawn for every step:
    mean (x - y)^2 + (1 - MSGMS(x, y)) + (1 - SSIM(x, y)).

    The map is 1 - MSGMS(x, y), a mean over 21 x 21 pixels, averaged over all k; its maximum is the image score.
    For prediction the cells are drawn from `seed` and the image's size alone.

    Policies: it keeps nothing but weights, so all three are the same.

    Args:
        image_size: side or (H, W), at least 32.
        cells: sides k of the cells in pixels.
        sets: how many sets the cells fall into.
        width: scales all channels; 1 is the published network, 0.25 suits processors.
        seed: of the random weights and of the cells in prediction.
    """

    batch_size = 4
    # Fifteen walks through 240 images, an average MVTec product. The paper takes 300.
    steps = 900

    def __init__(
        self,
        image_size: ImageSize = 256,
        cells: Annotated[Sequence[Annotated[int, Range(1, 1024)]], Items(16)] = (2, 4, 8, 16),
        sets: Annotated[int, Range(2, 100)] = 3,
        width: Width = 1.0,
        seed: Seed = 0,
    ):
        super().__init__(image_size)
        self.width = width
        self.cells, self.sets, self.seed = tuple(cells), sets, seed
        if _number(self.image_size, max(cells)) < sets:
            raise ContinuadError(
                f"an image of {self.image_size} has fewer than {sets} cells of {max(cells)} pixels: "
                f"leave out the largest of cells={list(cells)}, or take larger images or fewer sets"
            )
        self.inpainter = Inpainter([max(1, round(width * c)) for c in CHANNELS])
        self.to(memory_format=torch.channels_last)
        self.eval()  # only learning moves the statistics of batch normalisation

    def step(self, images: Tensor) -> Tensor:
        """The loss () on uint8 images (B, 3, H, W), cells drawn afresh."""
        x = images / 255
        k = self.cells[int(torch.randint(len(self.cells), ()))]
        rebuilt = self._rebuilt(x, removed_cells(self.image_size, k, self.sets))
        return F.mse_loss(rebuilt, x) + msgms_loss(rebuilt, x) + ssim_loss(rebuilt, x)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Uint8 images rebuilt once for each of `cells`, (B, 3, H, W) on the scale [0, 1], not clipped to it."""
        generator = torch.Generator().manual_seed(self.seed)
        masks = [removed_cells(self.image_size, k, self.sets, generator) for k in self.cells]
        return [self._rebuilt(images / 255, removed) for removed in masks]

    def _rebuilt(self, x: Tensor, removed: Tensor) -> Tensor:
        """Every set of pixels `removed` (sets, H, W) as it is inpainted when removed: (B, 3, H, W)."""
        removed = removed[:, None, None].to(x.device)
        # Removed pixels become 0 in the middle of the scale, not black, which a part may be.
        holes = torch.where(removed, 0.0, 2 * x - 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        inpainted = self.inpainter(holes).unflatten(0, (self.sets, len(x)))
        return torch.where(removed, inpainted, 0.0).sum(0)

    def _predict(self, images: Tensor) -> Prediction:
        """1 - MSGMS, averaged over a neighbourhood and over `cells`, and its maximum."""
        x, versions = images / 255, self(images)
        similarity = torch.stack([msgms_map(y, x) for y in versions]).mean(0)
        anomaly_map = F.avg_pool2d(1 - similarity, SMOOTH, 1, SMOOTH // 2, count_include_pad=False)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam at 1e-4."""
        return torch.optim.Adam(self.weights().values(), 1e-4)

    def learning_rate(self, progress: float) -> float:
        """A tenth for the last sixth of the steps (the paper's last 50 of 300 epochs)."""
        return 1.0 if progress < 5 / 6 else 0.1


class Inpainter(nn.Module):
    """U-Net: pictures with holes (B, 3, H, W) to whole ones. `channels`: of each level, the finest first."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        first, *_, last = channels
        self.enter = _twice(Conv2d(3, first, 3, padding=1), first)
        self.down = nn.ModuleList(_twice(nn.Conv2d(a, b, 4, 2, 1), b) for a, b in pairwise(channels))
        upwards = list(pairwise([last, *channels[-2::-1]]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in upwards)
        self.join = nn.ModuleList(_twice(Conv2d(2 * b, b, 3, padding=1), b) for _, b in upwards)
        self.leave = Conv2d(first, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The picture on the scale [0, 1], not clipped to it."""
        levels = [self.enter(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up, join, level in zip(self.up, self.join, levels[::-1], strict=True):
            x = join(torch.cat([up(x, level.shape[2:]), level], 1))
        answer: Tensor = self.leave(x)
        return answer


def _twice(first: nn.Module, channels: int) -> nn.Sequential:
    """A convolution and a second one of 3 x 3, each with batch normalisation and ReLU."""
    second = Conv2d(channels, channels, 3, padding=1)
    layers = [(c, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)) for c in (first, second)]
    return nn.Sequential(*layers[0], *layers[1])


def removed_cells(size: tuple[int, int], k: int, sets: int, generator: torch.Generator | None = None) -> Tensor:
    """(sets, H, W) bool: which pixels each set removes. Every pixel is in one set; sets differ by one cell at most.

    Args:
        size: (H, W). k: side of a cell. generator: of the draw; None: torch's global one.
    """
    rows, columns = -(-size[0] // k), -(-size[1] // k)
    of_cell = torch.randperm(rows * columns, generator=generator).view(rows, columns) % sets
    of_pixel = of_cell.repeat_interleave(k, 0)[: size[0]].repeat_interleave(k, 1)[:, : size[1]]
    return of_pixel == torch.arange(sets)[:, None, None]


def _number(size: tuple[int, int], k: int) -> int:
    return -(-size[0] // k) * -(-size[1] // k)
