"""anomalib 2.7's PatchCore as a detector, so that both learn from the same images and are measured alike.

    PYTHONPATH=src:benchmarks python -m continuad bench SCREW HAZELNUT TRANSISTOR --image-size 128 --seeds 3 \
        --strategy single --set patchcore.bank=1000 --detector patchcore,anomalib_banks:PatchCore --out RESULTS

in an environment with anomalib 2.7.0 and continuad's requirements. Model, coreset and map are anomalib's. Ours are the
backbone's weights, the images and the metrics.
"""

from collections.abc import Iterable

import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib_parts import MEAN, STD, embed
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.state import Policy
from continuad.core.types import Prediction
from continuad.vision.backbones import DEFAULT

LAYERS = ("blocks.2", "blocks.4")  # of the default backbone: strides 8 and 16


class PatchCore(Detector):
    """anomalib's PatchCore with a bank of as many vectors as ours."""

    learns_by = "statistics"

    def __init__(self, image_size: int | tuple[int, int] = 256, bank: int = 1000, seed: int = 0):
        super().__init__(image_size)
        self.bank, self.seed = bank, seed
        self.model = PatchcoreModel(LAYERS, DEFAULT, pre_trained=False, num_neighbors=9)
        embed(self.model.feature_extractor.feature_extractor)

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Nothing is collected yet."""
        super().begin(images, statistics)
        self.model.embedding_store.clear()

    def step(self, images: Tensor) -> None:
        """Collect embeddings."""
        self.model.train()((images / 255 - MEAN) / STD)

    def finish(self) -> None:
        """Choose the bank; its first vector and projection follow from the seed."""
        torch.manual_seed(self.seed)
        found = sum(len(part) for part in self.model.embedding_store)
        self.model.subsample_embedding((self.bank + 0.5) / found)
        self.stats["bank"] = self.model.memory_bank

    def _predict(self, images: Tensor) -> Prediction:
        """Its map and score."""
        self.model.memory_bank = self.stats["bank"]
        found = self.model.eval()((images / 255 - MEAN) / STD)
        return Prediction(found.pred_score.flatten(), found.anomaly_map[:, 0].contiguous())
