"""CFA: centres, loss and score by hand, k-means, policies and sizes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import images_of, ready, stream

from continuad.core.fit import Budget
from continuad.detectors.cfa import Cfa
from continuad.errors import ContinuadError
from continuad.metrics.image import image_metrics
from continuad.models.registry import make_detector
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive


def small(size: int | tuple[int, int] = 64, **options: object) -> Cfa:
    detector = make_detector("cfa", image_size=size, **({"strides": (8, 16)} | options))
    assert isinstance(detector, Cfa)
    return detector.eval()


def noise(number: int = 3, size: tuple[int, int] = (64, 64), seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (number, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def begun(images: Tensor, size: int | tuple[int, int] = 64, **options: object) -> Cfa:
    detector = small(size, **options)
    detector.begin([images], "restart")
    ready(detector)
    return detector


def features(detector: Cfa, images: Tensor) -> Tensor:
    with torch.no_grad():
        return detector._features(detector.embed(images))


def test_centres_are_the_mean_features_of_each_position() -> None:
    images = noise(5)
    detector = small()
    detector.begin([images[:4], images[4:]], "restart")  # unequal batches count by their images
    torch.testing.assert_close(detector.stats["centres"], features(detector, images).mean(0), rtol=1e-4, atol=1e-4)


def test_patches_are_averages_with_coordinates() -> None:
    detector, images = small((64, 128)), noise(2, (64, 128))
    fine, coarse = levels = detector.embed(images)
    patches = detector.patches(levels)
    assert patches.shape == (2, sum(detector.pyramid.channels) + 2, 8, 16)
    torch.testing.assert_close(patches[:, 0, 3, 5], fine[:, 0, 2:5, 4:7].mean((1, 2)))
    torch.testing.assert_close(patches[:, 0, 0, 0], fine[:, 0, :2, :2].sum((1, 2)) / 9)  # zeros lie outside
    # Bilinear: the corner of a doubled grid is the coarse corner.
    torch.testing.assert_close(patches[:, fine.shape[1], 0, 0], coarse[:, 0, :2, :2].sum((1, 2)) / 9)
    torch.testing.assert_close(patches[0, -2, :, 0], torch.linspace(-1, 1, 8))
    torch.testing.assert_close(patches[1, -1, 2], torch.linspace(-1, 1, 16))


def test_distances_to_the_nearest_centres_by_hand() -> None:
    detector = small()
    detector.stats["centres"] = torch.tensor([[0.0, 0], [3, 0], [0, 2], [9, 9]])
    found = detector.squared_distances(torch.tensor([[[0.0, 0], [3, 1]]]), 3)
    assert found.tolist() == [[[0, 4, 9], [1, 10, 10]]]


def test_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """r^2 = 4 and alpha = 1: nearest beyond 4 are drawn in, those after them within 3 pushed out."""
    detector = small(attracted=2, repelled=3, radius=2.0, alpha=1.0, nu=0.5)
    squares = torch.tensor([[[1.0, 6, 2.5, 6, 7]]])
    monkeypatch.setattr(detector, "_features", lambda levels: None)
    monkeypatch.setattr(detector, "squared_distances", lambda features, number: squares[..., :number])
    assert detector.step(noise()).item() == pytest.approx(2 * ((0 + 2) / 2 + (0.5 + 0 + 0) / 3))


def test_the_radius_is_learned() -> None:
    detector = begun(noise(), radius=2.0)
    detector.step(noise(seed=1)).backward()  # type: ignore[no-untyped-call]
    assert detector.r.grad is not None
    assert float(detector.r.grad) != 0


def test_scores_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances 1, 2, 3 everywhere: 1 e^-1 / (e^-1 + e^-2 + e^-3)."""
    detector = begun(noise())
    monkeypatch.setattr(
        detector, "squared_distances", lambda f, number: torch.tensor([1.0, 4, 9]).expand(*f.shape[:2], 3)
    )
    found = detector.predict(noise(2))
    wanted = math.exp(-1) / sum(math.exp(-d) for d in (1, 2, 3))
    torch.testing.assert_close(found.map, torch.full((2, 64, 64), wanted))
    torch.testing.assert_close(found.score, torch.full((2,), wanted))


def test_a_patch_on_its_centre_scores_nothing() -> None:
    """|f|^2 + |c|^2 - 2 f c may fall below 0 by rounding; its root would be no number, and the centre passed over."""
    images = noise(1)
    found = begun(images).predict(images)
    assert torch.isfinite(found.map).all()
    assert found.map.abs().max() < 1e-3


def test_distance_enters_as_distances_enter_the_loss() -> None:
    """Features that differ by 2 in one channel of three: 4 at every position, divided by nu."""
    detector = small(nu=0.5)
    old = torch.zeros(2, 3, 4, 4)
    new = old.clone()
    new[:, 1] = 2
    assert detector.distance([new], [old]).item() == 8


def test_a_prediction_holds_on_to_nothing_but_its_own_bytes() -> None:
    found = begun(noise()).predict(noise())
    assert found.map.untyped_storage().nbytes() == 3 * 64 * 64 * 4
    assert not found.map.requires_grad


def test_a_last_batch_of_one_has_its_batch_axis() -> None:
    detector, images = begun(noise()), noise(5, seed=1)
    alone = [detector.predict(image[None]) for image in images]
    in_twos = [detector.predict(images[i : i + 2]) for i in (0, 2, 4)]
    assert in_twos[-1].map.shape == (1, 64, 64)
    for one, two in ((alone, in_twos), (alone, [detector.predict(images)])):
        torch.testing.assert_close(
            torch.cat([p.map for p in one]), torch.cat([p.map for p in two]), rtol=1e-4, atol=1e-4
        )
        assert sum(len(p.score) for p in two) == 5


@pytest.mark.parametrize("size", [(64, 64), (48, 100), (65, 33)])
def test_any_size_above_the_minimum(size: tuple[int, int]) -> None:
    detector = begun(noise(2, size), size)
    detector.step(noise(1, size)).backward()  # type: ignore[no-untyped-call]
    assert detector.predict(noise(1, size)).map.shape == (1, *size)


def test_constant_images_give_finite_maps() -> None:
    constant = torch.full((2, 3, 64, 64), 90, dtype=torch.uint8)
    detector = begun(constant)
    assert torch.isfinite(detector.step(constant))
    assert torch.isfinite(detector.predict(constant).map).all()
    assert torch.isfinite(detector.predict(noise()).map).all()


def test_refusals() -> None:
    with pytest.raises(ContinuadError, match="at least 32"):
        small(16)
    with pytest.raises(ContinuadError, match="smaller gamma_c"):
        small(gamma_c=11)  # 64 positions, 5 centres
    with pytest.raises(ContinuadError, match="option gamma_d is 1000; allowed: 1 to"):
        small(gamma_d=1000)
    with pytest.raises(ContinuadError, match="nu is 0; allowed"):
        small(nu=0)
    with pytest.raises(ContinuadError, match="not trained yet"):
        small().predict(noise())
    with pytest.raises(ContinuadError, match="images are 64 x 96, but the model learned 64 x 64"):
        begun(noise()).predict(noise(1, (64, 96)))


def test_centres_follow_the_policy() -> None:
    first, second = noise(2), noise(6, seed=1)
    whole = begun(torch.cat([first, second])).stats["centres"]
    new, old = begun(second).stats["centres"], begun(first).stats["centres"]
    for policy, expected in (("restart", new), ("accumulate", whole), ("freeze", old)):
        detector = begun(first)
        detector.begin([second], policy)  # type: ignore[arg-type]
        torch.testing.assert_close(detector.stats["centres"], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(new, old, atol=1e-2)


def test_k_means_keeps_fewer_centres_and_repeats() -> None:
    images = noise(4)
    detector, again = begun(images, gamma_c=4, seed=3), begun(images, gamma_c=4, seed=3)
    centres = detector.stats["centres"]
    assert len(centres) == 16
    assert torch.equal(centres, again.stats["centres"])
    means = features(detector, images).mean(0)
    owner = torch.cdist(means, centres).argmin(1)
    for number, centre in enumerate(centres):
        torch.testing.assert_close(centre, means[owner == number].mean(0), rtol=1e-3, atol=1e-3)


def test_accumulated_k_means_weigh_every_image_alike() -> None:
    """The mean of all centres, each as often as patches it stands for, stays the mean of all features."""
    first, second = noise(2), noise(6, seed=1)
    detector = begun(first, gamma_c=4, seed=3)
    before, means = detector.stats["centres"], features(detector, second).mean(0)
    detector.begin([second], "accumulate")
    centres = detector.stats["centres"]
    assert len(centres) == 16
    assert detector.stats["count"] == 8
    points = torch.cat([before, means])
    weights = torch.cat([torch.full((16,), 2 * 64 / 16), torch.full((64,), 6.0)])
    owner = torch.cdist(points, centres).argmin(1)
    share = torch.stack([weights[owner == k].sum() for k in range(16)])
    mean = (share[:, None] * centres).sum(0) / weights.sum()
    wanted = (weights[:, None] * points).sum(0) / weights.sum()
    torch.testing.assert_close(mean, wanted, rtol=1e-3, atol=1e-3)


def test_it_learns_and_reloads(tmp_path: Path) -> None:
    model = Naive(small())
    model.budget = Budget(steps=10)
    task = stream(1)[0]
    model.learn(task)
    images = torch.from_numpy(task.test.images)
    found = model.predict(images)
    assert image_metrics(found.score.numpy(), task.test.labels)["image_auroc"] > 0.9
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path)[0].predict(images).map, found.map)


def test_learning_draws_features_to_their_centres() -> None:
    detector, images = begun(noise()), noise(seed=1)
    optimiser = detector.optimiser()
    losses = []
    for _ in range(5):
        loss = detector.step(images)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]


def test_equals_anomalib() -> None:
    """Centres, loss, gradients, maps and scores of anomalib 2.7.0 with the same weights (benchmarks/golden_cfa.py)."""
    train, test = (torch.from_numpy(images_of(0, 4, defects=d, seed=0).images) for d in (False, True))
    detector = make_detector("cfa", image_size=64, radius=7.5, seed=1)
    assert isinstance(detector, Cfa)
    detector.begin([train], "restart")
    loss = detector.step(train)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [float(p.grad.norm()) for p in detector.descriptor.parameters() if p.grad is not None]
    found = ready(detector).predict(test)
    far = detector.squared_distances(features(detector, train), 6)[..., 3:]
    assert (far < 7.5**2 - detector.alpha).any()  # the repulsion acts
    with np.load(Path(__file__).parent / "golden" / "cfa_anomalib.npz") as golden:
        np.testing.assert_allclose(detector.stats["centres"][::16], golden["centres"], atol=1e-4)
        assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-3)
        np.testing.assert_allclose(gradients, golden["gradients"], rtol=1e-3)
        np.testing.assert_allclose(found.map[:, ::4, ::4], golden["map"], atol=2e-3)
        np.testing.assert_allclose(found.score, golden["score"], atol=2e-3)
