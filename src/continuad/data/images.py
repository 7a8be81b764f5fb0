"""Decoded images of one split, in memory or memory-mapped, with their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from continuad.types import Batch


@dataclass(frozen=True, eq=False)
class ImageSet(Dataset[Batch]):
    """N images of one working size with labels, masks and where they came from.

    Attributes:
        images: (N, 3, H, W) uint8, possibly a read-only memory map.
        labels: (N,) bool, True for anomalous.
        masks: (N, H, W) bool, True where defective; all False where unknown.
        mask_known: (N,) bool. False for an anomalous image whose mask is missing: pixel metrics leave it out.
        defects: N defect types, "good" for normal images.
        paths: N source files.
        sizes: N original (height, width).
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    mask_known: np.ndarray
    defects: tuple[str, ...]
    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        """One image without a batch axis: image (3, H, W), mask (H, W), label ()."""
        one = self.__getitems__([index])
        return Batch(one.image[0], one.mask[0], one.label[0])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Several images at once; a DataLoader with `collate_fn=lambda b: b` calls this."""
        at = np.asarray(indices, dtype=np.int64)
        return Batch(
            torch.from_numpy(np.ascontiguousarray(self.images[at])),
            torch.from_numpy(np.ascontiguousarray(self.masks[at])),
            torch.from_numpy(np.ascontiguousarray(self.labels[at])),
        )

    def subset(self, indices: Sequence[int]) -> ImageSet:
        """The images at `indices`, in that order."""
        at = np.asarray(indices, dtype=np.int64)
        return ImageSet(
            self.images[at],
            self.labels[at],
            self.masks[at],
            self.mask_known[at],
            tuple(self.defects[i] for i in at),
            tuple(self.paths[i] for i in at),
            tuple(self.sizes[i] for i in at),
        )


class Rows(Protocol):
    """A number of images, to be had by their indices, one or several at once."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[int]) -> Batch: ...

    def __getitem__(self, index: int, /) -> Batch: ...


@dataclass(frozen=True, eq=False)
class Joined(Dataset[Batch]):
    """Several sets of images read as one, without copying their pixels."""

    parts: tuple[Rows, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Batch:
        one = self.__getitems__([index])
        return Batch(one.image[0], one.mask[0], one.label[0])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Several images at once, in the order asked for."""
        ends = np.cumsum([len(part) for part in self.parts])
        owner = np.searchsorted(ends, indices, side="right")
        rows = [self.parts[o][i - int(ends[o]) + len(self.parts[o])] for o, i in zip(owner, indices, strict=True)]
        return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))
