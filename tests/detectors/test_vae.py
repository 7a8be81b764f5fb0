"""VAE: divergence and loss by hand, drawing only in training, new images, and it learns."""

from __future__ import annotations

import math

import pytest
import torch
from toys import ready, stream

from continuad.core.fit import Budget
from continuad.detectors.vae import Vae
from continuad.errors import ContinuadError
from continuad.metrics.pixel import pixel_metrics
from continuad.models.registry import make_detector
from continuad.strategies.naive import Naive
from continuad.vision.reconstruction import divergence


def small(**options: object) -> Vae:
    detector = make_detector("vae", image_size=64, **({"width": 0.0625, "latent": 8} | options))
    assert isinstance(detector, Vae)
    return detector


def test_divergence_by_hand() -> None:
    """N(0, 1): 0. N(2, 1): 2. N(0, e): (e - 2) / 2. Latent numbers add up."""
    mean, log_variance = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert divergence(mean, log_variance).tolist() == pytest.approx([0, 2 + (math.e - 2) / 2])


def test_divergence_is_torchs() -> None:
    mean, log_variance = torch.randn(4, 8), torch.randn(4, 8)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)


@pytest.mark.parametrize(("asked", "beta"), [(3.0, 3.0), (None, 2 * 0.09)])
def test_loss_by_hand(asked: float | None, beta: float) -> None:
    """Image 0.2 rebuilt as 0.5, m = 1, v = 0, 8 latent numbers: 0.09 + beta 8 / 2 / (3 64^2)."""
    detector = small(beta=asked)
    detector.encoder.forward = lambda x: torch.cat([torch.ones(2, 8), torch.zeros(2, 8)], 1)  # type: ignore
    detector.decoder.forward = lambda latent: torch.full((2, 3, 64, 64), 0.5)  # type: ignore[method-assign]
    loss = detector.step(torch.full((2, 3, 64, 64), 51, dtype=torch.uint8))
    assert float(loss) == pytest.approx(0.09 + beta * 4 / (3 * 64**2), rel=1e-5)


def test_maps_by_hand() -> None:
    """Grey 0.2 rebuilt as black in one of three colours: 0.04 / 3, or (1 - c1 / (0.2^2 + c1)) / 3; one loss."""
    image = torch.full((1, 3, 64, 64), 51, dtype=torch.uint8)
    picture = torch.full((1, 3, 64, 64), 0.2)
    picture[:, 0] = 0
    losses = []
    for error, expected in (("l2", 0.04 / 3), ("ssim", (1 - 1e-4 / (0.2**2 + 1e-4)) / 3)):
        detector = small(error=error)
        ready(detector)
        detector.decoder.forward = lambda latent: picture  # type: ignore[method-assign]
        found = detector.predict(image)
        assert float(found.map[0, 32, 32]) == pytest.approx(expected, rel=1e-3)
        assert float(found.score) == pytest.approx(float(found.map.max()))
        losses.append(float(detector.step(image).detach()))
    assert losses[0] == losses[1]


def test_it_draws_only_in_training() -> None:
    detector, images = small(), torch.from_numpy(stream(1)[0].val.images)
    detector.train()
    assert float(detector.step(images).detach()) != float(detector.step(images).detach())
    detector.eval()
    assert float(detector.step(images).detach()) == float(detector.step(images).detach())


def test_new_images() -> None:
    detector = small()
    torch.manual_seed(0)
    drawn = detector.sample(5)
    assert drawn.shape == (5, 3, 64, 64)
    assert drawn.dtype == torch.uint8
    assert not torch.equal(drawn, detector.sample(5))
    torch.manual_seed(0)
    assert torch.equal(drawn, detector.sample(5))


def test_refusals() -> None:
    with pytest.raises(ContinuadError, match="1 to 10000"):
        small(latent=0)
    with pytest.raises(ContinuadError, match=r"option vae\.error is 'l1'; allowed: ssim, l2"):
        small(error="l1")
    with pytest.raises(ContinuadError, match=r"option vae\.beta is .*; allowed: a number, 0 to"):
        small(beta=-1.0)


def test_it_learns_toys() -> None:
    """Patches on stripes stand out, and drawn images have stripes at the same place."""
    detector, task = small(width=0.25, latent=100), stream(1)[0]
    detector.batch_size = 4
    model = Naive(detector)
    model.budget = Budget(steps=90)
    model.learn(task)
    maps = model.predict(torch.from_numpy(task.test.images)).map
    assert pixel_metrics(maps.numpy(), task.test.masks)["pixel_auroc"] > 0.9
    drawn, real = (x.float().mean((0, 1)).flatten() for x in (detector.sample(16), torch.from_numpy(task.val.images)))
    assert float(torch.corrcoef(torch.stack([drawn, real]))[0, 1]) > 0.3
