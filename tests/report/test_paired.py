"""Paired tests between strategies, against hand-worked numbers and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from report_cases import frame, run_rows
from scipy.stats import ttest_rel

from continuad.report.paired import COLUMNS, holm, paired
from continuad.report.tables import summarise

NAN = float("nan")


def runs(detector: str = "padim", **scores: tuple[float, ...]) -> list[list[dict]]:
    """Runs over one product, seed after seed, with these values of pixel F1."""
    return [
        run_rows(strategy, {"pixel_f1_max": [[value]]}, ["bolt"], detector=detector, seed=seed)
        for strategy, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_a_difference_is_tested_over_common_runs() -> None:
    a, b = (0.50, 0.60, 0.70), (0.60, 0.80, 1.00)
    (found,) = paired(summarise(frame(*runs(naive=a, pertask=b)))).to_dict("records")
    assert (found["detector"], found["metric"], found["first"], found["second"]) == (
        "padim", "pixel_f1_max", "naive", "pertask",
    )  # fmt: skip
    assert found["runs"] == 3
    assert found["difference"] == pytest.approx(-0.2)
    assert found["difference_sd"] == pytest.approx(0.1)
    # t = 0.2 / (0.1 / sqrt 3) = 3.464 with 2 degrees: p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14).
    assert found["p"] == pytest.approx(1 - (12 / 14) ** 0.5)
    assert found["p"] == pytest.approx(ttest_rel(a, b).pvalue)
    assert found["p_holm"] == found["p"], "the only test"


def test_runs_are_paired_by_seed_and_order() -> None:
    mixed = [
        *runs(naive=(0.5, 0.6)),
        run_rows("naive", {"pixel_f1_max": [[0.1]]}, ["bolt"], order=1),
        run_rows("pertask", {"pixel_f1_max": [[0.7]]}, ["bolt"], seed=1),
        run_rows("pertask", {"pixel_f1_max": [[0.3]]}, ["bolt"], order=1),
        run_rows("pertask", {"pixel_f1_max": [[0.9]]}, ["bolt"], seed=2),
    ]
    (found,) = paired(summarise(frame(*mixed))).to_dict("records")
    assert found["runs"] == 2
    assert found["difference"] == pytest.approx((-0.1 - 0.2) / 2)


def test_one_common_run_is_no_pair() -> None:
    found = paired(summarise(frame(*runs(naive=(0.5,), pertask=(0.6,)))))
    assert found.empty
    assert tuple(found.columns) == COLUMNS


def test_a_run_that_is_still_going_takes_no_part() -> None:
    two = [
        run_rows(name, {"pixel_f1_max": [[v], [v, v]]}, ["bolt", "nut"], seed=seed)
        for name, v in (("naive", 0.5), ("pertask", 0.6))
        for seed in (0, 1)
    ]
    going = [run_rows(name, {"pixel_f1_max": [[0.1]]}, ["bolt", "nut"], seed=2) for name in ("naive", "pertask")]
    assert paired(summarise(frame(*two, *going)))["runs"].item() == 2


def test_differences_that_do_not_scatter_cannot_be_tested() -> None:
    found = paired(summarise(frame(*runs(naive=(0.5, 0.6), pertask=(0.6, 0.7), replay=(0.5, 0.7)))))
    by = found.set_index(["first", "second"])
    assert by.loc[("naive", "pertask"), "difference"] == pytest.approx(-0.1)
    assert np.isnan(by.loc[("naive", "pertask"), ["p", "p_holm"]].astype(float)).all()
    assert found["p"].notna().sum() == 2, "two comparisons were made"
    assert by.loc[("naive", "replay"), "p_holm"] == pytest.approx(min(1, 2 * by.loc[("naive", "replay"), "p"]))


def test_holm_counts_the_tests_of_all_detectors() -> None:
    one, other = (
        runs(naive=(0.5, 0.6, 0.7), pertask=(0.6, 0.8, 1.0)),
        runs("spade", naive=(0.1, 0.2), pertask=(0.3, 0.3)),
    )
    found = paired(summarise(frame(*one, *other)))
    assert list(found["detector"]) == ["padim", "spade"]
    assert found["p_holm"][0] == pytest.approx(2 * found["p"][0])


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.6, NAN, 0.7])) == pytest.approx([1.0, NAN, 1.0], nan_ok=True)
    assert len(holm(np.array([]))) == 0


def test_both_metrics_are_tested_where_they_are_there() -> None:
    both = [
        run_rows(name, {"pixel_f1_max": [[v]], "image_auroc": [[1 - v * v]]}, ["bolt"], seed=seed)
        for name, values in (("naive", (0.5, 0.6)), ("pertask", (0.6, 0.9)))
        for seed, v in enumerate(values)
    ]
    assert list(paired(summarise(frame(*both)))["metric"]) == ["pixel_f1_max", "image_auroc"]
