"""STFPM: the paper's loss and map by hand, what its student is and sees, sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import images_of, ready, stream

from continuad.core.fit import Budget
from continuad.detectors.stfpm import Stfpm
from continuad.errors import ContinuadError
from continuad.metrics.image import image_metrics
from continuad.models.registry import make_detector
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive
from continuad.vision.backbones import BackboneSpec


def made(size: int | tuple[int, int] = 64, **options: object) -> Stfpm:
    detector = make_detector("stfpm", image_size=size, **options)
    assert isinstance(detector, Stfpm)
    return detector


def small(size: int | tuple[int, int] = 64, **options: object) -> Stfpm:
    detector = made(size, **({"strides": (4, 8)} | options))
    detector.eval()
    return detector


def trained(size: int | tuple[int, int] = 64, **options: object) -> Stfpm:
    detector = small(size, **options)
    detector.finish()
    ready(detector)
    return detector


def noise(number: int = 3, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.randint(0, 256, (number, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_loss_and_map_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher (3, 4) is (0.6, 0.8) at length 1; the student says (1, 0): 1/2 (0.16 + 0.64) = 0.4. Opposite: 2."""
    detector = trained()
    taught = [torch.tensor([3.0, 4.0])[None, :, None, None].expand(1, 2, 16, 16), torch.ones(1, 1, 8, 8)]
    copied = [torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 16, 16), torch.ones(1, 1, 8, 8)]
    copied[1][..., 4:, :] = -1
    monkeypatch.setattr(detector.pyramid, "forward", lambda images: taught)
    monkeypatch.setattr(detector, "forward", lambda images: copied)
    assert float(detector.step(noise(1))) == pytest.approx(0.4 + 2 / 2)  # the coarse level is wrong in one half
    found = detector.predict(noise(1))
    assert found.map[0, 0, 0] == pytest.approx(0.4 * 0)
    assert found.map[0, -1, 0] == pytest.approx(0.4 * 2)
    assert found.score.tolist() == pytest.approx([0.4 * 2])


def test_distance_is_the_loss_with_the_earlier_student_as_teacher() -> None:
    """Two levels of unit vectors, one orthogonal (1), one opposite (2)."""
    one, other = torch.eye(2)[:, :, None, None].expand(2, 2, 4, 4)
    assert small().distance([one[None], one[None]], [other[None], -one[None]]).item() == 3


def test_loss_is_a_mean_over_images_and_positions() -> None:
    detector, images = small(), noise(2)
    with torch.no_grad():
        apart = [float(detector.step(image[None])) for image in images]
        together = float(detector.step(images))
    assert together == pytest.approx(sum(apart) / 2, rel=1e-4)


def test_the_student_sees_what_the_teacher_sees() -> None:
    detector, seen = small(), []
    for net in (detector.pyramid.net, detector.student):
        net.conv_stem.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    detector.errors(noise(1))
    assert torch.equal(*seen)


def test_the_student_is_the_teachers_network_up_to_the_last_level_and_all_of_it_learns() -> None:
    detector = Stfpm(64)
    assert sum(p.numel() for p in detector.student.parameters()) == 700_768
    detector.step(noise(2)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in detector.student.parameters())
    assert not any(p.requires_grad for p in detector.pyramid.parameters())


def test_a_student_never_starts_as_an_untrained_teacher() -> None:
    detector = made(backbone=BackboneSpec(weights_file="random"), seed=0)
    pairs = zip(detector.pyramid.net.parameters(), detector.student.parameters(), strict=False)
    teacher, student = next(pairs)  # the first convolution's
    assert not torch.allclose(teacher, student, rtol=0.01)


def test_the_seed_makes_the_student_and_disturbs_nothing() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(torch.rand(1), wanted)
    assert torch.equal(first.step(noise()), again.step(noise()))
    assert not torch.equal(first.step(noise()), other.step(noise()))


def test_a_prediction_holds_on_to_nothing_but_its_own_bytes() -> None:
    """Predictions of many images may be gathered: none keeps features or gradients alive."""
    found = trained().predict(noise())
    assert found.map.untyped_storage().nbytes() == 3 * 64 * 64 * 4
    assert found.score.untyped_storage().nbytes() == 3 * 4
    assert not found.map.requires_grad


def test_a_prediction_does_not_depend_on_its_batch() -> None:
    detector, images = trained(), noise(3)
    alone = torch.cat([detector.predict(image[None]).map for image in images])
    torch.testing.assert_close(detector.predict(images).map, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (48, 100), (65, 33)])
def test_any_size_above_the_minimum(size: tuple[int, int]) -> None:
    detector = trained(size)
    detector.train()
    detector.step(noise(1, size)).backward()  # type: ignore[no-untyped-call]
    assert detector.eval().predict(noise(1, size)).map.shape == (1, *size)


def test_constant_images_give_finite_maps() -> None:
    for value in (0, 255):
        assert torch.isfinite(trained().predict(torch.full((1, 3, 64, 64), value, dtype=torch.uint8)).map).all()


def test_refusals() -> None:
    with pytest.raises(ContinuadError, match="at least 32"):
        small(16)
    with pytest.raises(ContinuadError, match="must be at least 64"):
        small(48, strides=(4, 32))
    with pytest.raises(ContinuadError, match="not trained yet"):
        small().predict(noise())
    with pytest.raises(ContinuadError, match="images are 64 x 96, but the model learned 64 x 64"):
        trained().predict(noise(1, (64, 96)))


@pytest.mark.parametrize("policy", ["restart", "accumulate", "freeze"])
def test_every_policy_trains_the_student_on(policy: str) -> None:
    detector = trained()
    before = detector.learned()
    detector.begin([noise()], policy)  # type: ignore[arg-type]
    after = detector.learned()
    assert all(torch.equal(after[name], before[name]) for name in detector.weights())


def test_it_learns_and_reloads(tmp_path: Path) -> None:
    model = Naive(small(strides=(4,)))
    model.budget, model.detector.batch_size = Budget(steps=30), 4
    task = stream(1)[0]
    model.learn(task)
    images = torch.from_numpy(task.test.images)
    found = model.predict(images)
    assert image_metrics(found.score.numpy(), task.test.labels)["image_auroc"] > 0.9
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path)[0].predict(images).map, found.map)


def test_equals_anomalib() -> None:
    """Loss, gradients, maps and scores of anomalib 2.7.0 with the same weights (benchmarks/golden_stfpm.py)."""
    train, test = (torch.from_numpy(images_of(0, 4, defects=d, seed=0).images) for d in (False, True))
    detector = made(seed=0)
    detector.student.double().register_forward_pre_hook(lambda _, given: (given[0].double(),))
    loss = detector.train().step(train)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [float(p.grad.norm()) for p in detector.student.parameters() if p.grad is not None]
    detector.finish()
    found = ready(detector).predict(test)
    with np.load(Path(__file__).parent / "golden" / "stfpm_anomalib.npz") as golden:
        assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
        np.testing.assert_allclose(gradients, golden["gradients"], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.map[:, ::4, ::4], golden["map"], atol=1e-4)
        np.testing.assert_allclose(found.score, golden["score"], atol=1e-4)
