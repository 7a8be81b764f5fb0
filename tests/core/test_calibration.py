"""Whose predictions set whose thresholds."""

from __future__ import annotations

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
    calibration = Calibration()
    assert isinstance(calibration.rule, FalseAlarmRate)
    calibration.learn({0: [batch((1, 2), (3, 4)), batch((2, 9))], 4: iter([batch((7, 1))])})
    assert calibration.thresholds(0) == (5, 9, 3)
    assert calibration.thresholds(4) == (1, 1, 7)
    assert calibration.thresholds() == (4, 9, 7)
    assert calibration.thresholds(1) == (4, 9, 7)  # none of its own
    assert sorted(calibration.kept) == ["0", "4", "all"]
    assert {value.dtype for value in calibration.kept.under("").values()} == {torch.float32}


def test_a_task_keeps_its_thresholds_until_there_are_val_images_of_it_again() -> None:
    calibration = Calibration(DefectArea(1))
    assert calibration.rule == DefectArea(1)
    calibration.learn({0: [batch((1, 2))]})
    assert calibration.thresholds() == calibration.thresholds(0) == (2, 2, 2)
    calibration.learn({1: [batch((1, 6))]})
    assert calibration.thresholds(0) == (2, 2, 2)
    assert calibration.thresholds() == calibration.thresholds(1) == (6, 6, 6)
    calibration.learn({0: [batch((1, 8))], 1: [batch((1, 4))]})
    assert [calibration.thresholds(t)[0] for t in (0, 1, None)] == [8, 4, 6]


def test_before_anything_is_learned_there_are_no_thresholds() -> None:
    for task in (0, None):
        with pytest.raises(ContinuadError, match="the model is not trained yet: learn a task first"):
            Calibration().thresholds(task)
