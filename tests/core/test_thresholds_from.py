"""Which good images are learned from, and which set thresholds."""

from __future__ import annotations

import gc
import logging
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import ToyAutoencoder, images_of, stream

from continuad.core.batches import in_order
from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.strategy import Strategy, folds_of
from continuad.core.thresholds import DefectArea, FalseAlarmRate
from continuad.core.types import Chosen, Images, ImageSet, Prediction, Task
from continuad.detectors.padim import Padim
from continuad.detectors.patchcore import PatchCore
from continuad.detectors.spade import Spade
from continuad.errors import ContinuadError
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.replay import Replay

TASKS = stream()


def all_at_once(images: Images) -> Tensor:
    return next(in_order(images, len(images))).image


def learned_by_hand(detector: Detector, images: ImageSet) -> Detector:
    detector.begin(iter(()), "restart")
    for batch in in_order(images, detector.batch_size):
        detector.step(batch.image)
    detector.finish()
    return detector


@pytest.mark.parametrize("kind", [Padim, PatchCore, Spade])
def test_from_val_images_it_learns_the_train_images_and_nothing_else(kind: type[Detector]) -> None:
    strategy = Naive(kind(64))
    strategy.thresholds_from = "val"
    strategy.learn(TASKS[0])
    by_hand = learned_by_hand(kind(64), TASKS[0].train)
    assert all(torch.equal(strategy.detector.stats[name], by_hand.stats[name]) for name in by_hand.stats)
    scores = strategy.predict(all_at_once(TASKS[0].val)).score
    assert strategy.thresholds(0)[2:] == (float(scores.max()), 1 / 5)
    assert torch.equal(strategy.predict(all_at_once(TASKS[0].val), out_of_fold=True).score, scores)


@pytest.mark.parametrize("kind", [Padim, PatchCore, Spade])
def test_from_all_images_it_learns_every_good_image_and_predicts_each_without_it(kind: type[Detector]) -> None:
    strategy = Naive(kind(64))
    strategy.learn(TASKS[0])
    everything = TASKS[0].all_good()
    by_hand = learned_by_hand(kind(64), everything)  # type: ignore[arg-type]
    assert all(torch.equal(strategy.detector.stats[name], by_hand.stats[name]) for name in by_hand.stats)
    inside = strategy.predict(all_at_once(everything)).score
    outside = strategy.predict(all_at_once(everything), out_of_fold=True).score
    assert strategy.thresholds(0).image == pytest.approx(float(outside.max()), rel=1e-4)
    assert strategy.thresholds(0).rate == 1 / 17
    assert inside.max() < 0.95 * outside.max()  # SPADE's is a mean over 16 images, of which one is the image itself


def test_a_gradient_detector_takes_thresholds_from_val_images_that_it_does_not_learn() -> None:
    first, second = Naive(ToyAutoencoder()), Naive(ToyAutoencoder())
    first.thresholds_from = "val"
    for strategy in (first, second):
        strategy.learn(TASKS[0])
    assert all(torch.equal(w, second.detector.weights()[name]) for name, w in first.detector.weights().items())
    assert first.thresholds(0) == second.thresholds(0)
    assert first.thresholds(0)[2:] == (float(second.predict(all_at_once(TASKS[0].val)).score.max()), 1 / 5)


class Number(Detector):
    """Learns by gradient, and scores an image's grey value by its distance from those it learned. Not out of fold."""

    steps = 40

    def __init__(self) -> None:
        super().__init__(32)
        self.w = torch.nn.Parameter(torch.zeros(()))
        self.seen: set[int] = set()
        self.asked: list[tuple[frozenset[int], list[int]]] = []

    def step(self, images: Tensor) -> Tensor:
        self.seen |= {int(value) for value in images[:, 0, 0, 0]}
        return (self.w - 1) ** 2

    def _predict(self, images: Tensor) -> Prediction:
        values = images[:, 0, 0, 0].float()
        self.asked.append((frozenset(self.seen), [int(value) for value in values]))
        return Prediction(values, values[:, None, None].expand(-1, *self.image_size))


def numbers(train: int, val: int) -> Task:
    """Good images of grey value 0, 1, 2 and so on; val images go on from where train images end."""
    sets = [images_of(0, n, defects=False, seed=0, size=32) for n in (train, val)]
    for images, start in zip(sets, (0, train), strict=True):
        images.images[:] = (torch.arange(len(images)) + start)[:, None, None, None].numpy()
    return Task(0, "numbers", *sets, sets[1])


def crossfitted(folds: int, task: Task, strategy: Strategy | None = None) -> Strategy:
    strategy = strategy or Naive(Number())
    strategy.thresholds_from = f"crossfit:{folds}"
    strategy.learn(task)
    return strategy


def test_cross_fitted_every_good_image_is_predicted_by_a_copy_that_did_not_learn_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[frozenset[int], list[int]]] = []
    real = Number._predict

    def noted(self: Number, images: Tensor) -> Prediction:
        asked.append((frozenset(self.seen), [int(value) for value in images[:, 0, 0, 0]]))
        return real(self, images)

    monkeypatch.setattr(Number, "_predict", noted)
    strategy = crossfitted(3, numbers(8, 2))
    # of each fold first its calibration by the copy, then the predictions that count
    assert {(*sorted(seen), *values) for seen, values in asked} == {
        (1, 2, 4, 5, 7, 8, 0, 3, 6, 9),
        (0, 2, 3, 5, 6, 8, 9, 1, 4, 7),
        (0, 1, 3, 4, 6, 7, 9, 2, 5, 8),
    }
    assert strategy.detector.seen == set(range(8)), "the model itself learns the train images"  # type: ignore[operator, union-attr]
    assert strategy.calibration.kept["0/images"].tolist() == list(range(10))
    assert strategy.thresholds(0)[2:] == (9, 1 / 11)


def test_cross_fitting_leaves_the_model_as_if_it_had_learned_the_train_images_alone() -> None:
    one = crossfitted(2, TASKS[0], Naive(ToyAutoencoder()))
    plain = Naive(ToyAutoencoder())
    plain.learn(TASKS[0])
    assert all(torch.equal(w, plain.detector.weights()[name]) for name, w in one.detector.weights().items())
    assert [task.name for task in one.tasks] == ["zebra"]
    assert len(one.calibration.kept["0/images"]) == 16


def test_cross_fitting_shows_one_progress_of_all_folds_and_holds_one_copy_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive: weakref.WeakSet[ToyAutoencoder] = weakref.WeakSet()
    most, shares = [], []
    strategy = Naive(ToyAutoencoder())
    strategy.thresholds_from = "crossfit:4"
    real = ToyAutoencoder.step

    def noted(self: ToyAutoencoder, images: Tensor) -> Tensor:
        alive.add(self)
        gc.collect()
        most.append(len(alive))
        return real(self, images)

    monkeypatch.setattr(ToyAutoencoder, "step", noted)
    strategy.budget = Budget(steps=3)
    strategy.learn(TASKS[0], lambda done, total: shares.append(done / total))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) >= 15, "three steps of each of four copies and of the model"
    assert max(most) <= 2, "a copy, and at most the one that is being put away"


def test_there_are_no_more_folds_than_images_and_a_single_one_is_not_cross_fitted() -> None:
    assert crossfitted(9, numbers(2, 1)).calibration.kept["0/images"].tolist() == [0, 1, 2]
    one = numbers(1, 1)
    alone = replace(one, val=one.train)
    assert crossfitted(5, alone).thresholds(0).rate == 1 / 2


def test_what_predicts_out_of_fold_needs_no_cross_fitting() -> None:
    folded, plain = crossfitted(5, TASKS[0], Naive(Padim(64, channels=12))), Naive(Padim(64, channels=12))
    plain.learn(TASKS[0])
    assert folded.thresholds(0) == plain.thresholds(0)


def test_cross_fitting_and_early_stopping_exclude_each_other() -> None:
    strategy = Naive(ToyAutoencoder())
    strategy.budget = Budget(epochs=1, patience=1)
    with pytest.raises(ContinuadError, match="cross-fitting leaves no val images to stop early by"):
        crossfitted(2, TASKS[0], strategy)
    assert strategy.tasks == []


def test_cross_fitting_replays_what_is_remembered() -> None:
    strategy = Replay(ToyAutoencoder(), 6)
    strategy.budget = Budget(steps=2)
    for task in TASKS[:2]:
        crossfitted(2, task, strategy)
    assert len(strategy.memory) == 6
    assert len(strategy.calibration.kept["1/images"]) == 16
    assert strategy.thresholds(1).rate == 1 / 17
    kept = len(strategy.memory.part(val=True, task=0))  # type: ignore[union-attr, arg-type]
    assert strategy.thresholds(0).rate == 1 / (kept + 1), "an earlier task's own are set by its val exemplars"


def test_multitask_refuses_to_cross_fit() -> None:
    strategy = Multitask(ToyAutoencoder())
    strategy.thresholds_from = "crossfit:2"
    with pytest.raises(ContinuadError, match=r"multitask .* cannot set thresholds by crossfit:2; use train or val"):
        strategy.learn(strategy.view(TASKS)[0])


@pytest.mark.parametrize(("text", "folds"), [("train", 0), ("val", 0), ("crossfit:2", 2), ("crossfit:10", 10)])
def test_how_many_folds_are_asked_for(text: str, folds: int) -> None:
    assert folds_of(text) == folds


@pytest.mark.parametrize(
    "text", ["", "test", "crossfit", "crossfit:1", "crossfit:-2", "crossfit:x", "trainval", "val:3"]
)
def test_what_thresholds_cannot_come_from_is_refused(text: str) -> None:
    with pytest.raises(ContinuadError, match=f"thresholds from '{text}' are not known; use train, val or crossfit:N"):
        folds_of(text)
    strategy = Naive(ToyAutoencoder())
    strategy.thresholds_from = text
    with pytest.raises(ContinuadError, match=f"thresholds from '{text}'"):
        strategy.learn(TASKS[0])


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (FalseAlarmRate(0.01), "numbers: its good images can promise 1 false alarm in 5, not 1 %"),
        (FalseAlarmRate(0.2), ""),  # of four images: 1 in 5
        (FalseAlarmRate(0.0), ""),  # as few as can be was asked for
        (DefectArea(1), ""),
    ],
)
def test_what_few_images_can_promise_is_said(
    rule: FalseAlarmRate | DefectArea, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = Naive(Number())
    strategy.calibration.rule = rule
    with caplog.at_level(logging.WARNING):
        strategy.learn(numbers(6, 4))
    assert caplog.messages == ([said] if said else [])


def test_a_task_that_is_all_in_one_counts_its_images_once() -> None:
    task = TASKS[0]
    assert not task.all_in_one
    assert len(task.all_good()) == 16
    whole = task.with_all_in_one()
    assert whole.all_in_one
    assert whole.train is whole.val
    assert len(whole.all_good()) == len(whole.with_all_in_one().all_good()) == 16
    assert torch.equal(all_at_once(whole.all_good())[12:], all_at_once(task.val))
    assert whole.test is task.test


def test_chosen_images_are_those_at_their_places() -> None:
    chosen = Chosen(TASKS[0].train, [7, 2, 5])
    assert len(chosen) == 3
    pixels = torch.from_numpy(TASKS[0].train.images)
    assert torch.equal(chosen[1].image, pixels[2])
    assert torch.equal(chosen.__getitems__([2, 0]).image, pixels[[5, 7]])
