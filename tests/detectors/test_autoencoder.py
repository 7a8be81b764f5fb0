"""Autoencoder: the maps of both losses by hand, its loss is their mean, and it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import ready, stream

from continuad.core.fit import Budget
from continuad.detectors.autoencoder import Autoencoder
from continuad.errors import ContinuadError
from continuad.metrics.pixel import pixel_metrics
from continuad.models.registry import make_detector
from continuad.strategies.naive import Naive


def small(**options: object) -> Autoencoder:
    detector = make_detector("autoencoder", image_size=64, **({"width": 0.0625} | options))
    assert isinstance(detector, Autoencoder)
    ready(detector)
    return detector


def answering(picture: Tensor, **options: object) -> Autoencoder:
    """An autoencoder that rebuilds everything as one picture (3, 64, 64) in [0, 1]."""
    detector = small(**options)
    detector.decoder.forward = lambda latent: picture.expand(len(latent), 3, 64, 64)  # type: ignore[method-assign]
    return detector


def test_squared_error_by_hand() -> None:
    """One pixel differs by 0.2, 0.4 and 0 in its colours: (0.04 + 0.16) / 3."""
    image = torch.full((1, 3, 64, 64), 51, dtype=torch.uint8)
    picture = torch.full((3, 64, 64), 0.2)
    picture[:, 5, 7] = torch.tensor([0.0, 0.6, 0.2])
    detector = answering(picture, loss="l2")
    found = detector.predict(image)
    assert float(found.map[0, 5, 7]) == pytest.approx(0.2 / 3, rel=1e-4)
    assert float(found.score) == pytest.approx(0.2 / 3, rel=1e-4)
    assert float(found.map.sum()) == pytest.approx(0.2 / 3, rel=1e-4)
    assert float(detector.step(image)) == pytest.approx(0.2 / 3 / 64**2, rel=1e-4)


def test_structural_error_by_hand() -> None:
    """Grey rebuilt as black in one of three colours: 1 - c1 / (0.2^2 + c1) there, and 0 in the others."""
    image = torch.full((1, 3, 64, 64), 51, dtype=torch.uint8)
    picture = torch.full((3, 64, 64), 0.2)
    picture[0] = 0
    found = answering(picture).predict(image)
    assert float(found.map[0, 32, 32]) == pytest.approx((1 - 1e-4 / (0.2**2 + 1e-4)) / 3, rel=1e-3)


@pytest.mark.parametrize("loss", ["ssim", "l2"])
def test_the_loss_is_the_mean_of_the_map(loss: str) -> None:
    detector = small(loss=loss)
    images = torch.from_numpy(stream(1)[0].test.images)
    assert float(detector.step(images).detach()) == pytest.approx(float(detector.predict(images).map.mean()), rel=1e-4)


def test_refusals() -> None:
    with pytest.raises(ContinuadError, match="allowed: ssim, l2"):
        small(loss="l1")
    with pytest.raises(ContinuadError, match="1 to 10000"):
        small(latent=0)


@pytest.mark.parametrize("loss", ["ssim", "l2"])
def test_it_learns_toys(loss: str) -> None:
    """Patches on stripes stand out after a few steps."""
    detector, task = small(loss=loss, width=0.25), stream(1)[0]
    detector.batch_size = 4
    model = Naive(detector)
    model.budget = Budget(steps=50)
    model.learn(task)
    maps = model.predict(torch.from_numpy(task.test.images)).map
    assert pixel_metrics(maps.numpy(), task.test.masks)["pixel_auroc"] > 0.9
