"""PatchCore: its score by hand, banks under each policy and budget, anomalib's answers."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import images_of, ready, stream

from continuad.detectors.patchcore import PatchCore
from continuad.errors import ContinuadError
from continuad.memory import neighbours
from continuad.memory.coreset import covering_radius
from continuad.metrics.image import image_metrics
from continuad.models.store import load_model, save_model
from continuad.strategies.accumulate import Accumulate
from continuad.strategies.naive import Naive
from continuad.vision.anomaly_map import upsample_and_smooth

TRAIN = torch.from_numpy(images_of(0, 20, defects=False, seed=0).images)
OTHER = torch.from_numpy(images_of(1, 6, defects=False, seed=0).images)
TEST = images_of(0, 6, defects=True, seed=2)


def small(**options: object) -> PatchCore:
    return PatchCore(**({"image_size": 64, "bank": 50} | options))  # type: ignore[arg-type]


def learn(detector: PatchCore, *tasks: Tensor, policy: str = "restart") -> PatchCore:
    for images in tasks:
        detector.begin([], policy)  # type: ignore[arg-type]
        for part in images.split(8):
            detector.step(part)
        detector.finish()
    ready(detector)
    return detector


def test_score_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bank of 0, 1 and 5 on a line; the worst patch lies at 3, nearest to 1, whose two neighbours are 1 and 0."""
    detector = small(neighbours=2, sigma=0)
    detector.stats["bank"] = torch.tensor([[0.0], [1.0], [5.5]])
    patches = torch.tensor([3.0, 0.0, 1.0, 5.5]).view(1, 2, 2, 1)
    monkeypatch.setattr(detector, "patches", lambda levels: patches)
    found = ready(detector).predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    weight = 1 - math.exp(2) / (math.exp(2) + math.exp(3))
    assert float(found.score) == pytest.approx(2 * weight, rel=1e-5)
    assert float(found.map.max()) == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize(("bank", "vectors"), [(50, 50), ("10%", 20 * 64 // 10), ("0.1MB", 100_000 // (4 * 152 + 8))])
def test_budgets(bank: int | str, vectors: int) -> None:
    assert len(learn(small(bank=bank), TRAIN).stats["bank"]) == vectors


@pytest.mark.parametrize("bank", ["ten", 0, "0.0001MB", "200%", "-3"])
def test_budgets_that_mean_nothing(bank: int | str) -> None:
    with pytest.raises(ContinuadError, match=r"option (patchcore\.)?bank is"):
        small(bank=bank)


def test_accumulate_keeps_equal_shares_that_are_coresets() -> None:
    """A task's share of two equals its coreset of half the size; nothing of it is chosen anew."""
    both = learn(small(), TRAIN, OTHER, policy="accumulate")
    assert both.stats["shares"].tolist() == [25, 25]
    first, second = learn(small(bank=25), TRAIN), learn(small(bank=25), OTHER)
    assert torch.equal(both.stats["bank"], torch.cat([first.stats["bank"], second.stats["bank"]]))
    with pytest.raises(ContinuadError, match="fewer than the 2 tasks"):
        learn(small(bank=1, neighbours=1), TRAIN, OTHER, policy="accumulate")


def test_merged_banks_are_a_coreset_of_both_and_lie_no_farther_than_both_steps_together() -> None:
    first, second = learn(small(), TRAIN), learn(small(), OTHER)
    far = [float(one.covering(images).max()) for one, images in ((first, TRAIN), (second, OTHER))]
    both = torch.cat([first.stats["bank"], second.stats["bank"]])
    merged = learn(small(), TRAIN)
    merged.merge(second.learned())
    bank = merged.stats["bank"]
    assert len(bank) == len(merged.stats["owners"]) == merged.stats["shares"].sum() == 50
    assert bool((bank[:, None] == both).all(2).any(1).all()), "vectors of both, and no others"
    step = covering_radius(both, bank)
    assert float(merged.covering(TRAIN).max()) <= far[0] + step + 0.1
    assert float(merged.covering(OTHER).max()) <= far[1] + step + 0.1


def test_many_small_portions_do_not_crowd_out_a_large_one() -> None:
    """In equal shares, ten portions of one image would leave the first a tenth of the bank."""
    merged, shares = learn(small(), TRAIN), learn(small(), TRAIN, *OTHER.split(1), policy="accumulate")
    for image in OTHER.split(1):
        merged.merge(learn(small(), image).learned())
    assert merged.covering(TRAIN).mean() < 0.9 * shares.covering(TRAIN).mean()


def test_merged_banks_that_are_shares_of_the_patches_grow() -> None:
    merged = learn(small(bank="10%"), TRAIN)
    merged.merge(learn(small(bank="10%"), OTHER).learned())
    assert len(merged.stats["bank"]) == 128 + 38


def test_a_share_in_percent_grows_with_the_tasks() -> None:
    detector = learn(small(bank="10%"), TRAIN, OTHER, policy="accumulate")
    assert detector.stats["shares"].tolist() == [128, 38]


def test_freeze_keeps_the_first_bank() -> None:
    detector = learn(small(), TRAIN)
    bank = detector.stats["bank"]
    assert learn(detector, OTHER, policy="freeze").stats["bank"] is bank


def test_an_image_scores_alike_in_any_company() -> None:
    detector = learn(small(), TRAIN)
    together = detector.predict(torch.from_numpy(TEST.images))
    for i, image in enumerate(torch.from_numpy(TEST.images)):
        alone = detector.predict(image[None])
        assert float(alone.score[0]) == pytest.approx(float(together.score[i]), rel=1e-4)
        torch.testing.assert_close(alone.map[0], together.map[i], rtol=1e-3, atol=1e-3)


def test_more_neighbours_than_vectors(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        detector = learn(small(bank="3%", neighbours=9), TRAIN[:1])
    assert "fewer than neighbours=9" in caplog.text
    assert torch.isfinite(detector.predict(OTHER).score).all()


def test_learning_again_replaces_the_bank() -> None:
    once = learn(small(), TRAIN)
    assert torch.equal(learn(small(), TRAIN, TRAIN).stats["bank"], once.stats["bank"])


def test_a_reloaded_model_takes_further_images(tmp_path: Path) -> None:
    first, second = stream(2)
    whole = Accumulate(small())
    whole.learn(first)
    save_model(whole, tmp_path)
    again, _ = load_model(tmp_path)
    for model in (whole, again):
        model.learn(second)
    images = torch.from_numpy(second.test.images)
    assert torch.equal(again.predict(images).map, whole.predict(images).map)


def test_distances_come_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = learn(small(), TRAIN)
    images = torch.from_numpy(TEST.images)
    whole = detector.predict(images)
    monkeypatch.setattr(neighbours, "AT_ONCE", 7)
    torch.testing.assert_close(detector.predict(images).map, whole.map)


def test_constant_images_and_refusals() -> None:
    with pytest.raises(ContinuadError, match="not trained yet"):
        small().predict(TRAIN)
    detector = learn(small(bank=128), torch.full((2, 3, 64, 64), 128, dtype=torch.uint8))
    found = detector.predict(torch.full((1, 3, 64, 64), 128, dtype=torch.uint8))
    assert torch.isfinite(found.map).all()
    assert float(found.score) == pytest.approx(0, abs=1e-3)
    with pytest.raises(ContinuadError, match="images are 96 x 64, but the model learned 64 x 64"):
        detector.predict(torch.zeros(1, 3, 96, 64, dtype=torch.uint8))


def test_wide_patches_are_projected_for_the_choice_alone() -> None:
    detector = learn(small(projection=8), TRAIN)
    assert detector.stats["bank"].shape == (50, 152)


def test_it_finds_patches_on_stripes() -> None:
    model = Naive(small(bank="10%"))
    task = stream(1)[0]
    model.learn(task)
    scores = model.predict(torch.from_numpy(task.test.images)).score.numpy()
    assert image_metrics(scores, task.test.labels)["image_auroc"] == 1.0


def test_equals_anomalib() -> None:
    """Distances and scores of anomalib 2.7.0 with our bank (benchmarks/golden_patchcore.py)."""
    detector = learn(small(projection=128), TRAIN)
    found = detector.predict(torch.from_numpy(TEST.images[2:5]))
    with np.load(Path(__file__).parent / "golden" / "patchcore_anomalib.npz") as golden:
        enlarged = upsample_and_smooth(torch.from_numpy(golden["grid"]), (64, 64), 4.0)
        torch.testing.assert_close(found.map, enlarged, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.score, golden["score"], rtol=1e-3)
