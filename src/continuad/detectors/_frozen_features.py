"""What detectors share that see an image through a frozen backbone alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from continuad.core.detector import Detector, check_trained, owners_of
from continuad.core.hints import ImageSize
from continuad.core.types import Levels, Prediction
from continuad.vision.backbones import AnyBackbone, Backbone, BackboneSpec, load_backbone


class FrozenFeatures(Detector):
    """A detector of feature maps. Everything it learns and answers follows from the backbone's levels, so whoever has
    them can pass them on (`Embeds`). Subclasses implement `step_on` and `_predict_on`.

    Args:
        backbone: its name, or a `BackboneSpec`. strides: its levels, the finest first.

    Raises:
        ContinuadError: a size that the backbone does not take, or strides that it does not have.
    """

    def __init__(self, image_size: ImageSize, backbone: AnyBackbone, strides: Sequence[int]):
        super().__init__(image_size)
        self.backbone = BackboneSpec.of(backbone)
        self.pyramid = load_backbone(self.backbone, strides)
        self.pyramid.check_size(self.image_size)

    def embedder(self) -> Backbone:
        """The backbone, cut to the detector's levels."""
        return self.pyramid

    def embed(self, images: Tensor) -> Levels:
        """The backbone's levels, (B, C, h, w) each, for uint8 images (B, 3, H, W)."""
        levels: Levels = self.pyramid(images)
        return levels

    def step(self, images: Tensor) -> Tensor | None:
        """`step_on` the images' levels."""
        return self.step_on(self.embed(images))

    def step_on(self, levels: Levels) -> Tensor | None:
        """A loss to descend, or None when the levels were absorbed."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> list[Tensor]:
        """What the learned part answers to the images' levels; the levels themselves where nothing has weights."""
        return self._answers(self.embed(images))

    def _answers(self, levels: Levels) -> list[Tensor]:
        return levels

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """`calibrate_on` the images' levels."""
        self.calibrate_on(map(self.embed, images))

    def calibrate_on(self, levels: Iterable[Levels]) -> None:
        """As `calibrate`; the default needs nothing."""

    @torch.no_grad()
    def predict_on(self, levels: Levels) -> Prediction:
        """As `predict`, for the levels of images of the right size.

        Raises:
            ContinuadError: nothing was learned yet.
        """
        check_trained(self)
        return self._predict_on(levels)

    def _predict(self, images: Tensor) -> Prediction:
        return self._predict_on(self.embed(images))

    def _predict_on(self, levels: Levels) -> Prediction:
        raise NotImplementedError


class FeatureStatistics(FrozenFeatures):
    """A detector of feature maps that learns by statistics and can leave any image out of them (`OutOfFold`).

    Subclasses implement `_absorb` and `_predict_on` with owners.
    """

    learns_by = "statistics"
    leaves_out_groups: ClassVar[bool] = True

    def step(self, images: Tensor) -> None:
        """`step_of` the images' own owners."""
        self.step_of(images, owners_of(images))

    @torch.no_grad()
    def step_of(self, images: Tensor, owners: Tensor) -> None:
        """Learn images (B, 3, H, W), remembering whose they are: owners (B,) int64."""
        self._absorb(self.embed(images), owners)

    @torch.no_grad()
    def step_on(self, levels: Levels) -> None:
        """Learn images by their levels. They cannot be left out of predictions later."""
        self._absorb(levels, torch.zeros(len(levels[0]), dtype=torch.int64, device=levels[0].device))

    @torch.no_grad()
    def predict_without(self, images: Tensor, owners: Tensor) -> Prediction:
        """As `predict`, each image as if nothing of its owner (B,) had been learned."""
        return self._predict_on(self.embed(images), owners)

    def _absorb(self, levels: Levels, owners: Tensor) -> None:
        raise NotImplementedError

    def _predict_on(self, levels: Levels, owners: Tensor | None = None) -> Prediction:
        """Score levels; with owners (B,), as if nothing of them had been learned."""
        raise NotImplementedError
