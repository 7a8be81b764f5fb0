"""PaDiM against an independent computation: policies, memory, sizes, refusals, reloading."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, zoom
from toys import images_of, ready

from continuad.core.batches import in_order, one_pass
from continuad.core.footprint import MEGABYTE, footprint
from continuad.core.state import Policy
from continuad.core.types import ImageSet, Task
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.models.store import save_model
from continuad.strategies.naive import Naive
from continuad.vision.backbones import BackboneSpec


def learn(detector: Padim, images: ImageSet, policy: Policy = "restart") -> Padim:
    detector.begin(one_pass(images, None, detector.batch_size), policy)
    for batch in in_order(images, detector.batch_size):
        detector.step(batch.image)
    detector.finish()
    ready(detector)
    return detector


def small(**options: object) -> Padim:
    return Padim(**{"image_size": 64, "channels": 12, **options})  # type: ignore[arg-type]


TRAIN = images_of(0, 20, defects=False, seed=0)
TEST = images_of(0, 6, defects=True, seed=2)


def numpy_maps(detector: Padim, train: np.ndarray, test: np.ndarray, sigma: float) -> np.ndarray:
    """The paper's equations in double precision, one position at a time, from the backbone's features on."""

    def embed(images: np.ndarray) -> np.ndarray:
        levels = [level.double().numpy() for level in detector.pyramid(torch.from_numpy(images))]
        side = levels[0].shape[-1]
        same = [np.kron(level, np.ones((1, 1, side // level.shape[-1], side // level.shape[-1]))) for level in levels]
        return np.concatenate(same, 1)[:, detector.drawn.numpy()]

    x, y = embed(train), embed(test)
    grid = np.empty((len(y), *y.shape[2:]))
    for i, j in np.ndindex(*grid.shape[1:]):
        samples = x[:, :, i, j]
        inverse = np.linalg.inv(np.cov(samples.T) + detector.epsilon * np.eye(samples.shape[1]))
        for n in range(len(y)):
            d = y[n, :, i, j] - samples.mean(0)
            grid[n, i, j] = np.sqrt(d @ inverse @ d)
    large = torch.nn.functional.interpolate(torch.from_numpy(grid)[:, None], test.shape[-2:], mode="bilinear")[:, 0]
    return np.stack([gaussian_filter(one, sigma, mode="mirror") for one in large.numpy()])


def test_maps_equal_the_equations_in_numpy() -> None:
    detector = learn(small(), TRAIN)
    found = detector.predict(torch.from_numpy(TEST.images))
    wanted = numpy_maps(detector, TRAIN.images, TEST.images, detector.sigma)
    np.testing.assert_allclose(found.map, wanted, rtol=2e-4)
    np.testing.assert_allclose(found.score, wanted.reshape(6, -1).max(1), rtol=2e-4)


def test_it_sees_a_painted_patch() -> None:
    detector = learn(small(), TRAIN)
    found = detector.predict(torch.from_numpy(TEST.images))
    assert found.score[TEST.labels].min() > found.score[~TEST.labels].max()
    inside, outside = found.map.numpy()[TEST.masks], found.map.numpy()[~TEST.masks]
    assert np.median(inside) > 3 * np.median(outside)


@pytest.mark.parametrize("portions", [[10, 10], [1, 19], [7, 7, 6]])
def test_accumulated_portions_equal_one_go(portions: list[int]) -> None:
    whole, parts = learn(small(), TRAIN), small()
    start = 0
    for size in portions:
        learn(parts, TRAIN.subset(range(start, start + size)), "accumulate")
        start += size
    x = torch.from_numpy(TEST.images)
    assert float(parts.stats["count"]) == 20
    torch.testing.assert_close(parts.stats["mean"], whole.stats["mean"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts.predict(x).map, whole.predict(x).map, rtol=2e-3, atol=2e-3)


def test_policies_restart_and_freeze() -> None:
    other = images_of(1, 9, defects=False, seed=0)
    fresh, detector = learn(small(), other), learn(small(), TRAIN)
    frozen = detector.stats["factor"]
    learn(detector, other, "freeze")
    assert detector.stats["factor"] is frozen
    learn(detector, other, "restart")
    assert torch.equal(detector.stats["factor"], fresh.stats["factor"])


def test_accumulating_leaves_a_shared_snapshot_alone() -> None:
    detector = learn(small(), TRAIN)
    snapshot = detector.learned()
    copies = {name: value.clone() for name, value in snapshot.items()}
    learn(detector, images_of(1, 9, defects=False, seed=0), "accumulate")
    assert all(torch.equal(snapshot[name], value) for name, value in copies.items())


def test_moments_give_back_mean_and_covariance() -> None:
    detector = learn(small(), TRAIN)
    moments = detector.moments()
    assert moments is not None
    x, _ = detector.positions(detector.embed(torch.from_numpy(TRAIN.images)))
    np.testing.assert_allclose(moments["mean"], x.mean(1), rtol=1e-5, atol=1e-5)
    for position in (0, 100, 255):
        wanted = np.cov(x[position].double().numpy().T)
        np.testing.assert_allclose(moments["covariance"][position], wanted, atol=1e-4 * np.abs(wanted).max())
    before = detector.predict(torch.from_numpy(TEST.images)).map
    detector.set_moments(moments)
    torch.testing.assert_close(detector.predict(torch.from_numpy(TEST.images)).map, before, rtol=1e-3, atol=1e-3)


def test_the_thesis_sizes_to_the_decimal() -> None:
    """WideResNet-50-2 at 224: 56 x 56 positions of 1792 channels, 350 drawn, 1541.0 MB a task."""
    detector = Padim(224, BackboneSpec("wide_resnet50_2", "random"), channels=350)
    assert sum(detector.pyramid.channels) == 1792
    detector.begin(iter(()), "restart")
    detector.step(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert detector.stats["mean"].shape == (56 * 56, 350)
    assert round(footprint(detector).additional, 1) == 1541.0
    assert round(sum(p.numel() for p in detector.parameters()) / 1e6, 1) == 24.8


def test_one_training_image_gives_finite_scores() -> None:
    detector = learn(small(), TRAIN.subset([0]))
    assert torch.isfinite(detector.predict(torch.from_numpy(TEST.images)).map).all()


def test_constant_images_give_finite_scores() -> None:
    flat = ImageSet(np.full_like(TRAIN.images, 90), *list(vars(TRAIN).values())[1:])
    detector = learn(small(), flat)
    assert torch.isfinite(detector.predict(torch.from_numpy(TEST.images)).map).all()


def test_predicting_twice_gives_the_same_answer() -> None:
    detector, x = learn(small(), TRAIN), torch.from_numpy(TEST.images)
    assert torch.equal(detector.predict(x).map, detector.predict(x).map)


def test_a_saved_model_scores_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    strategy = Naive(small(seed=3), seed=3)
    strategy.learn(Task(0, "zebra", TRAIN, TRAIN.subset(range(4)), TEST))
    save_model(strategy, tmp_path / "model")
    np.save(tmp_path / "x.npy", TEST.images)
    code = f"""
import numpy as np, torch
torch.manual_seed(999)
from pathlib import Path
from continuad.models.store import load_model
strategy, _ = load_model(Path({str(tmp_path / "model")!r}))
np.save({str(tmp_path / "y.npy")!r}, strategy.predict(torch.from_numpy(np.load({str(tmp_path / "x.npy")!r}))).map)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    mine = strategy.predict(torch.from_numpy(TEST.images)).map
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), mine, rtol=1e-5)


def test_memory_does_not_depend_on_the_number_of_images() -> None:
    """But for the number of 8 bytes that says whose each image was, statistics hold the same after 4 and 40 images."""
    few, many = small(), small()
    for detector, rounds in ((few, 1), (many, 10)):
        detector.begin(iter(()), "restart")
        for _ in range(rounds):
            detector.step(torch.from_numpy(TRAIN.images[:4]))
    assert footprint(many).architecture == footprint(few).architecture
    assert footprint(many).additional - footprint(few).additional == pytest.approx((40 - 4) * 8 / MEGABYTE)


def test_rectangles_work(tmp_path: Path) -> None:
    wide = np.ascontiguousarray(zoom(TRAIN.images, (1, 1, 1, 1.5), order=0))
    images = ImageSet(
        wide, TRAIN.labels, np.zeros((20, 64, 96), bool), TRAIN.mask_known, TRAIN.defects, TRAIN.paths, TRAIN.sizes
    )
    detector = learn(small(image_size=(64, 96)), images)
    assert detector.predict(torch.from_numpy(wide[:2])).map.shape == (2, 64, 96)


@pytest.mark.parametrize("size", [39, 50, 75])
def test_odd_sizes_work(size: int) -> None:
    images = images_of(0, 5, defects=False, seed=0, size=size)
    detector = learn(small(image_size=size), images)
    found = detector.predict(torch.from_numpy(images.images))
    assert found.map.shape == (5, size, size)
    assert torch.isfinite(found.map).all()


def test_the_batch_size_does_not_matter() -> None:
    detector, x = learn(small(), TRAIN), torch.from_numpy(TEST.images)
    whole = detector.predict(x)
    for size in (1, 5):
        parts = [detector.predict(part) for part in x.split(size)]
        torch.testing.assert_close(torch.cat([p.map for p in parts]), whole.map, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.cat([p.score for p in parts]), whole.score, rtol=1e-4, atol=1e-4)


def test_too_small_images_are_refused_at_construction() -> None:
    with pytest.raises(ContinuadError, match=r"at least 32"):
        Padim(image_size=31)


def test_an_untrained_model_says_so() -> None:
    with pytest.raises(ContinuadError, match="not trained yet"):
        small().predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_another_image_size_is_refused() -> None:
    with pytest.raises(ContinuadError, match="images are 32 x 64, but the model learned 64 x 64"):
        learn(small(), TRAIN).predict(torch.zeros(1, 3, 32, 64, dtype=torch.uint8))


@pytest.mark.parametrize("options", [{"channels": 177}, {"channels": 0}, {"epsilon": 0.0}])
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ContinuadError):
        small(**options)


def test_maps_equal_anomalibs() -> None:
    """Golden values of anomalib 2.7.0 with the same weights and channels (benchmarks/golden_padim.py)."""
    with np.load(Path(__file__).parent / "golden" / "padim_anomalib.npz") as golden:
        detector = learn(small(epsilon=0.01001), TRAIN)
        found = detector.predict(torch.from_numpy(TEST.images[2:5]))
        np.testing.assert_allclose(found.map, golden["map"], rtol=1e-3)
        np.testing.assert_allclose(found.score, golden["score"], rtol=1e-3)


def test_bfloat16_on_request_gives_nearly_the_same_maps() -> None:
    exact, rough = learn(small(), TRAIN), learn(small(backbone=BackboneSpec(precision="bfloat16")), TRAIN)
    assert rough.pyramid.precision == torch.bfloat16
    x = torch.from_numpy(TEST.images)
    a, b = exact.predict(x).map.flatten(), rough.predict(x).map.flatten()
    assert b.dtype == torch.float32
    assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.98
