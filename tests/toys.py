"""Small things to learn from and with: three textured tasks and a gradient detector of two layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from continuad.core.detector import TRAINED, Detector
from continuad.core.types import ImageSet, Prediction, Task

SIZE = 64


def images_of(kind: int, n: int, *, defects: bool, seed: int, size: int = SIZE) -> ImageSet:
    """Stripes, squares or speckle with noise; defective ones (the second half) carry a bright patch."""
    rng = np.random.default_rng([seed, kind, n, defects])
    y, x = np.mgrid[:size, :size]
    base = [np.sin(x / 3) * 60, ((x // 8 + y // 8) % 2) * 90.0, np.cos(y / 5) * np.cos(x / 5) * 70][kind % 3]
    tint = np.array([[1, 0.6, 0.3], [0.3, 1, 0.6], [0.6, 0.3, 1]])[kind % 3]
    images = 110 + base * tint[:, None, None] + rng.normal(0, 6, (n, 3, size, size))
    masks = np.zeros((n, size, size), bool)
    labels = np.arange(n) >= n // 2 if defects else np.zeros(n, bool)
    for i in np.flatnonzero(labels):
        top, left = rng.integers(8, size - 20, 2)
        masks[i, top : top + 10, left : left + 10] = True
        images[i, :, masks[i]] = rng.integers(0, 256, 3)
    kinds = tuple("spot" if label else "good" for label in labels)
    paths = tuple(Path(f"{kind}/{'test' if defects else 'train'}/{seed}/{i:03d}.png") for i in range(n))
    pixels = images.clip(0, 255).astype(np.uint8)
    return ImageSet(pixels, labels, masks, np.ones(n, bool), kinds, paths, ((size, size),) * n)


def stream(tasks: int = 3, *, train: int = 12, size: int = SIZE) -> list[Task]:
    """Tasks "zebra", "chess", "egg": alphabetical order differs from the order of learning."""
    names = ("zebra", "chess", "egg")
    return [
        Task(
            t,
            names[t],
            images_of(t, train, defects=False, seed=0, size=size),
            images_of(t, 4, defects=False, seed=1, size=size),
            images_of(t, 8, defects=True, seed=2, size=size),
        )
        for t in range(tasks)
    ]


def ready(detector: Detector) -> Detector:
    """A detector that may predict, taught by hand instead of by `fit`."""
    detector.stats[TRAINED] = torch.tensor(True)
    return detector.eval()


def shaken(detector: Detector, by: float) -> None:
    """Move weights a little away from where they start: a new normalising flow hardly does anything."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in detector.weights().values():
            p += by * torch.randn(p.shape, generator=generator)


class ToyAutoencoder(Detector):
    """Reconstructs from a bottleneck; the error is the map. Learns by gradient, with batch normalisation."""

    steps, batch_size = 12, 4

    def __init__(self, image_size: int | tuple[int, int] = SIZE, seed: int = 0):
        super().__init__(image_size)
        self.seed = seed
        with torch.random.fork_rng():  # tests build it without make_detector, which would seed it
            torch.manual_seed(seed)
            self.encode = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6), nn.ReLU())
            self.decode = nn.ConvTranspose2d(6, 3, 4, 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.decode(self.encode(images.float() / 255))]

    def step(self, images: Tensor) -> Tensor:
        return F.mse_loss(self(images)[0], images.float() / 255)

    def _predict(self, images: Tensor) -> Prediction:
        error = (self(images)[0] - images.float() / 255).square().mean(1)
        return Prediction(error.flatten(1).amax(1), error)
