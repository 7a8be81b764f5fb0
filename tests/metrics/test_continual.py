from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from continuad.errors import ContinuadError
from continuad.metrics.continual import (
    average,
    backward_transfer,
    forgetting,
    forward_transfer,
    intransigence,
    learned_at,
    relative_forgetting,
    relative_gap,
    when_learned,
)

NA = math.nan
R = np.array([[0.90, NA, NA], [0.60, 0.80, NA], [0.50, 0.90, 0.70]])


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_the_worked_example_of_the_docs() -> None:
    assert average(R) == pytest.approx(0.70)
    assert average(R, after=1) == pytest.approx(0.70)
    assert average(R, after=0) == pytest.approx(0.90)
    assert forgetting(R) == pytest.approx(0.15)
    assert forgetting(R, after=1) == pytest.approx(0.30)
    assert relative_forgetting(R) == pytest.approx((0.4 / 0.9 - 0.1 / 0.8) / 2)
    assert relative_forgetting(R) == pytest.approx(0.1597, abs=1e-4)
    assert backward_transfer(R) == pytest.approx(-0.15)
    assert intransigence([0.90, 0.85, 0.80], R) == pytest.approx([0.0, 0.05, 0.10])
    ahead = R.copy()
    ahead[0, 1], ahead[1, 2] = 0.30, 0.50
    assert forward_transfer(ahead, [0.1, 0.2, 0.2]) == pytest.approx(0.20)
    assert relative_gap(0.60, 0.75) == pytest.approx(0.20)


def test_forgetting_is_measured_from_the_best_not_from_the_first() -> None:
    # Task 0 rises to 0.7 before it falls: forgotten 0.4, while backward transfer sees only 0.2.
    up_and_down = [[0.5, NA, NA], [0.7, 0.6, NA], [0.3, 0.6, 0.6]]
    assert forgetting(up_and_down) == pytest.approx(0.2)
    assert backward_transfer(up_and_down) == pytest.approx(-0.1)


def test_two_tasks_forget_too() -> None:
    assert forgetting([[0.9, NA], [0.6, 0.8]]) == pytest.approx(0.3)


def test_three_products_and_a_naive_run() -> None:
    table = [[0.8, NA, NA], [0.3, 0.9, NA], [0.2, 0.4, 0.7]]
    assert forgetting(table, after=1) == pytest.approx(0.5)
    assert forgetting(table) == pytest.approx((0.6 + 0.5) / 2)
    assert relative_forgetting(table) == pytest.approx((0.75 + 5 / 9) / 2)


def test_rows_and_columns_follow_the_training_order() -> None:
    # zipper was trained first, bottle second. Sorting the names would turn learning into forgetting.
    order = ["zipper", "bottle"]
    values = {("zipper", "zipper"): 0.9, ("bottle", "zipper"): 0.6, ("bottle", "bottle"): 0.8}
    table = [[values.get((after, on), NA) for on in order] for after in order]
    assert forgetting(table) == pytest.approx(0.3)
    assert average(table) == pytest.approx(0.7)
    assert intransigence([0.9, 0.9], table) == pytest.approx([0.0, 0.1])


def test_tasks_to_come_do_not_count_in_the_average() -> None:
    ahead = R.copy()
    ahead[0, 1:], ahead[1, 2] = 0.30, 0.10
    assert average(ahead, after=0) == pytest.approx(0.90)
    assert average(ahead, after=1) == pytest.approx((0.60 + 0.80) / 2)


def test_one_task_alone_has_an_intransigence() -> None:
    assert intransigence([0.9], [[0.8]]) == pytest.approx([0.1])


def test_whole_percentages_in_bytes_count_like_any_other_number() -> None:
    # Task 0 rises from 50 to 90. In unsigned bytes 50 - 90 would be 216.
    table = np.array([[50, 0], [90, 80]], np.uint8)
    assert forgetting(table) == -40
    assert relative_forgetting(table) == pytest.approx(-0.8)
    assert backward_transfer(table) == 40
    assert when_learned(table).tolist() == [50, 80]
    assert intransigence(np.array([40, 90], np.uint8), table).tolist() == [-10, 10]


def test_the_first_stage_has_nothing_to_forget() -> None:
    for function in (forgetting, relative_forgetting, backward_transfer):
        assert math.isnan(function(R, after=0))
        assert math.isnan(function([[0.9]]))
    assert math.isnan(forward_transfer([[0.9]], [0.1]))


def test_a_task_without_the_metric_drops_out() -> None:
    table = R.copy()
    table[:, 0] = NA
    assert average(table) == pytest.approx(0.80)
    assert forgetting(table) == pytest.approx(-0.10)
    assert backward_transfer(table) == pytest.approx(0.10)
    assert math.isnan(forgetting(table, after=1))
    assert math.isnan(average(np.full((2, 2), NA)))
    assert math.isnan(intransigence([1.0, 1.0, 1.0], table)[0])


def test_a_run_cut_short_can_be_judged_where_it_stands() -> None:
    table = R.copy()
    table[2] = NA
    assert forgetting(table, after=1) == pytest.approx(0.30)
    assert math.isnan(forgetting(table))


def test_relative_forgetting_of_a_task_never_learned() -> None:
    assert relative_forgetting([[0.0, NA], [0.0, 0.5]]) == 0.0
    assert math.isnan(relative_forgetting([[0.0, NA], [0.2, 0.5]]))


def test_relative_gap_without_a_standard_is_not_available() -> None:
    assert math.isnan(relative_gap(0.5, 0.0))
    assert math.isnan(relative_gap(NA, 0.5))
    assert math.isnan(relative_gap(0.5, NA))
    assert relative_gap(0.8, 0.5) == pytest.approx(-0.6)


# Products 0 and 1 are learned together, then 2 and 3, then 4: a row for each step, at its last product.
TOGETHER = np.array(
    [
        [NA, NA, NA, NA, NA],
        [0.9, 0.8, NA, NA, NA],
        [NA, NA, NA, NA, NA],
        [0.6, 0.8, 0.7, 0.5, NA],
        [0.5, 0.9, 0.6, 0.5, 0.4],
    ]
)


def test_tasks_learned_together_count_from_their_step() -> None:
    assert learned_at(TOGETHER).tolist() == [1, 1, 3, 3, 4]
    assert when_learned(TOGETHER) == pytest.approx([0.9, 0.8, 0.7, 0.5, 0.4])
    assert average(TOGETHER) == pytest.approx(2.9 / 5)
    assert average(TOGETHER, after=1) == pytest.approx(0.85)
    assert forgetting(TOGETHER) == pytest.approx((0.4 - 0.1 + 0.1 + 0.0) / 4)
    assert forgetting(TOGETHER, after=3) == pytest.approx((0.3 + 0.0) / 2), "2 and 3 have just been learned"
    assert math.isnan(forgetting(TOGETHER, after=1)), "the first step has nothing before it"
    assert relative_forgetting(TOGETHER) == pytest.approx((0.4 / 0.9 - 0.1 / 0.8 + 0.1 / 0.7) / 4)
    assert backward_transfer(TOGETHER) == pytest.approx((-0.4 + 0.1 - 0.1 + 0.0) / 4)
    assert backward_transfer(TOGETHER, after=3) == pytest.approx(-0.15)
    assert intransigence([1.0] * 5, TOGETHER) == pytest.approx([0.1, 0.2, 0.3, 0.5, 0.6])
    for function in (average, forgetting, backward_transfer):
        assert math.isnan(function(TOGETHER, after=2)), "no step ends there"


def test_tasks_learned_together_are_evaluated_before_their_step() -> None:
    ahead = TOGETHER.copy()
    ahead[1, 2:], ahead[3, 4] = (0.2, 0.3, 0.1), 0.2
    # 2 and 3 after the first step, 4 after the second.
    assert forward_transfer(ahead, [0.1] * 5) == pytest.approx((0.1 + 0.2 + 0.1) / 3)
    assert forgetting(ahead) == pytest.approx(forgetting(TOGETHER))
    assert forgetting(ahead, after=3) == pytest.approx(0.15)
    assert when_learned(ahead) == pytest.approx(when_learned(TOGETHER))


def test_a_step_that_is_not_over_has_no_row() -> None:
    assert learned_at(TOGETHER[:3, :3]).tolist() == [1, 1, 3]
    assert when_learned(TOGETHER[:3, :3]) == pytest.approx([0.9, 0.8, NA], nan_ok=True)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ContinuadError, match=r"R has shape \(2, 3\)"):
        average(np.zeros((2, 3)))
    with pytest.raises(ContinuadError, match="after=3"):
        forgetting(R, after=3)
    with pytest.raises(ContinuadError, match="baseline has shape"):
        forward_transfer(R, [0.1, 0.2])
    with pytest.raises(ContinuadError, match="reference has shape"):
        intransigence([0.1], R)
