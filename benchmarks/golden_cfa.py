"""Write tests/detectors/golden/cfa_anomalib.npz: anomalib 2.7's centres, loss, gradients and maps for toy images.

    PYTHONPATH=src:tests:benchmarks python benchmarks/golden_cfa.py

in an environment with anomalib 2.7.0. Its descriptor has our weights, and the radius is large enough for its
repulsion to act, which it never does at the default.
"""

from types import SimpleNamespace

import numpy as np
import torch
from anomalib.models.image.cfa.loss import CfaLoss
from anomalib_parts import save_golden
from anomalib_students import cfa_model
from toys import images_of

from continuad.models.registry import make_detector

RADIUS = 7.5
ours, model = make_detector("cfa", image_size=64, radius=RADIUS, seed=1), cfa_model(RADIUS)
layer = model.descriptor.layer.conv2d
layer.load_state_dict(ours.descriptor.state_dict())
train, test = (torch.from_numpy(images_of(0, 4, defects=d, seed=0).images) for d in (False, True))
model.initialize_centroid([SimpleNamespace(image=train)])
loss = CfaLoss(3, 3, RADIUS)(model.train()(train))
loss.backward()
with torch.no_grad():
    found = model.eval()(test)
save_golden(
    "cfa",
    centres=model.memory_bank.T.numpy()[::16],
    loss=loss.item(),
    gradients=np.array([float(p.grad.norm()) for p in layer.parameters()], np.float32),
    map=found.anomaly_map.reshape(len(test), 64, 64)[:, ::4, ::4].numpy(),
    score=found.pred_score.flatten().numpy(),
)
