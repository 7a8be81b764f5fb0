"""AUPRO against a slow word-for-word implementation, and by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from continuad.errors import ContinuadError
from continuad.metrics.region import aupro, aupro_stretched, pro_area, rank_pixels, region_weights

from . import slow


@pytest.mark.parametrize("levels", [0.4, 1, 3, 50, 10**6])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("signal", [-1, 0, 2, 20])
def test_equals_the_definition(levels: float, limit: float, signal: float) -> None:
    rng = np.random.default_rng(0)
    masks = slow.drawn_masks(rng, 5, 20)
    maps = np.round((rng.normal(size=masks.shape) + signal * masks) * levels).astype(np.float32)
    assert aupro(maps, masks, limit) == pytest.approx(slow.aupro(maps, masks, limit), abs=1e-12)
    assert pro_area(rank_pixels(maps, masks)) == aupro(maps, masks)


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.uint8, (2, 4, 5), elements=st.integers(0, 4)),
    arrays(np.bool_, (2, 4, 5)).filter(lambda m: 0 < m.sum() < m.size),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_equals_the_definition_on_anything(maps: np.ndarray, masks: np.ndarray, limit: float) -> None:
    value = aupro(maps, masks, limit)
    assert 0 <= value <= 1
    assert value == pytest.approx(slow.aupro(maps, masks, limit), abs=1e-12)


def test_small_regions_weigh_as_much_as_large_ones() -> None:
    # Two regions, of 4 and of 1 pixel; only the single pixel is found before any false alarm.
    mask = np.zeros((1, 4, 10), bool)
    mask[0, :2, :2] = mask[0, 3, 9] = True
    scores = np.where(mask, -1.0, 0.0)
    scores[0, 3, 9] = 5.0
    # PRO is 1/2 at FPR 0, the 35 good pixels then all come at once, at PRO 1/2.
    assert aupro(scores, mask) == pytest.approx(0.5)
    assert aupro(scores, mask, limit=1.0) == pytest.approx(0.5)


def test_regions_touching_at_a_corner_are_one() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
    assert region_weights(mask).tolist() == [0.5, 0.5, 1.0]
    assert region_weights(np.zeros((4, 3), bool)).shape == (0,)


def test_regions_at_the_same_place_in_two_images_are_two() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[:, 1, 1:3] = True
    maps = np.zeros((2, 4, 4))
    maps[0, 1, 1:3] = 1  # one of the two found
    # (0, 1/2), then a straight line to (1, 1) as all the rest ties: at 0.3 it stands at 0.65.
    assert aupro(maps, masks) == pytest.approx((0.5 + 0.65) / 2)


def test_interpolation_at_the_limit_by_hand() -> None:
    # 1 defect pixel ties with half of 4 good pixels: (0, 0) to (0.5, 1); at 0.3 it stands at 0.6.
    maps, masks = np.array([[[2, 2, 2, 1, 1]]]), np.array([[[1, 0, 0, 0, 0]]])
    assert aupro(maps, masks) == pytest.approx(0.3)
    assert aupro(maps, masks, limit=1.0) == pytest.approx((0.25 + 0.5) / 1.0)


def test_an_area_is_never_above_one() -> None:
    # A nearly perfect map of two values: the curve jumps from FPR 1/60 to 1 and never stops near 0.3.
    masks = np.zeros((1, 8, 8), bool)
    masks[0, 2:4, 2:4] = True
    maps = masks.astype(np.float32)
    assert aupro(maps, masks) == 1.0
    maps[0, 0, 0] = 1  # one false alarm
    assert aupro(maps, masks) == pytest.approx(slow.aupro(maps, masks), abs=1e-12)
    assert aupro(maps, masks) == pytest.approx(1 - 1 / 60 / 2 / 0.3)


@settings(deadline=None)
@given(arrays(np.float32, (1, 6, 6), elements=st.floats(-100, 100, width=32, allow_subnormal=False)))
def test_increasing_rescaling_changes_nothing(maps: np.ndarray) -> None:
    masks = np.zeros(maps.shape, bool)
    masks[0, :2, :3] = masks[0, 4, 4] = True
    places = np.unique(maps, return_inverse=True)[1].reshape(maps.shape)
    assert aupro(places, masks) == aupro(maps, masks)


def test_without_defects_or_without_good_pixels_not_available() -> None:
    maps = np.random.default_rng(0).random((2, 5, 5))
    for masks in (np.zeros(maps.shape), np.ones(maps.shape)):
        assert math.isnan(aupro(maps, masks))
        assert math.isnan(aupro_stretched(maps, masks))


@pytest.mark.parametrize("limit", [0, -0.1, 1.5, 30])
def test_a_limit_must_be_a_rate(limit: float) -> None:
    for function in (aupro, aupro_stretched):
        with pytest.raises(ContinuadError, match="limit"):
            function(np.zeros((1, 2, 2)), np.eye(2)[None], limit)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("limit", [0.1, 0.3])
def test_stretched_equals_what_the_papers_do(dtype: type, limit: float) -> None:
    rng = np.random.default_rng(3)
    masks = slow.drawn_masks(rng, 4, 20)
    maps = (128 + 30 * rng.normal(size=masks.shape) + 40 * masks).clip(0, 255).astype(dtype)
    assert aupro_stretched(maps, masks) == pytest.approx(slow.aupro_stretched(maps, masks, 0.3, 200), abs=1e-12)
    for steps in (10, 200):
        expected = slow.aupro_stretched(maps, masks, limit, steps)
        assert aupro_stretched(maps, masks, limit, steps) == pytest.approx(expected, abs=1e-12)


def test_stretched_judges_only_the_span_of_its_points() -> None:
    # One region, a third of it found at once and all of it after one false alarm among 20 good pixels;
    # the other 19 share the lowest score, so no point is kept beyond FPR 1/20.
    maps = np.array([[[9, 5, 5, 6] + [0] * 19]], np.float64)
    masks = np.array([[[1, 1, 1, 0] + [0] * 19]])
    # The truth: 1/3 up to FPR 1/20, upright to 1 there, and 1 from there to the limit.
    assert aupro(maps, masks) == pytest.approx((1 / 3 * 0.05 + 1 * 0.25) / 0.3)
    # Stretched: points (0, 1/3), (1/20, 1/3), (1/20, 1) only, so what lies between 1/20 and 0.3 is left out.
    assert aupro_stretched(maps, masks) == pytest.approx(1 / 3)


def test_stretched_leaves_out_the_point_at_the_limit_itself() -> None:
    # Thresholds 9, 8, .. 0 and ten good pixels. FPR is 0 above 9, then 1/10, 2/10 from 6 on, and 3/10 from 4 on.
    maps = np.array([[[10, 6, 4, 2] + [9, 7, 5] + [0] * 7]], np.float64)
    masks = np.array([[[1] * 4 + [0] * 10]])
    # Kept: PRO 1/4 at 0, 1/10 and 2/10, and 1/2 at 2/10. The point (3/10, 1/2) would make it 1/3.
    assert aupro_stretched(maps, masks, limit=0.3, steps=10) == pytest.approx(1 / 4)


def test_stretched_without_a_curve_is_silently_not_available() -> None:
    maps, mask = np.array([[[1, 1, 0, 0, 0.5]]]), np.array([[[0, 0, 0, 0, 1]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(aupro_stretched([], []))
        assert math.isnan(aupro_stretched(maps, mask)), "half of the good pixels share the highest score"
        assert math.isnan(aupro_stretched(mask, mask)), "all points have FPR 0"
        assert math.isnan(aupro_stretched(maps, np.zeros_like(mask)))
        assert math.isnan(aupro_stretched(maps, np.ones_like(mask)))


def test_stretched_of_a_curve_without_width_is_not_available() -> None:
    masks = np.zeros((1, 8, 8), bool)
    masks[0, 2:4, 2:4] = True
    assert math.isnan(aupro_stretched(masks.astype(float), masks))  # perfect, all kept FPR are 0
    assert math.isnan(aupro_stretched(np.zeros(masks.shape), masks))
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ContinuadError, match=r"^an anomaly map holds NaN or infinity: metrics need finite scores$"):
            aupro_stretched(np.where(masks, bad, 0.0), masks)
