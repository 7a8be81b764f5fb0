"""anomalib 2.7's DRÆM and EfficientAD as detectors, so that both learn from the same images by the same loop.

    PYTHONPATH=src:benchmarks python -m continuad bench FABRIC TILE --strategy single --seeds 3 --steps 300 \
        --image-size 128 --detector draem,anomalib_peers:Draem,anomalib_peers:MendedDraem \
        --set draem.textures=DTD --set draem.width=0.125  # and so on for the other two

in an environment with anomalib 2.7.0 and continuad's requirements. Networks, losses, corruption and quantiles are
anomalib's. Ours are order of the images, schedule of the learning rate (the thesis's), metrics, and for
EfficientAD the arithmetic of its convolutions, for speed alone.
"""

from collections.abc import Iterable
from typing import ClassVar

import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from anomalib.models.image.draem.loss import DraemLoss
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, DraemModel, ReconstructiveSubNetwork
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, reduce_tensor_elems
from kornia.losses import FocalLoss
from torch import Tensor, nn

from continuad.core.detector import Detector
from continuad.core.state import Policy
from continuad.core.types import Prediction
from continuad.data.synthetic import Pictures
from continuad.detectors.draem import initialise
from continuad.vision.pdn import load_teacher
from continuad.vision.winograd import Conv2d


class Draem(Detector):
    """anomalib's DRÆM; `width` as in ours."""

    batch_size = 4
    focal: ClassVar[type[FocalLoss] | None] = None  # instead of anomalib's own

    def __init__(
        self,
        image_size: int | tuple[int, int] = 256,
        width: float = 1.0,
        textures: str | None = None,
        seed: int = 0,
    ):
        super().__init__(image_size)
        self.width, self.textures, self.seed = width, textures, seed
        self.model = DraemModel()
        self.model.reconstructive_subnetwork = ReconstructiveSubNetwork(base_width=round(128 * width))
        self.model.discriminative_subnetwork = DiscriminativeSubNetwork(6, 2, base_width=round(64 * width))
        self.loss = DraemLoss()
        if self.focal:
            self.loss.focal_loss = self.focal()
        self.corrupt = PerlinAnomalyGenerator(textures, blend_factor=(0.1, 1.0))

    def step(self, images: Tensor) -> Tensor:
        """As its training_step."""
        good = images / 255
        corrupted, mask = self.corrupt(good)
        repaired, logits = self.model(corrupted)
        return self.loss(good, repaired, mask, logits)

    def _predict(self, images: Tensor) -> Prediction:
        """Its map and its score, the map's maximum."""
        found = self.model(images / 255)
        return Prediction(found.pred_score, found.anomaly_map.contiguous())

    def optimiser(self) -> torch.optim.Optimizer:
        """Its own."""
        return torch.optim.Adam(self.weights().values(), 1e-4)

    def learning_rate(self, progress: float) -> float:
        """The thesis's, as in ours."""
        return 1.0 if progress < 0.8 else 0.2 if progress < 0.9 else 0.04


class WholeFocal(FocalLoss):
    """The original's focal loss: both classes weigh the same, and the mean is over pixels."""

    def __init__(self):
        super().__init__(alpha=None, reduction="mean")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """kornia also divides by the number of classes."""
        return 2 * super().forward(logits, target)


class MendedDraem(Draem):
    """anomalib's DRÆM with the original's focal loss.

    anomalib asks kornia (0.9.0) for alpha=1, which weighs good pixels with 1 - alpha = 0: nothing holds the second
    network from calling every pixel defective.
    """

    focal = WholeFocal


class StartedDraem(MendedDraem):
    """MendedDraem whose weights also start as the original's, which anomalib leaves to torch's defaults."""

    def __init__(
        self,
        image_size: int | tuple[int, int] = 256,
        width: float = 1.0,
        textures: str | None = None,
        seed: int = 0,
    ):
        super().__init__(image_size, width, textures, seed)
        self.model.apply(initialise)


class EfficientAd(Detector):
    """anomalib's EfficientAD-S; options as in ours."""

    batch_size = 1

    def __init__(
        self,
        image_size: int | tuple[int, int] = 256,
        teacher: str | None = None,
        penalty: str | None = None,
        padding: bool = True,
        seed: int = 0,
    ):
        super().__init__(image_size)
        self.teacher, self.penalty, self.padding, self.seed = teacher, penalty, padding, seed
        self.model = EfficientAdModel(padding=padding, pad_maps=not padding)
        state = load_teacher("s", teacher, padding).net.state_dict()
        self.model.teacher.load_state_dict(dict(zip(self.model.teacher.state_dict(), state.values(), strict=True)))
        for part in (self.model.teacher, self.model.mean_std, self.model.quantiles):
            part.requires_grad_(False)
        for layer in self.model.modules():
            if type(layer) is nn.Conv2d:
                layer.__class__ = Conv2d
        self.pictures = Pictures(penalty, zoom=2.0, grey=0.3)

    @torch.no_grad()
    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """As its teacher_channel_mean_std."""
        super().begin(images, statistics)
        answers = torch.cat([self.model.teacher(batch / 255) for batch in images])
        self.stats["std"], self.stats["mean"] = torch.std_mean(answers, (0, 2, 3), keepdim=True, correction=0)

    def _set(self) -> None:
        for kept in (self.model.mean_std, self.model.quantiles):
            for name in kept:
                if name in self.stats:
                    kept[name].copy_(self.stats[name])

    def step(self, images: Tensor) -> Tensor:
        """As its training_step."""
        with torch.no_grad():
            self._set()
        return sum(self.model(images / 255, self.pictures.draw(len(images), self.image_size) / 255))

    @torch.no_grad()
    def calibrate(self, images: Iterable[Tensor]) -> None:
        """As its map_norm_quantiles."""
        self._set()
        pairs = [self.model.get_maps(batch / 255, normalize=False) for batch in images]
        for name, maps in zip(("st", "ae"), zip(*pairs, strict=True), strict=True):
            flat = reduce_tensor_elems(torch.cat(maps))
            self.stats[f"qa_{name}"], self.stats[f"qb_{name}"] = flat.quantile(0.9), flat.quantile(0.995)

    def _predict(self, images: Tensor) -> Prediction:
        """Its map and score."""
        self._set()
        found = self.model(images / 255)
        return Prediction(found.pred_score.flatten(), found.anomaly_map[:, 0].contiguous())

    def optimiser(self) -> torch.optim.Optimizer:
        """Its own."""
        return torch.optim.Adam(self.weights().values(), 1e-4, weight_decay=1e-5)

    def learning_rate(self, progress: float) -> float:
        """Its own."""
        return 0.1 if progress >= 0.95 else 1.0
