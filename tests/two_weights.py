"""A detector of two weights whose losses, gradients and penalties can be worked out by hand, and its images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from toys import images_of

from continuad.core.detector import Detector
from continuad.core.strategy import Strategy
from continuad.core.types import ImageSet, Prediction, Task


class TwoWeights(Detector):
    """Answers w0 a + w1 b for an image whose first two pixels are a and b; the third says what would be right."""

    batch_size, steps = 1, 1

    def __init__(self, image_size: int | tuple[int, int] = 32, seed: int = 0):
        super().__init__(image_size)
        self.seed = seed
        self.w = nn.Parameter(torch.zeros(2))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [(images[:, 0, 0, :2].float() @ self.w)[:, None]]

    def step(self, images: Tensor) -> Tensor:
        return (self(images)[0][:, 0] - images[:, 0, 0, 2].float()).square().mean()

    def _predict(self, images: Tensor) -> Prediction:
        found = self(images)[0][:, 0]
        return Prediction(found, found[:, None, None].expand(-1, *self.image_size))

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.w], 0.1)


def image_set(*rows: tuple[int, int, int]) -> ImageSet:
    images = images_of(0, len(rows), defects=False, seed=0, size=32)
    images.images[:, 0, 0, :3] = rows
    return images


def task(index: int, *rows: tuple[int, int, int]) -> Task:
    return Task(index, f"t{index}", image_set(*rows), image_set(rows[0]), image_set(rows[0]))


def weights(strategy: Strategy) -> list[float]:
    return strategy.detector.w.detach().tolist()  # type: ignore[union-attr, operator]


def set_weights(strategy: Strategy, *values: float) -> None:
    with torch.no_grad():
        strategy.detector.w.copy_(torch.tensor(values))  # type: ignore[union-attr, operator]
