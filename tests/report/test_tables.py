"""Rows become matrices, a line per run and a line per strategy: every number here is worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from report_cases import BEST, KEPT, TWO, frame, line, run_rows

from continuad.errors import ContinuadError
from continuad.report.tables import best_metric, furthest_runs, matrix, over_seeds, summarise

NAN = float("nan")


def only(table: pd.DataFrame, **key: object) -> pd.Series:
    """The one line of a table with these values."""
    chosen = table
    for name, value in key.items():
        chosen = chosen[chosen[name] == value]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_matrix_holds_rows_and_nan_where_there_is_none() -> None:
    rows = frame(run_rows("naive", {"pixel_f1_max": [[0.9], [NAN, 0.8]]}, ["a", "b"]))
    values, names = matrix(rows, "pixel_f1_max", "padim-naive-seed0-order0")
    np.testing.assert_array_equal(values, [[0.9, NAN], [NAN, 0.8]])
    assert names == ["a", "b"]
    assert np.isnan(matrix(rows, "pixel_aupro", "padim-naive-seed0-order0")[0]).all()


def test_labels_follow_the_training_order_not_the_alphabet() -> None:
    trained = ["zipper", "bottle", "Nut", "apple"]
    table = [[0.1], [0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9, 1.0]]
    rows = frame(run_rows("naive", {"image_auroc": table}, trained))
    shuffled = rows.sample(frac=1, random_state=3)
    values, names = matrix(shuffled, "image_auroc", "padim-naive-seed0-order0")
    assert names == trained
    assert values[3, 0] == 0.7
    assert values[3, 1] == 0.8


def test_forgetting_of_two_tasks_is_not_zero() -> None:
    summary = summarise(frame(run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"])))
    assert summary["forgetting_pixel_f1_max"].item() == pytest.approx(0.3)
    assert summary["relative_forgetting_pixel_f1_max"].item() == pytest.approx(0.3 / 0.9)
    assert summary["backward_transfer_pixel_f1_max"].item() == pytest.approx(-0.3)


def test_forgetting_of_a_folder_stream_equals_the_score_table() -> None:
    table = [[0.9], [0.5, 0.8], [0.3, 0.7, 0.6]]
    summary = summarise(frame(run_rows("naive", {"pixel_f1_max": table}, ["my part", "Ü", "third"])))
    assert summary["forgetting_pixel_f1_max"].item() == pytest.approx((0.6 + 0.1) / 2)


def test_a_run_is_one_line_with_its_final_means_and_costs() -> None:
    summary = summarise(line())
    assert list(summary.columns[:6]) == ["run", "detector", "strategy", "seed", "order", "tasks"]
    assert list(summary.columns[6:12]) == [
        "image_auroc",
        "image_f1_max",
        "pixel_auroc",
        "pixel_f1_max",
        "pixel_ap",
        "pixel_aupro",
    ]
    assert list(summary["strategy"]) == ["single", "single", "naive", "naive", "pertask", "pertask"]
    naive = only(summary, strategy="naive", seed=0)
    assert naive["pixel_f1_max"] == pytest.approx(0.7)
    assert np.isnan(naive["pixel_aupro"])
    assert naive["tasks"] == 2
    assert naive["train_seconds"] == 20.0
    assert naive["inference_ms"] == 20.0
    assert naive["additional_mb"] == 10.0, "the last stage's, not the sum"


def test_relative_gap_is_to_the_single_model_of_the_same_seed() -> None:
    summary = summarise(line())
    # Seed 0: single (1.0 + 0.75) / 2 = 0.875, naive (0.6 + 0.8) / 2 = 0.7. Seed 1: both 0.02 lower.
    assert only(summary, strategy="naive", seed=0)["relative_gap_pixel_f1_max"] == pytest.approx(0.2)
    assert only(summary, strategy="naive", seed=1)["relative_gap_pixel_f1_max"] == pytest.approx(0.175 / 0.855)
    assert only(summary, strategy="single", seed=0)["relative_gap_pixel_f1_max"] == 0.0


def test_relative_gap_needs_a_single_model_of_the_same_detector_seed_and_order() -> None:
    runs = [
        run_rows("single", {"pixel_f1_max": BEST}, ["a", "b"]),
        run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"], seed=1),
        run_rows("naive", {"pixel_f1_max": TWO}, ["b", "a"], order=1),
        run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"], detector="spade"),
    ]
    summary = summarise(frame(*runs))
    assert summary.loc[summary["strategy"] == "naive", "relative_gap_pixel_f1_max"].isna().all()


def test_a_run_that_is_still_going_is_compared_over_the_same_products() -> None:
    going = run_rows("naive", {"pixel_f1_max": [[0.9]]}, ["a", "b"])
    summary = summarise(frame(run_rows("single", {"pixel_f1_max": BEST}, ["a", "b"]), going))
    naive = only(summary, strategy="naive")
    assert naive["tasks"] == 1
    assert naive["relative_gap_pixel_f1_max"] == pytest.approx(0.1), "0.9 against 1.0, the first product alone"
    assert np.isnan(naive["forgetting_pixel_f1_max"])


def test_task_inference_is_summarised_beside_the_oracle() -> None:
    parts = {
        "pixel_f1_max": KEPT,
        "oracle_pixel_f1_max": [[0.8], [0.9, 0.8]],
        "task_accuracy": [[1.0], [0.8, 1.0]],
        "task_accuracy_pooled": [[NAN], [0.9, 1.0]],
        "task_inference_ms_pooled": [[NAN], [4.0, 6.0]],
    }
    summary = summarise(frame(run_rows("pertask", parts, ["a", "b"])))
    assert summary["task_accuracy"].item() == pytest.approx(0.9)
    assert summary["task_accuracy_pooled"].item() == pytest.approx(0.95)
    assert summary["task_inference_ms_pooled"].item() == pytest.approx(5.0)
    assert summary["oracle_pixel_f1_max"].item() == pytest.approx(0.85)
    assert np.isnan(summary["task_accuracy_lowest"].item())


def test_over_seeds_gives_mean_and_sample_deviation() -> None:
    means = over_seeds(summarise(line()))
    naive = only(means, strategy="naive")
    assert naive["seeds"] == 2
    assert naive["pixel_f1_max"] == pytest.approx(0.69)
    assert naive["pixel_f1_max_sd"] == pytest.approx(0.02 / 2**0.5), "0.70 and 0.68 with ddof = 1"


def test_a_single_seed_has_no_deviation() -> None:
    means = over_seeds(summarise(frame(run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"]))))
    assert means["pixel_f1_max"].item() == pytest.approx(0.7)
    assert np.isnan(means["pixel_f1_max_sd"].item())


def test_a_run_with_fewer_products_does_not_blur_the_mean() -> None:
    short = run_rows("naive", {"pixel_f1_max": [[0.1]]}, ["a", "b"], seed=1)
    rows = frame(run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"]), short)
    means = over_seeds(summarise(rows))
    assert means["pixel_f1_max"].item() == pytest.approx(0.7)
    assert means["left_out"].item() == 1
    assert furthest_runs(rows, "padim", "naive") == ["padim-naive-seed0-order0"]


def test_strategies_stand_in_one_order_and_replay_by_size() -> None:
    given = ["pertask", "zeta", "replay:1000", "naive", "replay:300", "multitask", "single", "average"]
    rows = frame(*(run_rows(name, {"pixel_f1_max": TWO}, ["a", "b"]) for name in given))
    ordered = ["single", "multitask", "naive", "replay:300", "replay:1000", "average", "pertask", "zeta"]
    assert list(summarise(rows)["strategy"]) == ordered


def test_without_masks_image_auroc_speaks() -> None:
    with_masks = summarise(line())
    without = summarise(line().query("metric != 'pixel_f1_max'"))
    assert best_metric(with_masks) == "pixel_f1_max"
    assert best_metric(without) == "image_auroc"


def test_an_unknown_run_is_named() -> None:
    with pytest.raises(ContinuadError, match="nonsense"):
        matrix(line(), "pixel_f1_max", "nonsense")
