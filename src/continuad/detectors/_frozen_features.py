"""What detectors share that see an image through a frozen backbone alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from continuad.core.detector import Detector, check_trained
from continuad.core.types import Prediction
from continuad.vision.backbones import AnyBackbone, Backbone, BackboneSpec, load_backbone

Levels = list[Tensor]


class FrozenFeatures(Detector):
    """A detector of feature maps. Everything it learns and answers follows from the backbone's levels, so whoever has
    them can pass them on (`Embeds`). Subclasses implement `step_on` and `_predict_on`.

    Args:
        backbone: its name, or a `BackboneSpec`. strides: its levels, the finest first.

    Raises:
        ContinuadError: a size that the backbone does not take, or strides that it does not have.
    """

    def __init__(self, image_size: int | tuple[int, int], backbone: AnyBackbone, strides: Sequence[int]):
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
