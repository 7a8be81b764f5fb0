"""anomalib 2.7's STFPM and CFA as detectors, so that both learn from the same images by the same loop.

    PYTHONPATH=src:benchmarks python -m continuad bench FABRIC TILE --strategy single --steps 300 --image-size 128 \
        --detector stfpm,anomalib_students:Stfpm,cfa,anomalib_students:Cfa

in an environment with anomalib 2.7.0 and continuad's requirements. Models, losses and optimisers are anomalib's.
Ours are the backbone (the default one, at strides 4, 8 and 16), the order of the images and the metrics.
"""

from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import torch
from anomalib.models.components import TimmFeatureExtractor
from anomalib.models.image.cfa import torch_model as cfa
from anomalib.models.image.cfa.loss import CfaLoss
from anomalib.models.image.stfpm import torch_model as stfpm
from anomalib.models.image.stfpm.loss import STFPMLoss
from anomalib_parts import MEAN, STD, Named, embed
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.state import Policy
from continuad.core.types import Prediction
from continuad.vision.backbones import DEFAULT, load_backbone

LAYERS = ("blocks.1", "blocks.2", "blocks.4")  # of the default backbone: strides 4, 8 and 16


def stfpm_model() -> stfpm.STFPMModel:
    """Its model on the default backbone, the teacher with the embedded weights."""
    with patch.object(stfpm, "TimmFeatureExtractor", _without_download):
        model = stfpm.STFPMModel(LAYERS, DEFAULT)
    embed(model.teacher_model.feature_extractor)
    return model


def _without_download(**options: object) -> TimmFeatureExtractor:
    return TimmFeatureExtractor(**(options | {"pre_trained": False}))


def cfa_model(radius: float = 1e-5) -> cfa.CfaModel:
    """Its model on the default backbone, for uint8 images."""
    levels = Named(load_backbone(), LAYERS)
    channels = sum(levels.pyramid.channels)
    with patch.object(cfa, "get_feature_extractor", lambda *_: levels):
        model = cfa.CfaModel("resnet18", 1, 1, 3, 3, radius)
    model.descriptor.layer = cfa.CoordConv2d(channels, channels, kernel_size=1)
    model.get_scale = partial(torch.Size)  # only asked for with gamma_c above 1
    return model


class Stfpm(Detector):
    """anomalib's STFPM."""

    batch_size = 32

    def __init__(self, image_size: int | tuple[int, int] = 256, seed: int = 0):
        super().__init__(image_size)
        self.seed = seed
        self.model = stfpm_model()
        self.loss = STFPMLoss()

    def step(self, images: Tensor) -> Tensor:
        """As its training_step."""
        x = (images / 255 - MEAN) / STD
        return self.loss(self.model.teacher_model(x), self.model.student_model(x))

    def _predict(self, images: Tensor) -> Prediction:
        """Its map and score."""
        found = self.model((images / 255 - MEAN) / STD)
        return Prediction(found.pred_score.flatten(), found.anomaly_map[:, 0].contiguous())

    def optimiser(self) -> torch.optim.Optimizer:
        """Its own."""
        return torch.optim.SGD(self.model.student_model.parameters(), 0.4, momentum=0.9, weight_decay=1e-3)


class PaperStfpm(Stfpm):
    """The same with the paper's loss, a mean over the images of a step instead of their sum, and its weight decay."""

    def step(self, images: Tensor) -> Tensor:
        """The mean."""
        return super().step(images) / len(images)

    def optimiser(self) -> torch.optim.Optimizer:
        """The paper's."""
        return torch.optim.SGD(self.model.student_model.parameters(), 0.4, momentum=0.9, weight_decay=1e-4)


class Cfa(Detector):
    """anomalib's CFA."""

    batch_size = 4

    def __init__(self, image_size: int | tuple[int, int] = 256, seed: int = 0):
        super().__init__(image_size)
        self.seed = seed
        self.model = cfa_model()
        self.loss = CfaLoss(3, 3, 1e-5)
        self.loss.radius = self.loss.radius.detach()  # nothing learns it; with its graph only one step can be taken

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """As its on_train_start."""
        super().begin(images, statistics)
        self.model.memory_bank = torch.tensor(0.0)
        self.model.initialize_centroid([SimpleNamespace(image=batch) for batch in images])
        self.stats["memory_bank"] = self.model.memory_bank

    def step(self, images: Tensor) -> Tensor:
        """As its training_step."""
        self.model.train()
        return self.loss(self.model(images))

    def _predict(self, images: Tensor) -> Prediction:
        """Its map and score."""
        self.model.memory_bank = self.stats["memory_bank"]
        found = self.model.eval()(images)
        return Prediction(found.pred_score.flatten(), found.anomaly_map.flatten(0, -3).contiguous())

    def optimiser(self) -> torch.optim.Optimizer:
        """Its own."""
        return torch.optim.AdamW(self.weights().values(), 1e-3, weight_decay=5e-4, amsgrad=True)
