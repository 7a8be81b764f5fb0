"""STFPM: a student that matches its teacher's feature pyramid on good parts only (Wang et al. 2021; thesis 2.3.7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from continuad.core.detector import Detector
from continuad.core.hints import ImageSize, Seed
from continuad.core.types import Prediction
from continuad.errors import ContinuadError
from continuad.vision.anomaly_map import upsample_and_smooth
from continuad.vision.backbones import DEFAULT, AnyBackbone, BackboneSpec, Strides, load_backbone
from continuad.vision.pyramids import drop_idle, pyramid, trial_image


class Stfpm(Detector):
    """Student-teacher feature pyramid matching.

    Teacher t and student s are the same network up to the coarsest level; only the student learns, from random
    weights. At every position of every level both answers are scaled to length 1, and
    error = 1/2 ||t / ||t|| - s / ||s|| ||^2, between 0 and 2. The loss is the sum over levels of the mean error.
    The map is the product over levels of the errors, enlarged bilinearly; its maximum is the score.

    Policies: no statistics are kept, so all are alike; the student is trained on.

    Args:
        image_size: side or (H, W), at least 32 and twice the coarsest stride.
        backbone: of the teacher, its name or a `BackboneSpec`; the student computes in float32.
        strides: levels that are matched.
        seed: of the student's start.
    """

    batch_size = 32
    steps = 800  # the paper's 100 epochs over 240 images

    def __init__(
        self,
        image_size: ImageSize = 256,
        backbone: AnyBackbone = DEFAULT,
        strides: Strides = (4, 8, 16),
        seed: Seed = 0,
    ):
        super().__init__(image_size)
        self.backbone, self.strides, self.seed = BackboneSpec.of(backbone), tuple(strides), seed
        self.pyramid = load_backbone(self.backbone, self.strides)
        self.pyramid.check_size(self.image_size)
        coarsest = max(self.pyramid.strides)
        if min(self.image_size) < 2 * coarsest:
            # One image whose coarsest level is a single cell has no spread for the student's normalisation.
            raise ContinuadError(
                f"image size {self.image_size[0]} x {self.image_size[1]} is too small for STFPM at stride {coarsest}: "
                f"height and width must be at least {2 * coarsest}; or leave that stride out of the option strides"
            )
        with torch.random.fork_rng():
            # The next seed: an untrained teacher (weights_file="random") is drawn from seed 0, and is not the student.
            torch.manual_seed(torch.initial_seed() + 1)
            student = pyramid(self.backbone.name, self.strides)
            self.student = drop_idle(student, trial_image(self.backbone.name, student))
        self.student.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The student's levels (B, C, h, w), of length 1 at every position."""
        x = self.pyramid.normalised(images).contiguous(memory_format=torch.channels_last)
        return [F.normalize(level) for level in self.student(x)]

    def distance(self, new: list[Tensor], old: list[Tensor]) -> Tensor:
        """The loss, with the earlier student as the teacher."""
        return torch.stack([(a - b).square().sum(1).mean() / 2 for a, b in zip(new, old, strict=True)]).sum()

    def errors(self, images: Tensor) -> list[Tensor]:
        """(B, h, w) error of every level."""
        pairs = zip(self.pyramid(images), self.forward(images), strict=True)
        return [(F.normalize(taught) - copied).square().sum(1) / 2 for taught, copied in pairs]

    def step(self, images: Tensor) -> Tensor:
        """Sum over levels of the mean error."""
        return torch.stack([error.mean() for error in self.errors(images)]).sum()

    def _predict(self, images: Tensor) -> Prediction:
        """Product of the levels' errors, and its maximum."""
        levels = [upsample_and_smooth(error, self.image_size, sigma=0) for error in self.errors(images)]
        anomaly_map = torch.stack(levels).prod(0)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def optimiser(self) -> torch.optim.Optimizer:
        """SGD, rate 0.4, momentum 0.9, weight decay 1e-4."""
        return torch.optim.SGD(self.weights().values(), 0.4, momentum=0.9, weight_decay=1e-4)
