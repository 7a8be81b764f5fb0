"""Write tests/detectors/golden/efficientad_anomalib.npz: anomalib 2.7's loss, gradients and maps for toy images.

    PYTHONPATH=src:tests:benchmarks python benchmarks/golden_efficientad.py

in an environment with anomalib 2.7.0. Its networks get our weights; images are not altered and nothing drops
out, so that both see the same.
"""

import numpy as np
import torch
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, reduce_tensor_elems
from anomalib_parts import save_golden
from toys import images_of

from continuad.models.registry import make_detector

ours = make_detector("efficientad-s", image_size=256, teacher="random")
model = EfficientAdModel(padding=True, pad_maps=False).eval()
model.choose_random_aug_image = lambda image: image
for theirs, own in ((model.teacher, ours.teacher_net), (model.student, ours.student), (model.ae, ours.autoencoder)):
    theirs.load_state_dict(dict(zip(theirs.state_dict(), own.state_dict().values(), strict=True)))
train, other, test = (
    torch.from_numpy(images_of(k, 4, defects=k == 2, seed=0, size=256).images) / 255 for k in range(3)
)
with torch.no_grad():
    answers = model.teacher(train)
    deviation, mean = torch.std_mean(answers, (0, 2, 3), keepdim=True, correction=0)
    model.mean_std.update({"mean": mean, "std": deviation})
_, distance = model.compute_student_teacher_distance(train[:1])
losses = model.compute_losses(train[:1], other[:1], distance)
sum(losses).backward()
gradients = [float(p.grad.norm()) for part in (model.student, model.ae) for p in part.parameters()]
with torch.no_grad():
    maps = [reduce_tensor_elems(torch.cat(m)) for m in zip(*(model.get_maps(x[None]) for x in train), strict=True)]
    for name, flat in zip(("st", "ae"), maps, strict=True):
        model.quantiles[f"qa_{name}"].copy_(flat.quantile(0.9))
        model.quantiles[f"qb_{name}"].copy_(flat.quantile(0.995))
    found = model(test)
save_golden(
    "efficientad",
    loss=sum(losses).item(),
    gradients=np.array(gradients, np.float32),
    map=found.anomaly_map[:, 0, ::8, ::8].numpy(),
    score=found.pred_score.flatten().numpy(),
)
