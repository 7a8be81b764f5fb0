"""What verdicts are worth, by hand: false alarms and caught defects at the thresholds in use and at stated rates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from continuad.benchmark.evaluate import HIGHEST, evaluate, good_again
from continuad.benchmark.run import run
from continuad.core.batches import in_order
from continuad.core.detector import Detector
from continuad.core.strategy import Strategy
from continuad.core.thresholds import FalseAlarmRate
from continuad.core.types import ImageSet, Prediction, Task
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.single import Single

SIZE = 32


class Grey(Detector):
    """Scores an image by its first pixel; its map is the image's red channel. It learns nothing."""

    learns_by = "statistics"

    def __init__(self) -> None:
        super().__init__(SIZE)

    def step(self, images: Tensor) -> None:
        self.stats["seen"] = torch.tensor(True)

    def _predict(self, images: Tensor) -> Prediction:
        red = images[:, 0].float()
        return Prediction(red[:, 0, 0], red)


class WithoutItself(Grey):
    """Out of fold, an image scores 100 higher."""

    def step_of(self, images: Tensor, owners: Tensor) -> None:
        self.step(images)

    def predict_without(self, images: Tensor, owners: Tensor) -> Prediction:
        found = self._predict(images)
        return Prediction(found.score + 100, found.map + 100)


def grey(good: list[int], defective: list[int] | None = None) -> ImageSet:
    """One image of each level; of a defective one the upper half is the defect, and the rest black."""
    levels, labels = np.array([*good, *(defective or [])]), np.arange(len(good) + len(defective or [])) >= len(good)
    images = np.zeros((len(levels), 3, SIZE, SIZE), np.uint8)
    images[:] = levels[:, None, None, None]
    images[labels, :, SIZE // 2 :] = 0
    masks = np.zeros((len(levels), SIZE, SIZE), bool)
    masks[labels, : SIZE // 2] = True
    paths = tuple(Path(f"{level}.png") for level in levels)
    known = np.ones(len(levels), bool)
    return ImageSet(images, labels, masks, known, ("good",) * len(levels), paths, ((SIZE, SIZE),) * len(levels))


def product(index: int, start: int) -> Task:
    """39 val images of level 1 to 39 above a start: the 38th is the threshold at 5 %, the highest at 1 %. Tested are
    three good and four defective ones."""
    test = grey([start + 20, start + 39, start + 50], [start + 30, start + 40, start + 60, start + 39])
    return Task(index, f"p{index}", grey([start]), grey([start + i for i in range(1, 40)]), test)


def taught(strategy: Strategy, *tasks: Task) -> Strategy:
    strategy.calibration.rule = FalseAlarmRate(0.05)
    for task in strategy.view(tasks):
        strategy.learn(task)
    return strategy


OWN = {
    "image_fpr_promised": 0.05,
    "image_fpr": 2 / 3,  # 39 and 50 of 20, 39, 50 lie above 38
    "image_recall": 3 / 4,  # 40, 60 and 39 of 30, 40, 60, 39
    "image_f1": 2 * 3 / (2 * 3 + 2 + 1),
    "image_fpr_5pct": 2 / 3,
    "image_recall_5pct": 3 / 4,
    "image_fpr_1pct": 1 / 3,  # above 39
    "image_recall_1pct": 2 / 4,
}


def test_verdicts_of_one_product_by_hand() -> None:
    task = product(0, 0)
    strategy = taught(Naive(Grey()), task)
    assert strategy.thresholds(0)[2:] == (38, 0.05)
    values, outcome = evaluate(strategy, task)
    assert {name: values[name] for name in OWN} == pytest.approx(OWN)
    assert {name: values[f"oracle_{name}"] for name in OWN} == pytest.approx(OWN)
    assert outcome.flagged.tolist() == [False, True, True, False, True, True, True]
    assert not {"task_accuracy", "unknown_rate"} & set(values)


def test_the_mask_of_an_image_that_passes_is_empty_and_counts_as_missed() -> None:
    """Good pixels are 1 to 39, so 39 is the pixel threshold: of the flagged 50, 40 and 60 whole masks remain. The 50
    is whole and wrong; the 30 passes, and of the flagged 39 no pixel exceeds 39."""
    task = product(0, 0)
    values, outcome = evaluate(taught(Naive(Grey()), task), task)
    half = SIZE * SIZE // 2
    assert outcome.decided.sum((1, 2)).tolist() == [0, 0, 2 * half, 0, half, half, 0]
    assert values["pixel_f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))  # in halves: 2 right, 2 wrong, 2 missed


def test_not_given_the_product_naive_judges_by_the_newest_and_given_it_by_the_products_own() -> None:
    """The second product lies 100 higher: by its threshold of 138 nothing of the first is anomalous."""
    first, second = product(0, 0), product(1, 100)
    strategy = taught(Naive(Grey()), first, second)
    values, _ = evaluate(strategy, first)
    assert {name: values[name] for name in ("image_fpr", "image_recall", "image_f1")} == {
        "image_fpr": 0,
        "image_recall": 0,
        "image_f1": 0,
    }
    assert {name: values[f"oracle_{name}"] for name in OWN} == pytest.approx(OWN)
    assert values["image_auroc"] == values["oracle_image_auroc"]


def test_for_everything_the_threshold_is_that_of_all_images_together() -> None:
    """Multitask has 78 val images: the ceil(79 x 0.95) = 76th at 5 %, level 137, and the highest, 139, at 1 %."""
    first, second = product(0, 0), product(1, 100)
    strategy = taught(Multitask(Grey()), first, second)
    assert strategy.thresholds()[2:] == (137, 0.05)
    assert strategy.thresholds(rate=0.01)[2:] == (139, 1 / 79)
    values, outcome = evaluate(strategy, second)
    assert outcome.flagged.tolist() == [False, True, True, False, True, True, True]
    assert values["image_fpr_1pct"] == pytest.approx(1 / 3)
    assert values["oracle_image_recall"] == pytest.approx(3 / 4)


def test_who_must_be_given_the_product_has_no_oracle_beside() -> None:
    task = product(0, 0)
    values, _ = evaluate(taught(Single(Grey()), task), task)
    assert {name: values[name] for name in OWN} == pytest.approx(OWN)
    assert not [name for name in values if name.startswith("oracle_")]


def test_a_product_still_to_come_has_no_oracle() -> None:
    values, _ = evaluate(taught(Naive(Grey()), product(0, 0)), product(1, 100), learned=False)
    assert values["image_fpr"] == values["image_recall"] == 1
    assert not [name for name in values if name.startswith("oracle_")]


class Inferring(Naive):
    """It takes dark images for task 0, bright ones for task 1, and those above 200 for neither."""

    infers_task_by = ("brightness",)

    def infer_task(self, images: Tensor, how: str | None = None) -> Tensor:
        level = images[:, 0, 0, 0]
        return (level >= 70).long().where(level < 200, -1)

    def task_distance(self, images: Tensor) -> Tensor:
        return (images[:, 0, 0, 0] >= 200).float() * 2

    def _predict(self, images: Tensor, task: int | None, out_of_fold: bool) -> Prediction:
        found = super()._predict(images, task, out_of_fold)
        return found if task is not None else found._replace(task=self.infer_task(images))


def test_an_image_is_judged_by_the_thresholds_of_the_task_it_is_taken_for() -> None:
    first, second = product(0, 0), product(1, 100)
    strategy = taught(Inferring(Grey()), first, second)
    mixed = Task(0, "p0", first.train, first.val, grey([20, 39, 120], [50, 110, 150, 210]))
    values, outcome = evaluate(strategy, mixed)
    # 20, 39 and 50 by 38; 120, 110 and 150 by 138; 210, which is taken for neither, by that for everything, 138
    assert outcome.flagged.tolist() == [False, True, False, True, False, True, True]
    assert values["image_fpr"] == pytest.approx(1 / 3)
    assert values["image_recall"] == pytest.approx(3 / 4)
    assert values["oracle_image_fpr"] == pytest.approx(2 / 3)
    assert values["oracle_image_recall"] == 1
    assert values["task_accuracy"] == pytest.approx(3 / 7)
    assert values["unknown_rate"] == pytest.approx(1 / 7)


class InferringNothing(Inferring):
    """It takes every image for none of the tasks."""

    def infer_task(self, images: Tensor, how: str | None = None) -> Tensor:
        return torch.full((len(images),), -1)


def test_an_image_of_no_task_does_not_pass_as_good_whatever_it_scores() -> None:
    strategy = taught(InferringNothing(Grey()), product(0, 0))
    low = Task(0, "p0", grey([0]), grey([0]), grey([1, 2, 3], [4, 5]))
    values, outcome = evaluate(strategy, low)
    assert outcome.flagged.all()
    assert outcome.decided is not None
    assert not outcome.decided.any()
    assert (values["image_fpr"], values["image_fpr_5pct"], values["image_recall_1pct"]) == (1, 1, 1)
    assert values["oracle_image_fpr"] == 0


def test_good_images_are_looked_at_again_out_of_fold_by_the_products_own_threshold() -> None:
    """39 + 1 images score 100 to 139 as if they had not been learned; the ceil(41 x 0.95) = 39th, 138, is the
    threshold, and the mean map 119.5. Of them all one lies above it; the median is 119.5, an ordinary one."""
    task = product(0, 0)
    strategy = taught(Naive(WithoutItself()), task)
    assert strategy.thresholds(0)[2:] == (138, 0.05)
    values, highest, outcome = good_again(strategy, task, None, task_given=False)
    assert values == {"good_fpr": pytest.approx(1 / 40), "good_level": pytest.approx(0)}
    assert outcome.scores.tolist() == [139, 138, 137, 136, 135, 134]
    assert outcome.flagged.tolist() == [True] + [False] * 5
    assert [path.name for path in highest.paths] == [f"{level}.png" for level in range(39, 33, -1)]
    assert len(highest) == HIGHEST
    assert next(in_order(highest, HIGHEST)).image[:, 0, 0, 0].tolist() == [39, 38, 37, 36, 35, 34]


def test_after_another_product_the_old_ones_good_images_are_judged_by_what_they_had() -> None:
    first, second = product(0, 0), product(1, 100)
    strategy = taught(Naive(WithoutItself()), first, second)
    brighter = Task(0, "p0", grey([60]), grey(list(range(21, 60))), first.test)  # as if the model had drifted by 20
    values, _, _ = good_again(strategy, brighter, None, task_given=False)
    assert values["good_fpr"] == pytest.approx(22 / 40)  # 139 to 160 lie above 138
    assert values["good_level"] == pytest.approx((140.5 - 119.5) / (138 - 119.5))


def test_where_nothing_can_be_left_out_only_val_images_are_looked_at_again() -> None:
    """The train image, of level 0, takes no part: 38 of 39 do not exceed 38."""
    task = product(0, 0)
    values, highest, _ = good_again(taught(Naive(Grey()), task), task, None, task_given=False)
    assert values == {"good_fpr": pytest.approx(1 / 39), "good_level": pytest.approx(0)}
    assert highest.paths[0].name == "39.png"


def test_a_strategy_that_infers_tasks_is_not_given_whose_good_images_they_are() -> None:
    strategy = taught(Inferring(Grey()), product(0, 0), product(1, 100))
    mistaken = Task(0, "p0", grey([0]), grey([100] * 9 + [150]), grey([]))
    values, _, outcome = good_again(strategy, mistaken, None, task_given=False)
    assert outcome.tasks is not None
    assert set(outcome.tasks.tolist()) == {1}
    assert values["good_fpr"] == pytest.approx(1 / 10)  # 150 alone exceeds 138; all of them exceed 38
    assert good_again(strategy, mistaken, None, task_given=True)[0]["good_fpr"] == 1


def test_a_run_of_good_images_alone_is_measured_after_every_product() -> None:
    tasks = [Task(t, f"p{t}", grey([t * 50]), grey([t * 50 + i for i in range(1, 40)]), grey([])) for t in range(2)]
    strategy = Naive(Grey())
    strategy.calibration.rule = FalseAlarmRate(0.05)
    rows = run(tasks, strategy)
    found = rows[rows.metric == "good_fpr"]
    assert list(zip(found.after_task, found.on_task, strict=True)) == [(0, 0), (1, 0), (1, 1)]
    assert found.value.tolist() == pytest.approx([1 / 39] * 3)
    assert not rows.metric.str.startswith("image_").any()
