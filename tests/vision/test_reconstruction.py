"""What RIAD, autoencoder and VAE share: the published encoder, any size, refusals, independence, policies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys import stream

from continuad.core.fit import Budget
from continuad.core.strategy import Strategy
from continuad.detectors.autoencoder import Autoencoder
from continuad.detectors.riad import Riad
from continuad.detectors.vae import Vae
from continuad.errors import ContinuadError
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive
from continuad.vision.reconstruction import Decoder, Encoder, Rebuilder

KINDS = (Autoencoder, Vae, Riad)
each = pytest.mark.parametrize("kind", KINDS)


def small(kind: type[Rebuilder], size: int | tuple[int, int] = 64, **options: object) -> Rebuilder:
    options = {"width": 0.0625} | ({"cells": (8,)} if kind is Riad else {}) | options
    return kind(size, **options)  # type: ignore[arg-type]


def learned(kind: type[Rebuilder], steps: int = 2) -> Strategy:
    model = Naive(small(kind))
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
def test_any_size_above_the_minimum(kind: type[Rebuilder], size: tuple[int, int]) -> None:
    detector = small(kind, size)
    detector.begin([], "restart")
    detector.step(noise(2, size)).backward()  # type: ignore[union-attr]
    found = detector.eval().predict(noise(1, size))
    assert found.map.shape == (1, *size)
    assert torch.isfinite(found.map).all()


@each
def test_refusals(kind: type[Rebuilder]) -> None:
    with pytest.raises(ContinuadError, match="at least 32"):
        small(kind, 31)
    with pytest.raises(ContinuadError, match="above 0"):
        small(kind, width=0)


@each
def test_an_untrained_model_and_another_size_are_refused(kind: type[Rebuilder]) -> None:
    detector = small(kind)
    with pytest.raises(ContinuadError, match="not trained yet"):
        detector.predict(noise())
    detector.begin([], "restart")
    with pytest.raises(ContinuadError, match="learned \\(64, 64\\)"):
        detector.predict(noise(1, (64, 96)))


@each
def test_scores_repeat_in_any_company(kind: type[Rebuilder]) -> None:
    model = learned(kind)
    together = model.predict(noise())
    torch.manual_seed(3)
    alone = [model.predict(one[None]) for one in noise()]
    torch.testing.assert_close(torch.cat([p.map for p in alone]), together.map, atol=1e-6, rtol=1e-4)
    assert torch.equal(model.predict(noise()).map, together.map)
    assert torch.equal(together.score, together.map.flatten(1).amax(1))


@each
def test_constant_images_give_finite_maps(kind: type[Rebuilder]) -> None:
    detector = small(kind).train()
    detector.begin([], "restart")
    for level in (0, 90, 255):
        images = torch.full((2, 3, 64, 64), level, dtype=torch.uint8)
        loss = detector.step(images)
        loss.backward()  # type: ignore[union-attr]
        assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)
        assert torch.isfinite(detector.predict(images).map).all()


@each
def test_a_saved_model_is_complete(kind: type[Rebuilder], tmp_path: Path) -> None:
    model = learned(kind)
    save_model(model, tmp_path)
    again, _ = load_model(tmp_path)
    assert torch.equal(again.predict(noise()).map, model.predict(noise()).map)


@each
def test_the_seed_decides(kind: type[Rebuilder]) -> None:
    torch.manual_seed(9)
    a, b, other = small(kind, seed=1), small(kind, seed=1), small(kind, seed=2)
    for detector in (a, b, other):
        detector.begin([], "restart")
    assert torch.equal(a.predict(noise()).map, b.predict(noise()).map)
    assert not torch.equal(a.predict(noise()).map, other.predict(noise()).map)


@each
def test_policies_make_no_difference(kind: type[Rebuilder]) -> None:
    """The next task's weights and thresholds are the same whatever becomes of the statistics: there are none."""
    found = []
    for policy in ("restart", "accumulate", "freeze"):
        model = Naive(small(kind))
        model.budget = Budget(steps=1)
        model.statistics = policy  # type: ignore[misc]
        for task in stream(2):
            model.learn(task)
        found.append(model.detector.learned())
    for state in found[1:]:
        assert all(torch.equal(state[name], value) for name, value in found[0].items())
    assert {name for name in found[0] if name.startswith("stats.")} == {
        "stats.centre",
        "stats.pixel_threshold",
        "stats.image_threshold",
    }
