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
    for threshold in (2.0, 1.0, float("inf"), float("nan")):
        assert standardise(torch.tensor([2.0, 5.0]), 2.0, threshold).tolist() == [0.0, 3.0]
    assert standardise(torch.tensor([2.0, 5.0]), 2.0, 2.5).tolist() == [0.0, 6.0]


@pytest.mark.parametrize("rule", [FalseAlarmRate(0.02), DefectArea(50)])
def test_rules_are_written_and_read(rule: FalseAlarmRate | DefectArea) -> None:
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize("text", ["far:2", "area:0", "max", "far:x"])
def test_bad_rules_are_refused(text: str) -> None:
    with pytest.raises(ContinuadError):
        parse_rule(text)


def test_the_defect_area_of_a_ramp_by_hand() -> None:
    """Above the value v of 0 to 63, row by row, lie the last 63 - v pixels, which touch."""
    ramp = np.arange(64.0).reshape(1, 8, 8)
    for pixels, expected in ((1, 63), (2, 62), (10, 54), (63, 1), (64, 0)):
        found = DefectArea(pixels).thresholds(np.array([63.0]), ramp)
        assert found == (31.5, expected, expected)
    two = np.concatenate([ramp, ramp - 20, ramp / 2])
    assert DefectArea(10).thresholds(np.zeros(3), two).pixel == 54  # the map that needs the highest


def test_a_region_that_goes_below_its_smallest_area_in_steps_is_found_by_trying_every_value() -> None:
    for seed in range(5):
        one = np.random.default_rng(seed).integers(0, 40, (12, 12)).astype(float)

        def none_left(value: float, one: np.ndarray = one) -> bool:
            return not DefectArea(4).decide(np.zeros(1), one[None], Thresholds(0, value, value))[0].any()

        lowest = min(value for value in np.unique(one) if none_left(value))
        assert DefectArea(4).thresholds(np.zeros(1), one[None]).pixel == lowest


def test_only_large_regions_stay_in_the_mask() -> None:
    maps = np.zeros((2, 5, 8))
    maps[0, 0, :2] = maps[0, 3, 2:6] = maps[1, 0, :3] = 2
    flagged, masks = DefectArea(4).decide(np.array([2.0, 2.0]), maps, Thresholds(0, 1, 1))
    assert flagged.tolist() == [True, False]
    assert masks.sum((1, 2)).tolist() == [4, 0]
    assert masks[0, 3, 2:6].all()
    assert not DefectArea(4).decide(np.zeros(2), maps, Thresholds(0, 2, 2))[1].any()  # at the threshold is not above


def test_the_centre_is_the_mean_of_all_maps_and_peaks_are_their_maxima() -> None:
    maps = np.array([[[0.0, 1], [2, 5]], [[1, 1], [1, 3]]])
    assert FalseAlarmRate().thresholds(np.array([7.0, 9.0]), maps) == (14 / 8, 5, 9)
    assert FalseAlarmRate(0.5).thresholds(np.array([7.0, 8, 9]), maps[[0, 1, 1]]) == (20 / 12, 3, 8)


def test_an_image_that_is_called_good_has_an_empty_mask() -> None:
    maps = np.array([[[0.0, 5]], [[0, 5]], [[0, 2]]])
    flagged, masks = FalseAlarmRate().decide(np.array([1.0, 2.5, 3]), maps, Thresholds(0, 2, 2))
    assert flagged.tolist() == [False, True, True]
    assert masks.tolist() == [[[False, False]], [[False, True]], [[False, False]]]


def test_rules_name_the_range_they_accept() -> None:
    assert FalseAlarmRate(0.0).thresholds(np.array([1.0, 2]), np.ones((2, 1, 1))).image == 2
    assert DefectArea(1).pixels == 1
    for rate in (1.0, -0.1):
        with pytest.raises(ContinuadError, match=rf"false alarm rate {rate} must lie in \[0, 1\)"):
            FalseAlarmRate(rate)
    with pytest.raises(ContinuadError, match="smallest defect area 0 must be at least 1 pixel"):
        DefectArea(0)
    assert (str(FalseAlarmRate(0.02)), str(DefectArea(50))) == ("far:0.02", "area:50")
    assert (parse_rule("far:0.02"), parse_rule("area:50")) == (FalseAlarmRate(0.02), DefectArea(50))
    for text in ("max", "far:x", "area:1.5", "far"):
        with pytest.raises(ContinuadError, match=f"threshold rule '{text}' is not known; use far:RATE"):
            parse_rule(text)
