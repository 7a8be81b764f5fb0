"""What the scripts beside anomalib share: our weights in its backbones, our pyramids under its names, golden files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
from torch import Tensor, nn

from continuad.vision.backbones import DEFAULT, Backbone, _embedded_weights

MEAN = STD = 0.5  # the default backbone's normalisation


def embed(net: nn.Module) -> None:
    """Give a timm network on the default backbone the embedded weights."""
    weights = _embedded_weights(timm.create_model(DEFAULT).state_dict())
    net.load_state_dict({name: weights[name] for name in net.state_dict()})


class Named(nn.Module):
    """Our frozen pyramid with names for its levels, as anomalib's feature extractors answer."""

    def __init__(self, pyramid: Backbone, names: tuple[str, ...] | list[str]):
        super().__init__()
        self.pyramid, self.names = pyramid, names

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Levels of uint8 images (B, 3, H, W) by name."""
        return dict(zip(self.names, self.pyramid(images), strict=True))


def save_golden(name: str, **values: object) -> None:
    """Write tests/detectors/golden/NAME_anomalib.npz."""
    path = Path(__file__).parents[1] / "tests" / "detectors" / "golden" / f"{name}_anomalib.npz"
    np.savez_compressed(path, **values)
    print(path, path.stat().st_size, "bytes", values.get("loss"), values.get("score"))
