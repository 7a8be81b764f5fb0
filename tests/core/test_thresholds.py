"""Thresholds from good images only, and verdicts that agree with their masks."""

import numpy as np
import pytest
import torch

from continuad.core.thresholds import DefectArea, FalseAlarmRate, Thresholds, parse_rule, standardise
from continuad.errors import ContinuadError


def test_good_images_alone_give_their_highest_score() -> None:
    maps = np.zeros((4, 5, 5), np.float32)
    maps[:, 2, 2] = [1, 2, 3, 4]
    thresholds = FalseAlarmRate(0.01).thresholds(np.array([1.0, 2, 3, 4]), maps)
    assert thresholds.image == 4
    assert thresholds.pixel == 4
    flagged, _ = FalseAlarmRate(0.01).decide(np.array([1.0, 2, 3, 4]), maps, thresholds)
    assert not flagged.any()


def test_the_quantile_is_rounded_up() -> None:
    scores = np.arange(1, 101, dtype=float)
    maps = np.broadcast_to(scores[:, None, None], (100, 2, 2))
    thresholds = FalseAlarmRate(0.05).thresholds(scores, maps)
    assert (scores > thresholds.image).sum() <= 5
    assert thresholds.image == 96


def test_image_and_mask_agree() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((50, 8, 8))
    scores = maps.reshape(50, -1).max(1)
    flagged, masks = FalseAlarmRate().decide(scores, maps, Thresholds(0, 0.99, 0.99))
    assert (masks.any((1, 2)) == flagged).all()
    assert 0 < flagged.sum() < 50


def test_largest_defect_area_by_hand() -> None:
    """A 2 x 3 block of fives around which everything is one: a limit of 5 leaves nothing, 1 leaves six pixels."""
    one = np.ones((1, 8, 8))
    one[0, 2:4, 2:5] = 5
    assert DefectArea(7).thresholds(np.array([5.0]), one).pixel == 1
    assert DefectArea(6).thresholds(np.array([5.0]), one).pixel == 5
    test = np.ones((1, 8, 8))
    test[0, 0, 0:3] = 9  # three pixels, too small
    flagged, mask = DefectArea(4).decide(np.array([9.0]), test, Thresholds(1, 5, 5))
    assert not flagged[0]
    assert not mask.any()


def test_diagonal_neighbours_are_one_region() -> None:
    one = np.zeros((1, 6, 6))
    one[0, [0, 1, 2], [0, 1, 2]] = 1
    assert DefectArea(3).decide(np.array([1.0]), one, Thresholds(0, 0.5, 0.5))[0].all()
    assert not DefectArea(4).decide(np.array([1.0]), one, Thresholds(0, 0.5, 0.5))[0].any()


def test_standardise_survives_a_degenerate_calibration() -> None:
    assert standardise(torch.tensor([2.0, 3.0]), 1.0, 3.0).tolist() == [0.5, 1.0]
    assert torch.isfinite(standardise(torch.tensor([2.0, 3.0]), 2.0, 2.0)).all()


@pytest.mark.parametrize("rule", [FalseAlarmRate(0.02), DefectArea(50)])
def test_rules_are_written_and_read(rule: FalseAlarmRate | DefectArea) -> None:
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize("text", ["far:2", "area:0", "max", "far:x"])
def test_bad_rules_are_refused(text: str) -> None:
    with pytest.raises(ContinuadError):
        parse_rule(text)
