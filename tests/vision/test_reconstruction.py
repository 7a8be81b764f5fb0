"""What RIAD, autoencoder and VAE share: the published encoder, any size, refusals, independence, policies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import ready, stream

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.strategy import Strategy
from continuad.errors import ContinuadError
from continuad.models.registry import make_detector
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive
from continuad.vision.reconstruction import Decoder, Encoder

each = pytest.mark.parametrize("name", ["autoencoder", "vae", "riad"])


def small(name: str, size: int | tuple[int, int] = 64, **options: object) -> Detector:
    cells = {"cells": (8,)} if name == "riad" else {}
    return make_detector(name, image_size=size, **({"width": 0.0625} | cells | options))


def learned(name: str, steps: int = 2) -> Strategy:
    model = Naive(small(name))
    model.budget = Budget(steps=steps)
    model.learn(stream(1)[0])
    return model


def noise(number: int = 3, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.randint(0, 256, (number, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_encoder_is_the_published_one() -> None:
    """Bergmann et al. 2019, table 1: 128 x 128 to 100 numbers."""
    encoder = Encoder((128, 128), 100, 1.0)
    kernels = [tuple(m.weight.shape) for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [
        (32, 3, 4, 4),
        (32, 32, 4, 4),
        (32, 32, 3, 3),
        (64, 32, 4, 4),
        (64, 64, 3, 3),
        (128, 64, 4, 4),
        (64, 128, 3, 3),
        (32, 64, 3, 3),
        (100, 32, 8, 8),
    ]
    assert encoder(torch.zeros(2, 3, 128, 128)).shape == (2, 100)
    assert Decoder((128, 128), 100, 1.0)(torch.zeros(2, 100)).shape == (2, 3, 128, 128)


@each
@pytest.mark.parametrize("size", [(32, 32), (64, 100), (97, 131)])
def test_any_size_above_the_minimum(name: str, size: tuple[int, int]) -> None:
    detector = small(name, size)
    detector.begin([], "restart")
    detector.step(noise(2, size)).backward()  # type: ignore[union-attr]
    found = ready(detector).predict(noise(1, size))
    assert found.map.shape == (1, *size)
    assert torch.isfinite(found.map).all()


@each
def test_refusals(name: str) -> None:
    with pytest.raises(ContinuadError, match="at least 32"):
        small(name, 31)
    with pytest.raises(ContinuadError, match="above 0"):
        small(name, width=0)


@each
def test_an_untrained_model_and_another_size_are_refused(name: str) -> None:
    detector = small(name)
    with pytest.raises(ContinuadError, match="not trained yet"):
        detector.predict(noise())
    with pytest.raises(ContinuadError, match="images are 64 x 96, but the model learned 64 x 64"):
        ready(detector).predict(noise(1, (64, 96)))


@each
def test_scores_repeat_in_any_company(name: str) -> None:
    model = learned(name)
    together = model.predict(noise())
    torch.manual_seed(3)
    alone = [model.predict(one[None]) for one in noise()]
    torch.testing.assert_close(torch.cat([p.map for p in alone]), together.map, atol=1e-6, rtol=1e-4)
    assert torch.equal(model.predict(noise()).map, together.map)
    assert torch.equal(together.score, together.map.flatten(1).amax(1))


@each
def test_constant_images_give_finite_maps(name: str) -> None:
    detector = ready(small(name)).train()
    for level in (0, 90, 255):
        images = torch.full((2, 3, 64, 64), level, dtype=torch.uint8)
        loss = detector.step(images)
        loss.backward()  # type: ignore[union-attr]
        assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)
        assert torch.isfinite(detector.predict(images).map).all()


@each
def test_a_saved_model_is_complete(name: str, tmp_path: Path) -> None:
    model = learned(name)
    save_model(model, tmp_path)
    again, _ = load_model(tmp_path)
    assert torch.equal(again.predict(noise()).map, model.predict(noise()).map)


@each
def test_the_seed_decides(name: str) -> None:
    torch.manual_seed(9)
    a, b, other = small(name, seed=1), small(name, seed=1), small(name, seed=2)
    for detector in (a, b, other):
        ready(detector)
    assert torch.equal(a.predict(noise()).map, b.predict(noise()).map)
    assert not torch.equal(a.predict(noise()).map, other.predict(noise()).map)


@each
def test_policies_make_no_difference(name: str) -> None:
    """The next task's weights and thresholds are the same whatever becomes of the statistics: there are none."""
    found, thresholds = [], []
    for policy in ("restart", "accumulate", "freeze"):
        model = Naive(small(name))
        model.budget = Budget(steps=1)
        model.statistics = policy  # type: ignore[misc]
        for task in stream(2):
            model.learn(task)
        found.append(model.detector.learned())
        thresholds.append([model.thresholds(task) for task in (None, 0, 1)])
    for state in found[1:]:
        assert all(torch.equal(state[name], value) for name, value in found[0].items())
    assert thresholds[1] == thresholds[2] == thresholds[0]
    assert {name for name in found[0] if name.startswith("stats.")} == {"stats.trained"}
