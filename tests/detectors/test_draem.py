"""DRÆM: the networks of the thesis, hand-computed losses, corruption and sizes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from toys import images_of, ready, stream

from continuad.core.fit import Budget
from continuad.detectors.draem import Draem, focal_loss
from continuad.errors import ContinuadError
from continuad.metrics.pixel import pixel_metrics
from continuad.models.registry import make_detector
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive
from continuad.vision.ssim import ssim_loss

NARROW = 0.0625


def narrow(size: int | tuple[int, int] = 64, **options: object) -> Draem:
    detector = make_detector("draem", image_size=size, **({"width": NARROW} | options))
    assert isinstance(detector, Draem)
    return detector


def test_parameters_of_the_thesis() -> None:
    """Thesis 5.3: 69.0 + 28.4 = 97.4 million, 389.6 MB (97.4 x 4)."""
    with torch.device("meta"):
        detector = Draem()
    counts = [sum(p.numel() for p in net.parameters()) for net in (detector.repair, detector.segment)]
    assert [round(n / 1e6, 1) for n in counts] == [69.0, 28.4]
    assert sum(counts) * 4 / 1e6 == pytest.approx(389.7, abs=0.1)


def test_losses_by_hand() -> None:
    x = torch.rand(2, 3, 40, 40)
    assert float(ssim_loss(x, x)) == pytest.approx(0, abs=1e-5)
    flat = torch.zeros(1, 1, 80, 80)
    # Far from the border, black against white leaves only the constants: c1 / (1 + c1).
    assert float(ssim_loss(flat, flat + 1)) == pytest.approx(1 - 0.01**2 / (1 + 0.01**2), abs=1e-3)
    logits, mask = torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)
    assert float(focal_loss(logits, mask)) == pytest.approx(0.25 * math.log(2), rel=1e-4)


def test_corruption_stays_inside_its_region_and_range() -> None:
    detector, good = narrow(), torch.full((16, 3, 64, 64), 0.5)
    torch.manual_seed(0)
    corrupted, mask = detector.corrupt(good)
    outside = ~mask[:, None].expand_as(good)
    assert torch.equal(corrupted[outside], good[outside])
    assert (corrupted[~outside] != 0.5).float().mean() > 0.9
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    assert corrupted.max() > 0.7  # the same scale, not a 255th of it
    assert 2 <= int(mask.flatten(1).any(1).sum()) <= 14  # about half of the images
    again, _ = detector.corrupt(good)
    assert not torch.equal(again, corrupted)
    torch.manual_seed(0)
    assert torch.equal(detector.corrupt(good)[0], corrupted)


@pytest.mark.parametrize("size", [(300, 200), (65, 97), (64, 64)])
def test_any_size(size: tuple[int, int]) -> None:
    detector = narrow(size)
    images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    detector.train()
    detector.step(images).backward()
    found = ready(detector).predict(images)
    assert found.map.shape == (1, *size)
    assert torch.isfinite(found.map).all()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match="at least 64"):
        narrow(32)
    with pytest.raises(ContinuadError, match="above 0"):
        narrow(width=0)
    with pytest.raises(ContinuadError, match="cannot be opened"):
        narrow().load_published(str(tmp_path / "none.pckl"))
    torch.manual_seed(0)  # some of the sixteen are corrupted
    with pytest.raises(ContinuadError, match="does not exist"):
        narrow(textures=str(tmp_path / "none")).corrupt(torch.zeros(16, 3, 64, 64))


def test_an_untrained_model_and_another_size_are_refused() -> None:
    detector = narrow()
    with pytest.raises(ContinuadError, match="not trained yet"):
        detector.predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ContinuadError, match="images are 64 x 96, but the model learned 64 x 64"):
        ready(detector).predict(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))


def test_original_weights_answer_alike_with_their_channel_order(tmp_path: Path) -> None:
    """The original works on blue, green, red throughout: its weights are ours with both ends flipped."""
    ours = narrow(seed=3)
    repair, segment = ({k: v.clone() for k, v in n.state_dict().items()} for n in (ours.repair, ours.segment))
    first, *_, kernel, bias = repair
    repair[first], repair[kernel], repair[bias] = repair[first].flip(1), repair[kernel].flip(0), repair[bias].flip(0)
    entry = next(iter(segment))
    segment[entry] = segment[entry][:, [2, 1, 0, 5, 4, 3]]
    torch.save(repair, tmp_path / "part.pckl")
    torch.save(segment, tmp_path / "part_seg.pckl")
    loaded = narrow(seed=4)
    loaded.load_published(str(tmp_path / "part.pckl"))
    x = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(ready(loaded).predict(x).map, ready(ours).predict(x).map)


def test_it_learns_and_reloads(tmp_path: Path) -> None:
    model = Naive(narrow(width=0.125))
    model.budget = Budget(steps=100)
    task = stream(1)[0]
    model.learn(task)
    torch.manual_seed(5)
    good = torch.from_numpy(task.train.images) / 255
    corrupted, mask = model.detector.corrupt(good)  # type: ignore[operator]
    maps = model.predict((255 * corrupted).to(torch.uint8)).map
    assert pixel_metrics(maps.numpy(), mask.numpy())["pixel_auroc"] > 0.6
    images = torch.from_numpy(task.test.images)
    found = model.predict(images)
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path)[0].predict(images).map, found.map)


def test_equals_anomalib() -> None:
    """Loss, gradients and maps of anomalib 2.7.0 with the same weights (benchmarks/golden_draem.py)."""
    images = images_of(0, 8, defects=True, seed=0)
    defective, mask = torch.from_numpy(images.images)[4:].double(), torch.from_numpy(images.masks)[4:]
    good = torch.from_numpy(images_of(0, 4, defects=False, seed=0).images).double() / 255
    detector = narrow().double().train()
    repaired, logits = detector(defective)
    frame = torch.zeros(64, 64, dtype=torch.float64)
    frame[11:-11, 11:-11] = 1
    a, b = repaired * frame, good * frame
    loss = F.mse_loss(a, b) + ssim_loss(a, b) + focal_loss(logits, mask)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [float(p.grad.norm()) for p in detector.parameters() if p.grad is not None]
    with torch.no_grad():
        found = ready(detector)._predict(defective)  # in double precision, which pictures do not have
    with np.load(Path(__file__).parent / "golden" / "draem_anomalib.npz") as golden:
        assert loss.item() == pytest.approx(
            float(golden["loss"]), rel=1e-4
        )  # the original squeezes p in its focal loss
        np.testing.assert_allclose(gradients, golden["gradients"], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.map, golden["map"], atol=1e-4)
