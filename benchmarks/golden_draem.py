"""Write tests/detectors/golden/draem_anomalib.npz: anomalib 2.7's loss, gradients and map for toy images.

    PYTHONPATH=src:tests:benchmarks python benchmarks/golden_draem.py

in an environment with anomalib 2.7.0. Its networks get our weights. The pictures have black borders as wide as
SSIM's window, since beyond a picture anomalib sees its mirror image, and the original (and ours) black. The focal
loss is the original's.
"""

import numpy as np
import torch
from anomalib.models.image.draem.loss import DraemLoss
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, DraemModel, ReconstructiveSubNetwork
from anomalib_parts import save_golden
from anomalib_peers import WholeFocal
from toys import images_of

from continuad.models.registry import make_detector

ours = make_detector("draem", image_size=64, width=0.0625)
model = DraemModel()
model.reconstructive_subnetwork = ReconstructiveSubNetwork(base_width=8)
model.discriminative_subnetwork = DiscriminativeSubNetwork(6, 2, base_width=4)
for theirs, own in ((model.reconstructive_subnetwork, ours.repair), (model.discriminative_subnetwork, ours.segment)):
    theirs.load_state_dict(dict(zip(theirs.state_dict(), own.state_dict().values(), strict=True)))
first = next(model.discriminative_subnetwork.parameters()).data
first.copy_(first[:, [3, 4, 5, 0, 1, 2]])  # theirs sees the given picture before the repaired one
defective = torch.from_numpy(images_of(0, 8, defects=True, seed=0).images)[4:].double() / 255
masks = torch.from_numpy(images_of(0, 8, defects=True, seed=0).masks)[4:]
good = torch.from_numpy(images_of(0, 4, defects=False, seed=0).images).double() / 255
model.double()  # in float32 a new network's gradients drown in the rounding of its normalisations
repaired, logits = model.train()(defective)
frame = torch.zeros(64, 64, dtype=torch.float64)
frame[11:-11, 11:-11] = 1
criterion = DraemLoss()
criterion.focal_loss = WholeFocal()
loss = criterion(good * frame, repaired * frame, masks[:, None], logits)
loss.backward()
parts = (model.reconstructive_subnetwork, model.discriminative_subnetwork)
gradients = [float(p.grad.norm()) for part in parts for p in part.parameters()]
with torch.no_grad():
    found = model.eval()(defective)
save_golden("draem", loss=loss.item(), gradients=np.array(gradients, np.float32), map=found.anomaly_map.float().numpy())
