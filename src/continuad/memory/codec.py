"""Images as small files in memory: PNG keeps every pixel, WebP and JPEG keep ten times as many images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from continuad.core.types import Batch

Coding = Literal["raw", "png", "webp", "jpeg"]
CODINGS = ("raw", "png", "webp", "jpeg")
QUALITY = 90  # of the lossy codings


def encode(image: Tensor, coding: Coding) -> Tensor:
    """One image (3, H, W) uint8 as the bytes (N,) uint8 of a file; "raw" gives it back flat."""
    if coding == "raw":
        return image.flatten()
    out = io.BytesIO()
    options = {"optimize": True} if coding == "png" else {"quality": QUALITY}
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(out, coding, **options)
    return torch.from_numpy(np.frombuffer(out.getvalue(), np.uint8).copy())


def decode(file: Tensor, coding: Coding, size: tuple[int, int]) -> Tensor:
    """The image (3, H, W) uint8 of `encode`."""
    if coding == "raw":
        return file.view(3, *size)
    with Image.open(io.BytesIO(file.numpy().tobytes())) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class CodedImages:
    """Good images that are decoded when they are asked for."""

    files: Sequence[Tensor]
    coding: Coding
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        """One image without a batch axis."""
        image = decode(self.files[index], self.coding, self.size)
        return Batch(image, torch.zeros(self.size, dtype=torch.bool), torch.tensor(False))

    def __getitems__(self, indices: list[int]) -> Batch:
        """Several images at once."""
        return Batch(*(torch.stack(column) for column in zip(*(self[i] for i in indices), strict=True)))
