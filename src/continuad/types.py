"""The three values that travel through the package: what comes in, what goes out, one lesson."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from continuad.data.images import ImageSet


class Batch(NamedTuple):
    """Images as they lie on disk, before any normalisation or augmentation.

    Attributes:
        image: (B, 3, H, W) uint8.
        mask: (B, H, W) bool, True where the surface is defective.
        label: (B,) bool, True for an anomalous image.
    """

    image: Tensor
    mask: Tensor
    label: Tensor

    @classmethod
    def good(cls, images: Tensor) -> Batch:
        """Images (B, 3, H, W) without a defect."""
        no = torch.zeros(len(images), dtype=torch.bool)
        return cls(images, no[:, None, None].expand(-1, *images.shape[-2:]), no)


class Prediction(NamedTuple):
    """A detector's answer; higher is more anomalous.

    Attributes:
        score: (B,) float32, one value an image.
        map: (B, H, W) float32, at the size of the images that were given.
        task: (B,) int64, the task each image was taken for (-1: none of the known ones), or None when
            the strategy does not infer tasks.
    """

    score: Tensor
    map: Tensor
    task: Tensor | None = None


@dataclass(frozen=True)
class Task:
    """One lesson of the stream (on the factory floor: one product).

    Attributes:
        index: position in the stream, from 0.
        name: unique in its stream.
        train: good images to learn from.
        val: held-out good images, for thresholds and early stopping. Never test data.
        test: good and anomalous images with their truth; may be empty.
    """

    index: int
    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet
