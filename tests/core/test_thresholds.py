"""Thresholds from good images only, what they promise, and verdicts that agree with their masks."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from continuad.core.calibration import Calibration
from continuad.core.thresholds import (
    DRAWN_PIXELS,
    DefectArea,
    FalseAlarmRate,
    Rule,
    Thresholds,
    confident,
    conformal,
    conformal_place,
    parse_rule,
    standardise,
)
from continuad.core.types import Prediction
from continuad.errors import ContinuadError


def thresholds_of(rule: Rule, scores: np.ndarray, maps: np.ndarray) -> Thresholds:
    """As a model sets them from predictions of good images, two at a time."""
    calibration = Calibration(rule)
    batches = zip(torch.tensor(scores).split(2), torch.tensor(maps).split(2), strict=True)
    calibration.learn({0: (Prediction(*batch) for batch in batches)})
    return calibration.thresholds(0)


def test_good_images_alone_give_their_highest_score() -> None:
    maps = np.zeros((4, 5, 5), np.float32)
    maps[:, 2, 2] = [1, 2, 3, 4]
    thresholds = thresholds_of(FalseAlarmRate(0.01), np.array([1.0, 2, 3, 4]), maps)
    assert thresholds.image == 4
    assert thresholds.rate == 1 / 5
    flagged, masks = FalseAlarmRate(0.01).decide(np.array([1.0, 2, 3, 4]), maps, thresholds)
    assert not flagged.any()
    assert not masks.any()


@pytest.mark.parametrize(
    ("n", "rate", "place", "promised"),
    [
        (38, 0.01, 38, 1 / 39),
        (98, 0.01, 98, 1 / 99),
        (99, 0.01, 99, 0.01),
        (100, 0.01, 100, 0.01),  # 101 x 0.99 = 99.99
        (198, 0.01, 198, 0.01),  # 199 x 0.99 = 197.01
        (199, 0.01, 198, 0.01),  # 200 x 0.99 = 198: the second highest
        (299, 0.01, 297, 0.01),
        (19, 0.05, 19, 0.05),
        (39, 0.05, 38, 0.05),
        (100, 0.05, 96, 0.05),  # 101 x 0.95 = 95.95
        (10, 0.3, 8, 0.3),  # 11 x 0.7 = 7.7
        (9, 0.9, 1, 0.9),
        (3, 0.5, 2, 0.5),
        (1, 0.5, 1, 0.5),
        (1, 0.01, 1, 1 / 2),
        (5, 0.0, 5, 1 / 6),
    ],
)
def test_the_conformal_threshold_by_hand(n: int, rate: float, place: int, promised: float) -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert conformal(shuffled, rate) == (place, promised)
    assert FalseAlarmRate(rate).image(shuffled, rate) == (place, promised)


def test_rounding_errors_do_not_move_the_conformal_threshold() -> None:
    for n in range(1, 600):
        for percent in range(100):
            exact = Fraction((n + 1) * (100 - percent), 100)
            assert conformal_place(n, percent / 100) == min(n, -(-exact.numerator // exact.denominator)), (n, percent)


def realised(thresholds: np.ndarray) -> np.ndarray:
    """Share of all exponential scores above thresholds."""
    return np.exp(-thresholds)


@pytest.mark.parametrize(("n", "rate"), [(20, 0.1), (60, 0.05), (150, 0.01), (199, 0.01)])
def test_false_alarms_keep_the_promise_on_the_average_and_do_not_fall_far_below(n: int, rate: float) -> None:
    draws = np.random.default_rng(0).exponential(size=(2000, n))
    found = [conformal(draw, rate) for draw in draws]
    assert {promised for _, promised in found} == {rate}
    rates = realised(np.array([threshold for threshold, _ in found]))
    error = rates.std() / np.sqrt(len(rates))
    assert rates.mean() <= rate + 3 * error
    assert rates.mean() > rate - 1 / (n + 1) - 3 * error


def test_too_few_images_promise_what_they_can_keep() -> None:
    """38 images, 1 % asked for: 1 in 39 on the average, and not 1 %."""
    found = [conformal(draw, 0.01) for draw in np.random.default_rng(0).exponential(size=(2000, 38))]
    rates = realised(np.array([threshold for threshold, _ in found]))
    assert {promised for _, promised in found} == {1 / 39}
    assert rates.mean() == pytest.approx(1 / 39, abs=3 * rates.std() / np.sqrt(2000))


@pytest.mark.parametrize(
    ("n", "below"),
    [(59, 0), (92, 0), (93, 1), (123, 1), (124, 2)],  # Wilks 1941: how many are needed to leave so many out
)
def test_the_confident_threshold_by_hand(n: int, below: int) -> None:
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert confident(shuffled, 0.05, 0.95) == (n - below, 0.05)
    assert FalseAlarmRate(0.05, 0.95).image(shuffled, 0.05) == (n - below, 0.05)


def test_too_few_images_say_what_they_promise_with_confidence() -> None:
    """The highest of n is exceeded by more than a share r with a probability of (1 - r)^n: 0.05 for r = 5.03 %."""
    found, promised = confident(np.arange(58.0), 0.05, 0.95)
    assert found == 57
    assert promised == pytest.approx(1 - 0.05 ** (1 / 58))
    assert promised == pytest.approx(0.0503, abs=1e-4)
    assert confident(np.array([3.0]), 0.01, 0.95) == (3.0, pytest.approx(0.95))


def test_with_confidence_nearly_every_draw_keeps_the_promise() -> None:
    """2,000 draws of 100 images at 5 %: at least 90 % of them, which the promise on the average does not give."""
    draws = np.random.default_rng(0).exponential(size=(2000, 100))
    slack = 3 * np.sqrt(0.9 * 0.1 / 2000)
    sure = np.mean([realised(np.array(confident(draw, 0.05, 0.9)[0])) <= 0.05 for draw in draws])
    plain = np.mean([realised(np.array(conformal(draw, 0.05)[0])) <= 0.05 for draw in draws])
    assert sure >= 0.9 - slack
    assert plain < 0.9 - slack


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
    assert thresholds_of(DefectArea(7), np.array([5.0]), one)[1:] == (1, 1, 1 / 2)
    assert thresholds_of(DefectArea(6), np.array([5.0]), one)[1:] == (5, 5, 1 / 2)
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


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (FalseAlarmRate(0.02), "far:0.02"),
        (FalseAlarmRate(0.0), "far:0.0"),
        (FalseAlarmRate(0.05, 0.95), "far:0.05:confidence=0.95"),
        (FalseAlarmRate(0.05, pixels=0.005), "far:0.05:pixels=0.005"),
        (FalseAlarmRate(0.05, pixels="peaks"), "far:0.05:pixels=peaks"),
        (FalseAlarmRate(0.05, 0.9, "peaks"), "far:0.05:confidence=0.9:pixels=peaks"),
        (FalseAlarmRate(0.05, 0.9, 0.01), "far:0.05:confidence=0.9:pixels=0.01"),
        (DefectArea(50), "area:50"),
    ],
)
def test_rules_are_written_and_read(rule: FalseAlarmRate | DefectArea, text: str) -> None:
    assert str(rule) == text
    assert parse_rule(text) == rule


def test_options_of_a_rule_come_in_any_order() -> None:
    assert parse_rule("far:0.05:pixels=peaks:confidence=0.9") == FalseAlarmRate(0.05, 0.9, "peaks")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("far:2", "false alarm rate 2.0 must lie in"),
        ("far:nan", "false alarm rate nan must lie in"),
        ("area:0", "smallest defect area 0"),
        ("far:0.01:confidence=1", "confidence 1.0 of the false alarm rate must lie between 0 and 1"),
        ("far:0.01:confidence=0", "confidence 0.0 of the false alarm rate must lie between 0 and 1"),
        ("far:0.01:pixels=0", "share of good pixels 0.0 must lie between 0 and 1, or be peaks"),
        ("far:0.01:pixels=1", "share of good pixels 1.0 must lie between 0 and 1, or be peaks"),
        *(
            (text, f"threshold rule '{text}' is not known; use far:RATE")
            for text in (
                "max",
                "far",
                "far:x",
                "far:0.01:",
                "far:0.01:0.95",
                "far:0.01:confidence",
                "far:0.01:confidence=peaks",
                "far:0.01:pixels=all",
                "far:0.01:colour=1",
                "far:0.01:rate=0.05",
                "area:1.5",
                "area:100:pixels=peaks",
            )
        ),
    ],
)
def test_bad_rules_are_refused(text: str, said: str) -> None:
    with pytest.raises(ContinuadError) as refused:
        parse_rule(text)
    assert str(refused.value).startswith(said)


def test_the_defect_area_of_a_ramp_by_hand() -> None:
    """Above the value v of 0 to 63, row by row, lie the last 63 - v pixels, which touch."""
    ramp = np.arange(64.0).reshape(1, 8, 8)
    for pixels, expected in ((1, 63), (2, 62), (10, 54), (63, 1), (64, 0)):
        assert thresholds_of(DefectArea(pixels), np.array([63.0]), ramp) == (31.5, expected, expected, 1 / 2)
    two = np.concatenate([ramp, ramp - 20, ramp / 2])
    found = thresholds_of(DefectArea(10), np.zeros(3), two)
    assert found[1:] == (54, 54, 1 / 4)  # the map that needs the highest


def test_a_defect_area_at_another_rate_passes_over_the_maps_that_need_most() -> None:
    """Three maps that need 54, 34 and 27; at 50 % the second of them is enough. Masks follow the image threshold."""
    ramp = np.arange(64.0).reshape(1, 8, 8)
    calibration = Calibration(DefectArea(10))
    calibration.learn({0: [Prediction(torch.zeros(1), torch.tensor(m)) for m in (ramp, ramp - 20, ramp / 2)]})
    at = calibration.thresholds(0, rate=0.5)
    assert at[1:] == (54, 34, 0.5)
    flagged, masks = DefectArea(10).decide(np.zeros(3), np.concatenate([ramp, ramp - 20, ramp / 2]), at)
    assert flagged.tolist() == [True, False, False]
    assert masks[0].sum() == 63 - 34


def test_a_region_that_goes_below_its_smallest_area_in_steps_is_found_by_trying_every_value() -> None:
    for seed in range(5):
        one = np.random.default_rng(seed).integers(0, 40, (12, 12)).astype(float)

        def none_left(value: float, one: np.ndarray = one) -> bool:
            return not DefectArea(4).decide(np.zeros(1), one[None], Thresholds(0, value, value))[0].any()

        lowest = min(value for value in np.unique(one) if none_left(value))
        assert thresholds_of(DefectArea(4), np.zeros(1), one[None]).pixel == lowest


def test_only_large_regions_stay_in_the_mask() -> None:
    maps = np.zeros((2, 5, 8))
    maps[0, 0, :2] = maps[0, 3, 2:6] = maps[1, 0, :3] = 2
    flagged, masks = DefectArea(4).decide(np.array([2.0, 2.0]), maps, Thresholds(0, 1, 1))
    assert flagged.tolist() == [True, False]
    assert masks.sum((1, 2)).tolist() == [4, 0]
    assert masks[0, 3, 2:6].all()
    assert not DefectArea(4).decide(np.zeros(2), maps, Thresholds(0, 2, 2))[1].any()  # at the threshold is not above


def test_the_centre_is_the_mean_of_all_maps_and_the_pixel_threshold_a_quantile_of_all_pixels() -> None:
    """Pixels of both maps in order: 0 1 1 1 1 2 3 5."""
    maps = np.array([[[0.0, 1], [2, 5]], [[1, 1], [1, 3]]])
    for share, expected in ((0.001, 5), (0.2, 3), (0.3, 2), (0.4, 2), (0.5, 1), (0.999, 1)):
        found = thresholds_of(FalseAlarmRate(pixels=share), np.array([7.0, 9.0]), maps)
        assert found == (14 / 8, expected, 9, 1 / 3)
        assert (maps > found.pixel).mean() <= share


def test_the_pixel_threshold_has_nothing_to_do_with_the_rate_of_false_alarms() -> None:
    maps = np.random.default_rng(0).random((40, 5, 5))
    scores = maps.reshape(40, -1).max(1)
    found = [thresholds_of(FalseAlarmRate(rate, pixels=0.1), scores, maps) for rate in (0.01, 0.5)]
    assert found[0].pixel == found[1].pixel == pytest.approx(np.quantile(maps, 0.9, method="higher"))
    assert found[0].image > found[1].image


def test_by_its_peaks_the_pixel_threshold_is_set_as_the_image_threshold_is() -> None:
    """Peaks of the maps are 5, 3 and 4: the highest at 1 %, the second at 50 %."""
    maps = np.array([[[0.0, 5]], [[3, 3]], [[4, 1]]])
    scores = np.array([7.0, 8, 9])
    assert thresholds_of(FalseAlarmRate(0.01, pixels="peaks"), scores, maps)[1:] == (5, 9, 1 / 4)
    assert thresholds_of(FalseAlarmRate(0.5, pixels="peaks"), scores, maps)[1:] == (4, 8, 0.5)
    sure = FalseAlarmRate(0.5, 0.8, "peaks")  # the highest, since 1 - 0.5^3 = 0.875; the second reaches 0.5
    assert thresholds_of(sure, scores, maps)[1:] == (5, 9, 0.5)


def test_of_large_maps_the_same_pixels_are_drawn_whatever_the_batch() -> None:
    """Of 200 x 200 pixels 16,384 are kept: quantiles of a map that rises evenly stay where they are."""
    one = np.random.default_rng(1).permutation(np.linspace(0, 1, 40_000)).reshape(1, 200, 200)
    rule = FalseAlarmRate(pixels=0.1)
    drawn = rule.look(np.zeros(2), np.concatenate([one, one + 5])).pixels
    assert drawn.shape == (2, DRAWN_PIXELS)
    assert np.array_equal(drawn[1], drawn[0] + 5)
    assert np.array_equal(drawn[:1], rule.look(np.zeros(1), one).pixels)
    assert len(np.unique(drawn[0])) == DRAWN_PIXELS
    assert thresholds_of(rule, np.zeros(1), one).pixel == pytest.approx(0.9, abs=0.01)


def test_an_image_that_is_called_good_has_an_empty_mask() -> None:
    maps = np.array([[[0.0, 5]], [[0, 5]], [[0, 2]]])
    flagged, masks = FalseAlarmRate().decide(np.array([1.0, 2.5, 3]), maps, Thresholds(0, 2, 2))
    assert flagged.tolist() == [False, True, True]
    assert masks.tolist() == [[[False, False]], [[False, True]], [[False, False]]]


def test_rules_name_the_range_they_accept() -> None:
    assert thresholds_of(FalseAlarmRate(0.0), np.array([1.0, 2]), np.ones((2, 1, 1))).image == 2
    assert DefectArea(1).pixels == 1
    for rate in (1.0, -0.1):
        with pytest.raises(ContinuadError, match=rf"false alarm rate {rate} must lie in \[0, 1\)"):
            FalseAlarmRate(rate)
    with pytest.raises(ContinuadError, match="smallest defect area 0 must be at least 1 pixel"):
        DefectArea(0)
