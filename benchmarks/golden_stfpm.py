"""Write tests/detectors/golden/stfpm_anomalib.npz: anomalib 2.7's loss, gradients and maps for toy images.

    PYTHONPATH=src:tests:benchmarks python benchmarks/golden_stfpm.py

in an environment with anomalib 2.7.0. Its teacher has the embedded weights, its student ours. Its loss is a sum
over the images of a step, the paper's (and ours) a mean.
"""

import numpy as np
import torch
from anomalib.models.image.stfpm.loss import STFPMLoss
from anomalib_parts import save_golden
from anomalib_students import stfpm_model
from toys import images_of

from continuad.models.registry import make_detector

ours, model = make_detector("stfpm", image_size=64), stfpm_model().train()
student = model.student_model.feature_extractor
missing = student.load_state_dict(ours.student.state_dict(), strict=False).missing_keys
assert all(name.startswith(("blocks.5.", "blocks.6.")) for name in missing)  # no level depends on these
# In double precision: the normalisations of a new network turn rounding into differences of a few percent.
model.double()
train, test = (
    ours.pyramid.normalised(torch.from_numpy(images_of(0, 4, defects=d, seed=0).images)).double() for d in (False, True)
)
loss = STFPMLoss()(*model(train)) / len(train)
loss.backward()
gradients = [float(dict(student.named_parameters())[name].grad.norm()) for name, _ in ours.student.named_parameters()]
with torch.no_grad():
    found = model.eval()(test)
save_golden(
    "stfpm",
    loss=loss.item(),
    gradients=np.array(gradients, np.float32),
    map=found.anomaly_map[:, 0, ::4, ::4].numpy().astype(np.float32),
    score=found.pred_score.flatten().numpy().astype(np.float32),
)
