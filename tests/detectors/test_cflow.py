"""CFLOW-AD: flows that can be undone, their determinants, positions by formula, scaling and sizes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import images_of, ready, shaken, stream

from continuad.core.fit import Budget
from continuad.core.state import Policy
from continuad.detectors.cflow import Cflow, log_likelihood, positions
from continuad.errors import ContinuadError
from continuad.metrics.image import image_metrics
from continuad.models.registry import make_detector
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive


def small(**options: object) -> Cflow:
    detector = make_detector("cflow", **{"image_size": 64, "flow_steps": 2, **options})
    assert isinstance(detector, Cflow)
    return detector


def moved(detector: Cflow) -> Cflow:
    shaken(detector, 0.02)
    return detector


def calibrated(detector: Cflow, images: Tensor) -> Cflow:
    detector.calibrate([images])
    ready(detector)
    return detector


GOOD = torch.from_numpy(images_of(0, 4, defects=False, seed=0).images)
MIXED = torch.from_numpy(images_of(0, 4, defects=True, seed=2).images)


def test_flows_can_be_undone() -> None:
    detector = moved(small())
    for level, flow in zip(detector.pyramid(GOOD), detector.flows, strict=True):
        vectors, places = detector._fibres(level)
        z, log_det = flow(vectors, [places])
        x, back = flow(z, [places], rev=True)
        torch.testing.assert_close(x, vectors, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(back, -log_det, rtol=1e-3, atol=1e-3)


def test_the_likelihood_has_autograds_determinant() -> None:
    flow = moved(small(strides=(8,))).double().flows[0]
    x = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    place = positions(128, 3, 3, torch.device("cpu"))[4:5].double()
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None], [place])[0][0], x)
    z = flow(x[None], [place])[0][0]
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
    expected = (normal + torch.linalg.slogdet(jacobian).logabsdet) / 40
    # Rotations are drawn in single precision, and so is their determinant 1.
    assert log_likelihood(flow, x[None], place).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_position_matters() -> None:
    flow, x = moved(small()).flows[0], torch.ones(2, 40)
    first, second = log_likelihood(flow, x, positions(128, 1, 2, torch.device("cpu")))
    assert first.item() != second.item()


def test_positions_by_formula() -> None:
    """Column, then row, as sine and cosine of 64 / 2 frequencies from 1 down to 10000^(-62/64)."""
    found = positions(128, 3, 5, torch.device("cpu")).view(3, 5, 128)
    for (i, j), k in [((0, 0), 0), ((2, 1), 0), ((1, 4), 7), ((2, 3), 31)]:
        frequency = 10_000 ** (-2 * k / 64)
        expected = [math.sin(j * frequency), math.cos(j * frequency), math.sin(i * frequency), math.cos(i * frequency)]
        assert found[i, j, [2 * k, 2 * k + 1, 64 + 2 * k, 65 + 2 * k]].tolist() == pytest.approx(expected, abs=1e-6)


def test_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """-log sigmoid(l) of every level; all vectors where there are fewer than `fibres`."""
    sizes = []

    def likelihood(flow: object, vectors: Tensor, places: Tensor) -> Tensor:
        sizes.append(len(vectors))
        return torch.full((len(vectors),), -1.0)

    monkeypatch.setattr("continuad.detectors.cflow.log_likelihood", likelihood)
    loss = small(fibres=100).step(GOOD)
    assert sizes == [100, 64, 16]
    assert float(loss) == pytest.approx(3 * math.log(1 + math.e))


def test_map_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant likelihoods: every level adds 1 - exp(l - l_max), and nothing where l is above l_max."""
    detector = small()
    monkeypatch.setattr(detector, "_answers", lambda levels: [torch.full((1, 2, 2), v) for v in (-1.0, -2.0, -3.0)])
    calibrated(detector, GOOD[:1])
    assert detector.stats["highest"].tolist() == [-1, -2, -3]
    monkeypatch.setattr(detector, "_answers", lambda levels: [torch.full((1, 2, 2), v) for v in (-1.5, -2.0, 5.0)])
    assert detector.predict(GOOD[:1]).score.item() == pytest.approx(1 - math.exp(-0.5), abs=1e-6)


def test_an_image_scores_the_same_in_any_company() -> None:
    detector = calibrated(moved(small()), GOOD)
    others = torch.from_numpy(images_of(1, 46, defects=False, seed=0).images)
    together = detector.predict(torch.cat([MIXED, others]))
    for i in range(4):
        alone = detector.predict(MIXED[i : i + 1])
        torch.testing.assert_close(alone.map[0], together.map[i], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(alone.score[0], together.score[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["restart", "accumulate", "freeze"])
def test_every_policy_takes_the_highest_likelihood_anew(policy: Policy) -> None:
    detector = calibrated(small(), GOOD)
    detector.begin([MIXED], policy)
    assert ("highest" in detector.stats) == (policy != "restart")
    calibrated(detector, MIXED)
    assert torch.equal(detector.stats["highest"], calibrated(small(), MIXED).stats["highest"])


def test_rotations_are_rotations_of_the_seed_and_not_copied() -> None:
    first, again, other = (small(seed=seed) for seed in (0, 0, 1))
    matrices = [d.flows[1][0].permute_function.matrix for d in (first, again, other)]
    assert torch.equal(matrices[0], matrices[1])
    assert not torch.equal(matrices[0], matrices[2])
    torch.testing.assert_close(matrices[0] @ matrices[0].T, torch.eye(112), rtol=0, atol=1e-5)
    assert not [name for name in first.learned() if "matrix" in name]


def test_a_saved_model_is_complete(tmp_path: Path) -> None:
    model = Naive(small(seed=3))
    model.budget = Budget(steps=2)
    model.learn(stream(1)[0])
    save_model(model, tmp_path)
    again, _ = load_model(tmp_path)
    assert torch.equal(again.predict(MIXED).map, model.predict(MIXED).map)


def test_the_learning_rate_warms_up_and_falls() -> None:
    """The original's numbers for 2 of 25 epochs of warming up, as factors on 2e-4."""
    detector = small()
    rates = [detector.learning_rate(p) for p in (0.0, 0.04, 0.08, 0.5, 1.0)]
    top = 0.001 + 0.999 * (1 + math.cos(math.pi * 2 / 25)) / 2
    assert rates == pytest.approx([0.1, (0.1 + top) / 2, top, 0.5005, 0.001])


@pytest.mark.parametrize("size", [(32, 32), (64, 100), (97, 131)])
def test_any_size_above_the_minimum(size: tuple[int, int]) -> None:
    detector = small(image_size=size)
    images = torch.full((1, 3, *size), 90, dtype=torch.uint8)  # constant, too
    detector.step(images)
    found = calibrated(detector, images).predict(images)
    assert found.map.shape == (1, *size)
    assert torch.isfinite(found.map).all()


def test_what_is_refused() -> None:
    for options in ({"image_size": 16}, {"flow_steps": 0}, {"condition": 6}, {"fibres": 0}):
        with pytest.raises(ContinuadError, match=next(iter(options)).replace("_", ".")):
            small(**options)
    with pytest.raises(ContinuadError, match="not trained yet"):
        small().predict(GOOD)
    with pytest.raises(ContinuadError, match="images are 96 x 96, but the model learned 64 x 64"):
        calibrated(small(), GOOD).predict(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))


def test_it_learns_toys() -> None:
    """After some steps on stripes it scores those with a patch higher than good ones."""
    model = Naive(small(strides=(8, 16)))
    model.budget = Budget(steps=40)
    task = stream(1)[0]
    model.learn(task)
    scores = model.predict(torch.from_numpy(task.test.images)).score.numpy()
    assert image_metrics(scores, task.test.labels)["image_auroc"] > 0.8


def test_equals_anomalib() -> None:
    """Loss, gradients and map of anomalib 2.7.0 with the same weights and rotations (benchmarks/golden_cflow.py).

    Its map is scaled by the images that are predicted together, and shifted so that its minimum is 0.
    """
    detector = calibrated(moved(small()), MIXED)
    loss = detector.step(GOOD)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [float(p.grad.norm()) for p in detector.weights().values() if p.grad is not None]
    found = detector.predict(MIXED)
    with np.load(Path(__file__).parent / "golden" / "cflow_anomalib.npz") as golden:
        assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
        np.testing.assert_allclose(gradients, golden["gradients"], rtol=1e-3)
        np.testing.assert_allclose((found.map - found.map.min())[:, ::4, ::4], golden["map"], atol=1e-4)
        np.testing.assert_allclose(found.score - found.map.min(), golden["score"], atol=1e-4)
