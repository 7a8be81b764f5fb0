"""Latent replay: what is kept, that it is what the backbone would say, and that it keeps an earlier task alive."""

from __future__ import annotations

import pytest
import torch
from toys import SIZE, stream

from continuad.core.fit import Budget
from continuad.core.footprint import MEGABYTE, footprint
from continuad.core.strategy import Strategy
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
    thresholds = 3 * 3 * 4  # of each task, and for everything
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


def test_limits_hold_for_every_task(tmp_path: object) -> None:
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
    with pytest.raises(ContinuadError, match="at least 2"):
        Latent(FastFlow(**SMALL), 1)  # type: ignore[arg-type]
