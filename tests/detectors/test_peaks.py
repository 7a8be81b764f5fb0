"""Where a map's peak lies: on the spot, for levels whose cells are the means of their own pixels.

What a real network adds to that is its own: cells of its levels answer to pixels beside their centres.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import ready

from continuad.detectors._frozen_features import FrozenFeatures
from continuad.models.registry import make_detector
from continuad.vision.backbones import BackboneSpec

SIDE, SPOTS = 96, 48
SMALL = {
    "padim": {"channels": 9, "strides": [4, 8, 16]},
    "patchcore": {"bank": 200, "strides": [4, 8]},
    "spade": {"strides": [4, 8], "neighbours": 4},
    "cfa": {"strides": [4, 8, 16]},
}


class _Means(nn.Module):
    """Levels (B, 3, H / stride, W / stride): means of the pixels under a cell."""

    def __init__(self, strides: tuple[int, ...]):
        super().__init__()
        self.strides, self.channels = strides, (3,) * len(strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(images / 255, stride) for stride in self.strides]

    def check_size(self, size: tuple[int, int]) -> None:
        """Any."""


def _noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(110, 8, (count, 3, SIDE, SIDE))


def _uint8(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", SMALL)
def test_the_peak_lies_on_a_bright_spot(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "continuad.detectors._frozen_features.load_backbone", lambda spec, strides: _Means(tuple(strides))
    )
    detector = make_detector(name, image_size=SIDE, backbone=BackboneSpec("resnet10t"), **SMALL[name])
    assert isinstance(detector, FrozenFeatures)
    good = _uint8(_noise(24, 0))
    detector.begin([good], "restart")
    with torch.no_grad():
        detector.step(good)
    detector.finish()
    generator, images = np.random.default_rng(1), _noise(SPOTS, 2)
    centres = generator.integers(24, SIDE - 24, (SPOTS, 2))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for image, (row, column) in zip(images, centres, strict=True):
        image += 130 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18)
    maps = ready(detector).predict(_uint8(images)).map
    peaks = np.stack(np.unravel_index(maps.flatten(1).argmax(1).numpy(), (SIDE, SIDE)), 1)
    offsets = peaks - centres
    assert np.abs(offsets.mean(0)).max() < 0.5
    assert np.abs(offsets).max() <= 4
