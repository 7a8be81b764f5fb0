"""Latent replay: what is kept, that it is what the backbone would say, and that it keeps an earlier task alive."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn
from toys import SIZE, images_of, stream

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.footprint import MEGABYTE, footprint
from continuad.core.strategy import Strategy
from continuad.core.types import ImageSet, Prediction, Task
from continuad.detectors.cfa import Cfa
from continuad.detectors.fastflow import FastFlow
from continuad.detectors.stfpm import Stfpm
from continuad.errors import ContinuadError
from continuad.models.store import load_model, save_model
from continuad.strategies.latent import Latent
from continuad.strategies.naive import Naive

TASKS = stream()
SMALL = {"image_size": SIZE, "strides": (16,), "flow_steps": 2}


def taught(strategy: Strategy, tasks: int, steps: int = 3) -> Strategy:
    strategy.budget = Budget(steps=steps)
    for task in TASKS[:tasks]:
        strategy.learn(task)
    return strategy


def test_shares_are_equal_and_their_bytes_counted() -> None:
    """Of ten exemplars each of two tasks keeps five, one of them a val image: 112 channels at 4 x 4, two bytes each."""
    strategy = taught(Latent(FastFlow(**SMALL), 10), 2, 1)  # type: ignore[arg-type]
    for task in (0, 1):
        assert strategy.kept[f"learned/{task}/0"].shape == (4, 112, 4, 4)
        assert strategy.kept[f"val/{task}/0"].shape == (1, 112, 4, 4)
    thresholds = (3 * 3 + 1 + 4 + 5) * 4  # of each task and for everything, and the val images' scores behind them
    trained = 1
    assert footprint(strategy).additional == pytest.approx((10 * 112 * 16 * 2 + thresholds + trained) / MEGABYTE)


def test_the_loss_on_what_is_kept_is_the_loss_on_the_images() -> None:
    strategy = taught(Latent(FastFlow(**SMALL), 300), 1, 1)  # type: ignore[arg-type]
    detector = strategy.detector
    images = torch.from_numpy(TASKS[0].train.images)
    on_images = detector.step(images)
    on_kept = strategy.penalty(images)
    assert isinstance(on_images, torch.Tensor)
    assert isinstance(on_kept, torch.Tensor)
    assert len(strategy.kept["learned/0/0"]) == len(images)
    assert on_kept.item() == pytest.approx(on_images.item(), rel=1e-3)  # half precision


def test_it_learns_the_earlier_task_again() -> None:
    """After a second task the first one's loss is lower than without."""
    images = torch.from_numpy(TASKS[0].train.images)
    losses = []
    for strategy in (Naive(FastFlow(**SMALL)), Latent(FastFlow(**SMALL), 300)):  # type: ignore[arg-type]
        taught(strategy, 2, 40)
        with torch.no_grad():
            losses.append(float(strategy.detector.step(images)))  # type: ignore[arg-type]
    assert losses[1] < losses[0] - 100


def test_a_tasks_threshold_is_its_highest_val_score_after_later_tasks_too(tmp_path: object) -> None:
    strategy = taught(Latent(FastFlow(**SMALL), 300), 2)  # type: ignore[arg-type]
    scores = torch.cat([strategy.predict(torch.from_numpy(task.val.images)).score for task in TASKS[:2]])
    assert strategy.thresholds(0).image == pytest.approx(float(scores.max()), abs=1e-3)
    save_model(strategy, str(tmp_path))
    again, _ = load_model(str(tmp_path))
    images = torch.from_numpy(TASKS[0].test.images)
    assert torch.equal(again.predict(images).map, strategy.predict(images).map)


def test_centres_add_up() -> None:
    strategy = taught(Latent(Cfa(SIZE), 4), 2)
    assert int(strategy.detector.stats["count"]) == sum(len(task.train) for task in TASKS[:2])


def test_detectors_that_learn_from_pixels_are_refused() -> None:
    with pytest.raises(ContinuadError, match="learns from more"):
        Latent(Stfpm(SIZE))
    with pytest.raises(ContinuadError, match="option exemplars is 1; allowed: a whole number, 2 to"):
        Latent(FastFlow(**SMALL), 1)  # type: ignore[arg-type]


class LevelDetector(Detector):
    """Two levels: an image's first pixel, and ten times it. The loss is w times their mean sum."""

    batch_size, steps = 4, 1

    def __init__(self) -> None:
        super().__init__(32)
        self.w = nn.Parameter(torch.ones(()))
        self.calibrated: list[list[float]] = []
        self.learned_from: list[float] = []

    def embedder(self) -> nn.Module:
        return self

    def embed(self, images: Tensor) -> list[Tensor]:
        x = images[:, :1, :1, :1].float()
        return [x, 10 * x]

    def step(self, images: Tensor) -> Tensor:
        return self.step_on(self.embed(images))

    def step_on(self, levels: list[Tensor]) -> Tensor:
        assert all(level.dtype == torch.float32 for level in levels)
        assert torch.equal(10 * levels[0], levels[1])
        self.learned_from += levels[0].flatten().tolist()
        return self.w * (levels[0] + levels[1]).mean()

    def predict_on(self, levels: list[Tensor]) -> Prediction:
        return Prediction(levels[0].flatten(), levels[1].expand(-1, -1, 32, 32)[:, 0])

    def _predict(self, images: Tensor) -> Prediction:
        return self.predict_on(self.embed(images))

    def calibrate_on(self, levels: Iterable[list[Tensor]]) -> None:
        self.calibrated.append([value for level in levels for value in level[0].flatten().tolist()])


def numbered(first: int, count: int) -> ImageSet:
    images = images_of(0, count, defects=False, seed=0, size=32)
    images.images[:] = torch.arange(first, first + count).view(-1, 1, 1, 1).numpy()
    return images


def numbers(index: int, train: int, val: int) -> Task:
    """Train images hold 100 t, 100 t + 1, ..., val images 100 t + 50, ..."""
    return Task(index, f"t{index}", numbered(100 * index, train), numbered(100 * index + 50, val), numbered(0, 1))


def kept(strategy: Latent, part: str, task: int) -> list[float]:
    first, second = (strategy.kept[f"{part}/{task}/{level}"] for level in (0, 1))
    assert first.dtype == torch.float16
    assert torch.equal(second, 10 * first)
    return first.flatten().tolist()


def test_shares_shrink_as_tasks_come_and_a_tenth_of_each_is_val_images() -> None:
    """40 exemplars: at first 36 of the 40 train images and 4 val images, then 18 and 2 of each of two tasks."""
    strategy = Latent(LevelDetector(), 40)
    strategy.learn(numbers(0, 40, 5))
    first = kept(strategy, "learned", 0), kept(strategy, "val", 0)
    assert [len(part) for part in first] == [36, 4]
    assert set(first[0]) < set(range(40))
    assert len(set(first[0])) == 36
    assert set(first[1]) < set(range(50, 55))
    strategy.learn(numbers(1, 40, 5))
    assert (kept(strategy, "learned", 0), kept(strategy, "val", 0)) == (first[0][:18], first[1][:2])
    assert [len(kept(strategy, part, 1)) for part in ("learned", "val")] == [18, 2]
    storage = strategy.kept["learned/0/0"].untyped_storage().nbytes()
    assert storage == 18 * 2  # what was cut off is let go


def test_a_small_task_is_kept_whole_and_leaves_its_share_to_val_images_and_others() -> None:
    strategy = Latent(LevelDetector(), 100)
    strategy.learn(numbers(0, 3, 2))
    assert sorted(kept(strategy, "learned", 0)) == [0, 1, 2]
    assert sorted(kept(strategy, "val", 0)) == [50, 51]


def test_thresholds_and_calibration_rest_on_the_val_images_of_all_tasks() -> None:
    strategy = Latent(LevelDetector(), 300)
    strategy.learn(numbers(0, 6, 5))
    strategy.learn(numbers(1, 6, 5))
    assert sorted(strategy.detector.calibrated[-1]) == [*range(50, 55), *range(150, 155)]  # type: ignore[union-attr, index, operator, type-var]
    assert strategy.thresholds(0) == (520, 540, 54, 1 / 6)  # type: ignore[comparison-overlap]
    assert strategy.thresholds(1) == (1520, 1540, 154, 1 / 6)
    assert strategy.thresholds() == (1020, 1540, 154, 1 / 11)


def test_a_step_draws_as_many_exemplars_as_there_are_new_images_from_all_tasks_alike() -> None:
    strategy = Latent(LevelDetector(), 300)
    assert strategy.penalty(torch.zeros(4, 3, 32, 32)) == 0.0
    strategy.learn(numbers(0, 9, 1))
    strategy.learn(numbers(1, 9, 1))
    torch.manual_seed(0)
    seen: list[float] = []
    for _ in range(200):
        strategy.detector.learned_from = []
        loss = strategy.penalty(torch.zeros(4, 3, 32, 32))
        found: list[float] = strategy.detector.learned_from  # type: ignore[assignment]
        assert len(set(found)) == 4
        w = float(strategy.detector.w.detach())  # type: ignore[operator, union-attr]
        assert float(torch.as_tensor(loss).detach()) == pytest.approx(w * 11 * sum(found) / 4)
        seen += found
    assert set(seen) == {*range(9), *range(100, 109)}
    assert sum(value < 50 for value in seen) == pytest.approx(400, abs=60)


def test_the_fewest_exemplars_are_one_to_learn_and_one_val_image() -> None:
    strategy = Latent(LevelDetector(), 2)
    strategy.learn(numbers(0, 6, 5))
    assert [len(kept(strategy, part, 0)) for part in ("learned", "val")] == [1, 1]


def test_each_task_and_seed_draws_exemplars_of_its_own() -> None:
    found = []
    for index, seed in ((0, 0), (0, 0), (1, 0), (0, 1)):
        strategy = Latent(LevelDetector(), 10, seed=seed)
        strategy.learn(numbers(index, 40, 5))
        found.append([value - 100 * index for value in kept(strategy, "learned", index)])
    assert found[0] == found[1]
    assert len({tuple(each) for each in found}) == 3
