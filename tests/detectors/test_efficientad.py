"""EfficientAD: the networks of the thesis, hand-computed losses, map scaling and sizes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import images_of, ready, stream

from continuad.core.fit import Budget
from continuad.core.footprint import footprint
from continuad.detectors.efficientad import EfficientAdM, EfficientAdS, _quantiles, hardest
from continuad.errors import ContinuadError
from continuad.metrics.image import image_metrics
from continuad.models.registry import make_detector
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive
from continuad.vision.pdn import SHIPPED, load_teacher


def small(**options: object) -> EfficientAdS:
    detector = make_detector("efficientad-s", **({"image_size": 64, "teacher": "random"} | options))
    assert isinstance(detector, EfficientAdS)
    return detector


def learned(images: Tensor, **options: object) -> EfficientAdS:
    detector = small(**options).eval()
    detector.begin([images], "restart")
    detector.calibrate([images])
    ready(detector)
    return detector


def noise(number: int = 3, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.randint(0, 256, (number, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_medium_has_the_parameters_of_the_thesis() -> None:
    """Thesis 5.1: 8.0 + 11.6 + 1.1 = 20.7 million, 82.8 MB (20.7 x 4; unrounded 82.95)."""
    detector = EfficientAdM(teacher="random")
    assert [count(m) for m in (detector.teacher_net, detector.student, detector.autoencoder)] == [
        8_026_624,
        11_615_488,
        1_096_320,
    ]
    assert footprint(detector).architecture == pytest.approx(82.95, abs=0.01)


def test_medium_is_figure_5_1() -> None:
    net = EfficientAdM(teacher="random").teacher_net
    shapes = [tuple(m.weight.shape) for m in net.modules() if hasattr(m, "weight")]
    assert shapes == [
        (256, 3, 4, 4),
        (512, 256, 4, 4),
        (512, 512, 1, 1),
        (512, 512, 3, 3),
        (384, 512, 4, 4),
        (384, 384, 1, 1),
    ]


def test_hard_feature_loss_takes_the_hardest_thousandth() -> None:
    errors = torch.arange(2001.0)
    assert hardest(errors[torch.randperm(2001)]) == pytest.approx((1998 + 1999 + 2000) / 3)


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (64, 100), (97, 131), (256, 512)])
def test_any_size_above_the_minimum(size: tuple[int, int], padding: bool) -> None:
    detector = learned(noise(1, size), image_size=size, padding=padding)
    taught, student, rebuilt = detector.forward(noise(1, size))
    assert taught.shape[-2:] == student.shape[-2:] == rebuilt.shape[-2:]
    assert detector.predict(noise(1, size)).map.shape == (1, *size)


def test_too_small_is_refused_at_construction() -> None:
    with pytest.raises(ContinuadError, match="at least 64"):
        small(image_size=48)


def test_an_untrained_model_and_another_size_are_refused() -> None:
    with pytest.raises(ContinuadError, match="not trained yet"):
        small().predict(noise())
    with pytest.raises(ContinuadError, match="images are 64 x 96, but the model learned 64 x 64"):
        learned(noise()).predict(noise(1, (64, 96)))


def test_equal_quantiles_give_finite_maps_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    detector = small()
    detector.maps = lambda images: (torch.ones(len(images), 64, 64),) * 2  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        detector.calibrate([noise()])
    assert "all alike" in caplog.text
    assert torch.isfinite(ready(detector).predict(noise()).map).all()


def test_constant_images_give_finite_maps() -> None:
    detector = learned(torch.full((2, 3, 64, 64), 90, dtype=torch.uint8))
    assert torch.isfinite(detector.predict(noise()).map).all()


def test_a_saved_model_is_complete(tmp_path: Path) -> None:
    model = Naive(small())
    model.budget = Budget(steps=2)
    model.learn(stream(1)[0])
    save_model(model, tmp_path)
    again, _ = load_model(tmp_path)
    assert torch.equal(again.predict(noise()).map, model.predict(noise()).map)


def test_normalised_exactly_once() -> None:
    detector, seen = learned(noise()), []
    for net in (detector.teacher_net.net, detector.student):
        net.layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    detector.forward(torch.full((1, 3, 64, 64), 255, dtype=torch.uint8))
    for x in seen:
        assert x[0, :, 0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


def test_calibration_starts_anew_every_time() -> None:
    detector = learned(noise())
    before = float(detector.stats["local_high"])
    detector.calibrate([torch.zeros(2, 3, 64, 64, dtype=torch.uint8)])
    detector.calibrate([noise()])
    assert float(detector.stats["local_high"]) == before


def test_quantiles_become_0_and_a_tenth() -> None:
    detector = learned(noise())
    maps = detector.maps(noise())[0].flatten()
    scaled = detector._scaled(maps, "local")
    assert scaled.quantile(torch.tensor([0.9, 0.995])).tolist() == pytest.approx([0.0, 0.1], abs=1e-5)


def test_quantiles_are_those_of_every_column_of_striped_maps() -> None:
    """More values than torch takes quantiles of, whose columns are 0 and up to 1 by turns."""
    maps = torch.zeros(70, 512, 512)
    maps[..., 1::2] = torch.linspace(0, 1, 70)[:, None, None]
    low, high = _quantiles(maps)
    assert float(low) == pytest.approx(0.8, abs=0.02)
    assert float(high) == pytest.approx(0.99, abs=0.02)


def test_teacher_moments_follow_the_policy() -> None:
    first, second = noise(2), torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    whole = small()
    whole.begin([first, second], "restart")
    for policy, expected in (("accumulate", whole), ("freeze", learned(first)), ("restart", learned(second))):
        detector = learned(first)
        detector.begin([second], policy)  # type: ignore[arg-type]
        assert torch.equal(detector.stats["sum"], expected.stats["sum"])


def test_it_learns_toys() -> None:
    """After a few steps on stripes it scores those with a patch higher than good ones."""
    model = Naive(small(padding=False))
    model.budget = Budget(steps=15)
    task = stream(1)[0]
    model.learn(task)
    scores = model.predict(torch.from_numpy(task.test.images)).score.numpy()
    assert image_metrics(scores, task.test.labels)["image_auroc"] > 0.8


def test_the_shipped_teacher_is_the_documented_one() -> None:
    """docs/teacher.md describes one file: size S, not the random network, named by this hash."""
    assert load_teacher("s").fingerprint == "5efac8dd257d2a26a80b155d605dcff1"
    assert SHIPPED.stat().st_size < 6e6


def test_missing_teachers_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match="continuad distill"):
        EfficientAdM()
    with pytest.raises(ContinuadError, match="does not exist; make them"):
        small(teacher=str(tmp_path / "none.pth"))


def test_published_weights_load_in_order(tmp_path: Path) -> None:
    net = small().teacher_net.net
    names = ["0", "3", "6", "8"]  # nelson1425/EfficientAD counts the activations in between
    tensors = dict(zip([f"{n}.{p}" for n in names for p in ("weight", "bias")], net.state_dict().values(), strict=True))
    torch.save({k: v + 1 for k, v in tensors.items()}, tmp_path / "teacher.pth")
    loaded = small(teacher=str(tmp_path / "teacher.pth")).teacher_net.net
    assert torch.equal(loaded.layers[0].weight, net.layers[0].weight + 1)


def test_equals_anomalib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, gradients, maps and scores of anomalib 2.7.0 with the same weights (benchmarks/golden_efficientad.py)."""
    monkeypatch.setattr("continuad.detectors.efficientad._altered", lambda x: x)
    train, other, test = (
        torch.from_numpy(images_of(kind, 4, defects=kind == 2, seed=0, size=256).images) for kind in range(3)
    )
    detector = learned(train, image_size=256)
    monkeypatch.setattr(detector.pictures, "draw", lambda number, size: other[:number])
    loss = detector.step(train[:1])
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [float(p.grad.norm()) for p in detector.weights().values() if p.grad is not None]
    found = detector.predict(test)
    with np.load(Path(__file__).parent / "golden" / "efficientad_anomalib.npz") as golden:
        assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-4)
        np.testing.assert_allclose(gradients, golden["gradients"], rtol=2e-3)
        np.testing.assert_allclose(found.map[:, ::8, ::8], golden["map"], atol=1e-3)
        np.testing.assert_allclose(found.score, golden["score"], atol=1e-3)


def test_the_student_is_punished_for_answers_to_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss contains the mean squared answer to pictures of other things: with them it is higher by just that."""
    detector, images = small(), noise(1)
    detector.begin([images], "restart")
    detector.eval()  # without dropout the rest of the loss is the same every time
    with torch.no_grad():
        for weight in detector.student.parameters():
            weight *= 2  # an untrained student hardly answers
    others = noise(1).flip(3)
    monkeypatch.setattr(detector.pictures, "draw", lambda number, size: others[:number])

    def loss() -> Tensor:
        torch.manual_seed(0)
        return detector.step(images)

    with torch.no_grad():
        whole = loss()
        punished = detector.student(others / 255)[:, :384].square().mean()
        monkeypatch.setattr(detector, "_on_other_things", lambda number: torch.zeros(()))
        rest = loss()
    assert float(punished) > 0.01
    assert float(whole - rest) == pytest.approx(float(punished), rel=1e-3)
