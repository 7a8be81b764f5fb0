"""anomalib 2.7's FastFlow and CFLOW-AD as detectors, so that both learn from the same images by the same loop.

    PYTHONPATH=src:benchmarks python -m continuad bench PRODUCT --strategy single --seeds 3 --steps 300 \
        --detector fastflow,anomalib_flows:FastFlow --out RESULTS

in an environment with anomalib 2.7.0, FrEIA and continuad's requirements. Flows, losses and maps are anomalib's. Ours
are the backbone (theirs has no embedded one), the order of the images and the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from anomalib.models.image.cflow.torch_model import CflowModel
from anomalib.models.image.cflow.utils import cflow_head, get_logp, positional_encoding_2d
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import FastflowModel, create_fast_flow_block
from anomalib_parts import Named
from torch import Tensor, nn
from torch.nn import functional as F

from continuad.core.detector import Detector
from continuad.core.types import Prediction
from continuad.detectors import cflow as ours
from continuad.vision.backbones import DEFAULT, AnyBackbone, BackboneSpec, load_backbone


class FastFlow(Detector):
    """anomalib's FastFlow on our backbone."""

    batch_size = 32

    def __init__(
        self,
        image_size: int | tuple[int, int] = 256,
        backbone: AnyBackbone = DEFAULT,
        flow_steps: int = 8,
        seed: int = 0,
    ):
        super().__init__(image_size)
        self.backbone, self.flow_steps, self.seed = BackboneSpec.of(backbone), flow_steps, seed
        pyramid = load_backbone(self.backbone, (4, 8, 16))
        shapes = [list(level.shape[1:]) for level in pyramid(torch.zeros(1, 3, *self.image_size, dtype=torch.uint8))]
        self.model = FastflowModel(self.image_size, "resnet18", pre_trained=False, flow_steps=1)
        self.model.feature_extractor = pyramid
        self.model.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
        self.model.fast_flow_blocks = nn.ModuleList(
            create_fast_flow_block(shape, conv3x3_only=False, hidden_ratio=1.0, flow_steps=flow_steps)
            for shape in shapes
        )
        self.loss = FastflowLoss()

    def step(self, images: Tensor) -> Tensor:
        """As its training_step."""
        self.model.train()
        return self.loss(*self.model(images))

    def _predict(self, images: Tensor) -> Prediction:
        """Its map and its score, the map's maximum."""
        found = self.model.eval()(images)
        return Prediction(found.pred_score.flatten(), found.anomaly_map[:, 0].contiguous())

    def optimiser(self) -> torch.optim.Optimizer:
        """Its own."""
        return torch.optim.Adam(self.weights().values(), 1e-3, weight_decay=1e-5)


class Cflow(Detector):
    """anomalib's CFLOW-AD on our backbone, at our step's pace: one portion of every level's vectors a step.

    Like the original it scales a map by the highest likelihood among the images that are predicted together, so that
    scores depend on `batch_size`.
    """

    batch_size = 4

    def __init__(
        self,
        image_size: int | tuple[int, int] = 256,
        backbone: AnyBackbone = DEFAULT,
        flow_steps: int = 8,
        fibres: int = 256,
        soft: bool = False,
        rate: float = 1e-4,
        seed: int = 0,
    ):
        super().__init__(image_size)
        self.backbone, self.flow_steps = BackboneSpec.of(backbone), flow_steps
        self.fibres, self.soft, self.rate, self.seed = fibres, soft, rate, seed
        pyramid = load_backbone(self.backbone, (8, 16, 32))
        self.model = CflowModel("resnet18", ["layer2", "layer3", "layer4"], pre_trained=False, coupling_blocks=1)
        self.model.encoder = Named(pyramid, self.model.pool_layers)
        self.model.decoders = nn.ModuleList(
            cflow_head(128, flow_steps, 1.9, channels, permute_soft=soft) for channels in pyramid.channels
        )

    def step(self, images: Tensor) -> Tensor:
        """As an optimiser step of its training_step, for every level at once."""
        losses = []
        for level, decoder in zip(self.model.encoder(images).values(), self.model.decoders, strict=True):
            batch, channels, height, width = level.shape
            vectors = level.permute(0, 2, 3, 1).reshape(-1, channels)
            places = positional_encoding_2d(128, height, width).permute(1, 2, 0).reshape(-1, 128).repeat(batch, 1)
            chosen = torch.randperm(len(vectors))[: self.fibres]
            z, log_det = decoder(vectors[chosen], [places[chosen]])
            losses.append(-F.logsigmoid(get_logp(channels, z, log_det) / channels).mean())
        return sum(losses)

    def _predict(self, images: Tensor) -> Prediction:
        """Its map and its score, the map's maximum."""
        found = self.model(images)
        return Prediction(found.pred_score.flatten(), found.anomaly_map)

    def optimiser(self) -> torch.optim.Optimizer:
        """Its own."""
        return torch.optim.Adam(self.weights().values(), self.rate)


class OriginalCflow(Cflow):
    """The same with what the original does and anomalib does not: rotations, rate and schedule; and each portion of
    images is predicted together with the same four val images, whose likelihoods then scale all maps alike."""

    learning_rate = ours.Cflow.learning_rate

    def __init__(self, image_size: int | tuple[int, int] = 256, seed: int = 0):
        super().__init__(image_size, soft=True, rate=2e-4, seed=seed)

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Take the first four val images."""
        self.stats["company"] = next(iter(images))[:4]

    def _predict(self, images: Tensor) -> Prediction:
        """Map and score in this company."""
        found = super()._predict(torch.cat([images, self.stats["company"]]))
        return Prediction(found.score[: len(images)], found.map[: len(images)])
