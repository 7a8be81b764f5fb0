"""Textures as products: pictures to teach a small station, and ones to inspect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from continuad.station.geometry import Geometry

SIZE = Geometry((128, 128))
SMALL = {"bank": "25%"}


def picture(kind: str, number: int, defect: bool = False) -> Image.Image:
    """A noisy texture of stripes or squares, 192 x 160 pixels; a defect is a bright blot of 20 x 16."""
    rng = np.random.default_rng([number, kind == "stripes"])
    y, x = np.mgrid[:160, :192]
    pattern = (x // 16) % 2 if kind == "stripes" else ((x // 24) + (y // 24)) % 2
    grey = 60 + 90 * pattern + rng.normal(rng.normal(0, 4), 6, (160, 192))
    if defect:
        grey[60:76, 80:100] = 250
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


def write(folder: Path, kind: str, numbers: range, defect: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(kind, number, defect).save(folder / f"{number:03}.png")
    return folder
