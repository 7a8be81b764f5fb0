"""What travels through the package: images with their truth, what a detector answers, one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

NONE = -1  # the task of an image that belongs to none of the known ones


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


Levels = list[Tensor]
"""What a frozen backbone answers to B images: feature maps (B, C, h, w), the finest first."""


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


class Images(Protocol):
    """A number of images that are had by their places, several at once."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[int]) -> Batch: ...


@dataclass(frozen=True, eq=False)
class Joined(Dataset[Batch]):
    """Several sets of images read as one, without copying their pixels."""

    parts: tuple[Images, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Batch:
        one = self.__getitems__([index])
        return Batch(one.image[0], one.mask[0], one.label[0])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Several images at once, in the order asked for."""
        ends = np.cumsum([len(part) for part in self.parts])
        owner = np.searchsorted(ends, indices, side="right")
        places = [i - int(ends[o]) + len(self.parts[o]) for o, i in zip(owner, indices, strict=True)]
        rows = [self.parts[o].__getitems__([place]) for o, place in zip(owner, places, strict=True)]
        return Batch(*(torch.cat(column) for column in zip(*rows, strict=True)))


@dataclass(frozen=True, eq=False)
class Chosen(Dataset[Batch]):
    """Some images of a set by their places, without copying their pixels."""

    images: Images
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Batch:
        one = self.__getitems__([index])
        return Batch(one.image[0], one.mask[0], one.label[0])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Several images at once, in the order asked for."""
        return self.images.__getitems__([self.places[i] for i in indices])


@dataclass(frozen=True)
class Task:
    """What is learned at one time (on the factory floor: one product).

    Attributes:
        index: position in the stream, from 0.
        name: unique in its stream.
        train: good images to learn from.
        val: good images for thresholds and early stopping, never test data. Either they are not learned from, or they
            are the very same object as `train` (`all_in_one`).
        test: good and anomalous images with their truth; may be empty.
        bits: white level its grey images above 8 bits were decoded with, 8 where the train images have no more;
            None if they were not decoded alike.
    """

    index: int
    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet
    bits: int | None = 16

    @property
    def all_in_one(self) -> bool:
        """Whether every good image is learned from and sets thresholds, too, predicted out of fold."""
        return self.val is self.train

    def all_good(self) -> Images:
        """Its train and val images, each once."""
        return self.train if self.all_in_one else Joined((self.train, self.val))

    def with_all_in_one(self) -> Task:
        """The same task with all good images as both train and val images."""
        good = cast(ImageSet, self.all_good())
        return replace(self, train=good, val=good)


@dataclass(frozen=True)
class LearnedTask:
    """What a model remembers of a task beside what it learned: enough to be asked about a file.

    Attributes:
        index, name, bits: as in `Task`.
    """

    index: int
    name: str
    bits: int | None = 16
