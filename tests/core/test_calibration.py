"""Whose predictions set whose thresholds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from continuad.core.calibration import Calibration
from continuad.core.thresholds import DefectArea, FalseAlarmRate
from continuad.core.types import Prediction
from continuad.errors import ContinuadError


def batch(*rows: tuple[float, float]) -> Prediction:
    """An image each, by its score and the value of its map of one pixel."""
    score, value = torch.tensor(rows).T
    return Prediction(score, value[:, None, None])


def test_a_task_has_thresholds_of_its_own_and_all_have_those_together() -> None:
    """Of three, one and four images the highest score is the threshold, and promises one in n + 1."""
    calibration = Calibration()
    assert isinstance(calibration.rule, FalseAlarmRate)
    calibration.learn({0: [batch((1, 2), (3, 4)), batch((2, 9))], 4: iter([batch((7, 1))])})
    assert calibration.thresholds(0) == (5, 9, 3, 1 / 4)
    assert calibration.thresholds(4) == (1, 1, 7, 1 / 2)
    assert calibration.thresholds() == (4, 9, 7, 1 / 5)
    assert calibration.thresholds(1) == (4, 9, 7, 1 / 5)  # none of its own
    assert sorted(calibration.kept) == ["0", "0/images", "4", "4/images", "all", "all/images"]
    assert calibration.kept["0/images"].tolist() == [1, 2, 3]
    assert calibration.kept["all/images"].tolist() == [1, 2, 3, 7]
    assert {value.dtype for value in calibration.kept.under("").values()} == {torch.float32}


def test_a_task_keeps_its_thresholds_until_there_are_good_images_of_it_again() -> None:
    calibration = Calibration(DefectArea(1))
    assert calibration.rule == DefectArea(1)
    calibration.learn({0: [batch((1, 2))]})
    assert calibration.thresholds() == calibration.thresholds(0) == (2, 2, 2, 1 / 2)
    calibration.learn({1: [batch((1, 6))]})
    assert calibration.thresholds(0) == (2, 2, 2, 1 / 2)
    assert calibration.thresholds() == calibration.thresholds(1) == (6, 6, 6, 1 / 2)
    calibration.learn({0: [batch((1, 8))], 1: [batch((1, 4))]})
    assert [calibration.thresholds(t)[0] for t in (0, 1, None)] == [8, 4, 6]
    assert [calibration.thresholds(t).rate for t in (0, 1, None)] == [1 / 2, 1 / 2, 1 / 3]


def test_the_image_threshold_for_another_rate_follows_from_the_scores_that_are_kept() -> None:
    """Of 19 scores 1 to 19: the 19th at 5 %, ceil(20 x 0.8) = 16th at 20 %; at 1 % the 19th, which promises 5 %."""
    calibration = Calibration(FalseAlarmRate(0.05))
    calibration.learn({3: [batch(*((float(i), 1.0) for i in range(19, 0, -1)))]})
    assert calibration.thresholds(3) == (1, 1, 19, 0.05)
    assert calibration.thresholds(3, rate=0.2) == (1, 1, 16, 0.2)
    assert calibration.thresholds(3, rate=0.01) == (1, 1, 19, 1 / 20)
    assert calibration.thresholds(rate=0.2) == (1, 1, 16, 0.2)
    for rate in (1.0, -0.1):
        with pytest.raises(ContinuadError, match=rf"false alarm rate {rate} must lie in \[0, 1\)"):
            calibration.thresholds(3, rate)


def one_task(*scores: float, rate: float = 0.01) -> Calibration:
    calibration = Calibration(FalseAlarmRate(rate))
    calibration.learn({0: [batch(*((score, 1.0) for score in scores))]})
    return calibration


def test_confidence_by_hand() -> None:
    """Scores 1 to 5: threshold 5, median 3, median distance from it 1, so one deviation is 1.4826."""
    calibration = one_task(1, 2, 3, 4, 5)
    assert calibration.confidence(5) == 0.5
    assert calibration.confidence(5 + 1.4826) == pytest.approx(1 / (1 + math.exp(-1)))
    assert calibration.confidence(5 - 3 * 1.4826) == pytest.approx(1 / (1 + math.exp(3)))
    assert calibration.confidence(5, 7) == 0.5  # a task without thresholds of its own


def test_confidence_is_that_of_the_task() -> None:
    calibration = Calibration()
    calibration.learn({t: [batch((1.0 + by, 0), (2.0 + by, 0), (3.0 + by, 0))] for t, by in ((0, 0), (1, 10))})
    assert [calibration.confidence(3, 0), calibration.confidence(13, 1)] == [0.5, 0.5]
    assert calibration.confidence(3, 1) < 0.01 < 0.99 < calibration.confidence(13, 0)


def test_confidence_rises_strictly_with_the_score_and_stays_between_0_and_1() -> None:
    calibration = one_task(1, 2, 3, 4, 5)
    found = [calibration.confidence(float(score)) for score in np.linspace(-20, 30, 101)]
    assert all(low < high for low, high in itertools.pairwise(found))
    assert all(0 < value < 1 for value in found)
    assert 0 <= calibration.confidence(-1e30) < 1e-300
    assert calibration.confidence(1e30) == 1


@pytest.mark.parametrize("scores", [(2.0,), (2.0, 2.0, 2.0)])
def test_confidence_where_good_images_have_no_deviation(scores: tuple[float, ...]) -> None:
    calibration = one_task(*scores)
    assert [calibration.confidence(value) for value in (1.9, 2.0, 2.1)] == [0.0, 0.5, 1.0]


def test_copies_of_an_image_promise_no_more_than_the_image_does() -> None:
    once, copied = one_task(1, 2, 3, 4), one_task(1, 1, 1, 2, 2, 3, 4, 4, 4, 4)
    for rate in (0.01, 0.3, 0.5):
        assert copied.thresholds(0, rate) == once.thresholds(0, rate)._replace(centre=copied.thresholds(0).centre)
    assert copied.thresholds(0, 0.01).rate == 1 / 5


def test_before_anything_is_learned_there_are_no_thresholds() -> None:
    for task in (0, None):
        with pytest.raises(ContinuadError, match="the model is not trained yet: learn a task first"):
            Calibration().thresholds(task)
