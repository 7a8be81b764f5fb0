"""FastFlow: flows that can be undone, their determinants, the loss and map by hand, shuffles and sizes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import images_of, ready, shaken, stream

from continuad.core.calibration import Calibration
from continuad.core.detector import TRAINED
from continuad.core.fit import Budget
from continuad.core.state import Policy
from continuad.detectors.fastflow import FastFlow
from continuad.errors import ContinuadError
from continuad.metrics.image import image_metrics
from continuad.models.registry import make_detector
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive


def small(**options: object) -> FastFlow:
    detector = make_detector("fastflow", **{"image_size": 64, "flow_steps": 3, **options})
    assert isinstance(detector, FastFlow)
    return detector


def moved(detector: FastFlow) -> FastFlow:
    shaken(detector, 0.05)
    return detector


def trained(detector: FastFlow) -> FastFlow:
    ready(detector)
    return detector


GOOD = torch.from_numpy(images_of(0, 4, defects=False, seed=0).images)
MIXED = torch.from_numpy(images_of(0, 4, defects=True, seed=2).images)


def test_distance_is_a_sum_over_the_image_as_the_loss_is() -> None:
    """Two levels of 2 x 2 x 3 numbers, 1 and 2 off: 12 / 2 + 4 * 12 / 2, the same for any number of images."""
    zero = torch.zeros(5, 2, 2, 3)
    assert small().distance([zero + 1, zero + 2], [zero, zero]).item() == 30


def test_flows_can_be_undone() -> None:
    detector = moved(small())
    levels = detector.embed(GOOD)
    for (z, log_det), level, norm, flow in zip(
        detector.transform(levels), levels, detector.norms, detector.flows, strict=True
    ):
        x, back = flow(z, rev=True)
        torch.testing.assert_close(x, norm(level), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(back, -log_det, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kernels", [(3, 1), (3,), (1,)])
def test_the_determinant_is_autograds(kernels: tuple[int, ...]) -> None:
    detector = moved(small(image_size=32, strides=(16,), flow_steps=2, kernels=kernels)).double()
    flow = detector.flows[0]
    x = torch.randn(1, 112, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v.view_as(x))[0].flatten(), x.flatten())
    assert flow(x)[1].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), rel=1e-9)


def test_loss_and_map_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images, one level of two channels and one position: z = (1, 3) and (0, 2), log-determinants 0.5 and 1."""
    detector = trained(small())
    z = torch.tensor([[1.0, 3.0], [0.0, 2.0]])[..., None, None]
    monkeypatch.setattr(detector, "transform", lambda levels: [(z, torch.tensor([0.5, 1.0]))] * 3)
    assert detector.step(GOOD[:2]).item() == 3 * ((5 - 0.5) + (2 - 1)) / 2
    found = detector.predict(GOOD[:2])
    assert found.score.tolist() == pytest.approx([-math.exp(-2.5), -math.exp(-1.0)])
    assert found.map.shape == (2, 64, 64)


def test_kernels_alternate_and_hidden_scales() -> None:
    """8 steps of 3 x 3 and 1 x 1 in turn; inner channels follow `hidden`."""
    flow = FastFlow(64, hidden=0.5).flows[2]
    assert [block.subnet[0].kernel_size[0] for block in flow] == [3, 1] * 4
    assert {tuple(block.subnet[0].weight.shape[:2]) for block in flow} == {(28, 56)}


def test_shuffles_follow_the_seed() -> None:
    orders = [torch.stack([b.w_perm for b in small(seed=seed).flows[1]]) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0][0], orders[0][1])


def test_a_saved_model_is_complete(tmp_path: Path) -> None:
    """Shuffles and normalisation included, even if another seed's were drawn in between."""
    model = Naive(small(seed=3))
    model.budget = Budget(steps=2)
    model.learn(stream(1)[0])
    save_model(model, tmp_path)
    np.random.seed(99)  # noqa: NPY002
    again, _ = load_model(tmp_path)
    assert torch.equal(again.predict(MIXED).map, model.predict(MIXED).map)


@pytest.mark.parametrize("policy", ["restart", "accumulate", "freeze"])
def test_no_policy_keeps_old_thresholds(policy: Policy) -> None:
    """Nothing but the mark of a learned task lies in `stats`, and thresholds are the newest weights' answers."""
    detector = trained(small())
    detector.begin([MIXED], policy)
    assert list(detector.stats) == ([] if policy == "restart" else [TRAINED])
    model = Naive(small())
    model.statistics, model.budget = policy, Budget(steps=1)  # type: ignore[misc]
    for task in stream(2):
        model.learn(task)
    fresh = Calibration()
    fresh.learn({1: [model.detector.predict(torch.from_numpy(task.val.images))]})
    assert model.thresholds(1) == model.thresholds() == fresh.thresholds(1)
    assert model.thresholds(0) != model.thresholds(1)


def test_an_image_scores_the_same_in_any_company() -> None:
    detector = trained(moved(small()))
    together = detector.predict(MIXED)
    for i in range(4):
        torch.testing.assert_close(detector.predict(MIXED[i : i + 1]).map[0], together.map[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (64, 100), (97, 131)])
def test_any_size_above_the_minimum(size: tuple[int, int]) -> None:
    detector = small(image_size=size)
    images = torch.full((1, 3, *size), 90, dtype=torch.uint8)  # constant, too
    detector.step(images)
    found = trained(detector).predict(images)
    assert found.map.shape == (1, *size)
    assert torch.isfinite(found.map).all()


def test_what_is_refused() -> None:
    for options in ({"image_size": 16}, {"flow_steps": 0}, {"kernels": (2,)}, {"kernels": ()}, {"hidden": 0}):
        with pytest.raises(ContinuadError, match=next(iter(options)).replace("_", ".")):
            small(**options)
    with pytest.raises(ContinuadError, match="not trained yet"):
        small().predict(GOOD)
    with pytest.raises(ContinuadError, match="images are 96 x 96, but the model learned 64 x 64"):
        trained(small()).predict(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))


def test_it_learns_toys() -> None:
    """After a few steps on stripes it scores those with a patch higher than good ones."""
    model = Naive(small())
    model.budget = Budget(steps=10)
    task = stream(1)[0]
    model.learn(task)
    scores = model.predict(torch.from_numpy(task.test.images)).score.numpy()
    assert image_metrics(scores, task.test.labels)["image_auroc"] > 0.8


def test_equals_anomalib() -> None:
    """Loss, gradients, map and score of anomalib 2.7.0 with the same weights (benchmarks/golden_fastflow.py)."""
    detector = trained(moved(small()))
    loss = detector.step(GOOD)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [float(p.grad.norm()) for p in detector.weights().values() if p.grad is not None]
    found = detector.predict(MIXED)
    with np.load(Path(__file__).parent / "golden" / "fastflow_anomalib.npz") as golden:
        assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
        np.testing.assert_allclose(gradients, golden["gradients"], rtol=1e-3)
        np.testing.assert_allclose(found.map[:, ::4, ::4], golden["map"], atol=1e-5)
        np.testing.assert_allclose(found.score, golden["score"], atol=1e-5)
