"""Result tables, with a reason for every cell that has no number."""

from __future__ import annotations

import pytest
from report_cases import TWO, frame, line, run_rows

from continuad.errors import ContinuadError
from continuad.report.style import duration, megabytes
from continuad.report.tables import summarise
from continuad.report.thesis import Table, comparison_table, thesis_table


def notes_of(table: Table, row: tuple[str, str], column: object) -> str:
    """The note that a cell's raised number points at."""
    number = "".join(sign for sign in table.cells.loc[row, column] if sign in "¹²³⁴⁵⁶⁷⁸⁹")
    return table.notes["¹²³⁴⁵⁶⁷⁸⁹".index(number)]


def test_rows_and_columns_stand_in_the_published_layout() -> None:
    table = thesis_table(summarise(line()), "padim")
    assert list(table.cells.columns) == ["single", "naive", "pertask"]
    assert list(table.cells.index) == [
        ("Image-level", "AUC ROC"),
        ("Image-level", "F1 max"),
        ("Pixel-level", "AUC ROC"),
        ("Pixel-level", "F1 max"),
        ("Pixel-level", "Precision–recall"),
        ("Pixel-level", "AU PRO"),
        ("Time", "training"),
        ("Time", "inference [ms]"),
        ("Architecture memory [MB]", ""),
        ("Additional memory [MB]", ""),
        ("Relative gap δ [%]", ""),
        ("Average forgetting [%]", ""),
    ]


def test_memory_while_learning_is_a_row_where_it_was_measured() -> None:
    costs = {"learning_mb": 31.5}
    rows = frame(run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"], costs=costs))
    table = thesis_table(summarise(rows), "padim")
    assert table.cells.loc[("Memory while learning [MB]", ""), "naive"] == "31.5"
    assert "Memory while learning [MB]" not in thesis_table(summarise(line()), "padim").cells.index.get_level_values(0)


def test_cells_hold_mean_and_deviation_of_the_seeds() -> None:
    table = thesis_table(summarise(line()), "padim")
    assert table.cells.loc[("Pixel-level", "F1 max"), "naive"] == "0.690 ± 0.014"
    # Forgetting is 0.3 / 0.9 and 0.3 / 0.88: in per cent 33.33 and 34.09.
    assert table.cells.loc[("Average forgetting [%]", ""), "naive"] == "33.71 ± 0.54"
    assert table.cells.loc[("Average forgetting [%]", ""), "pertask"] == "0.00"
    assert table.cells.loc[("Additional memory [MB]", ""), "pertask"] == "10.0", "what never varies has no ±"
    assert table.cells.loc[("Time", "training"), "naive"] == "20 s"


def test_one_seed_shows_the_mean_alone() -> None:
    table = thesis_table(summarise(line().query("seed == 0")), "padim")
    assert table.cells.loc[("Pixel-level", "F1 max"), "naive"] == "0.700"
    assert table.cells.loc[("Relative gap δ [%]", ""), "naive"] == "20.00"


def test_every_missing_number_says_why() -> None:
    rows = frame(run_rows("naive", {"image_auroc": [[0.9]]}, ["a"]))
    table = thesis_table(summarise(rows), "padim")
    assert table.cells.loc[("Pixel-level", "AU PRO"), "naive"].startswith("n/a")
    assert "mask" in notes_of(table, ("Pixel-level", "AU PRO"), "naive")
    assert "single" in notes_of(table, ("Relative gap δ [%]", ""), "naive")
    assert "one product" in notes_of(table, ("Average forgetting [%]", ""), "naive")
    assert "image AUROC" in table.notes[0], "without masks, gap and forgetting rest on another metric"


def test_forgetting_does_not_apply_to_a_model_per_product() -> None:
    table = thesis_table(summarise(line()), "padim")
    assert table.cells.loc[("Average forgetting [%]", ""), "single"].startswith("/")
    assert "does not apply" in notes_of(table, ("Average forgetting [%]", ""), "single")


def test_a_strategy_that_is_still_going_is_marked() -> None:
    rows = frame(
        run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"]),
        run_rows("pertask", {"pixel_f1_max": [[0.8]]}, ["a", "b"]),
    )
    table = thesis_table(summarise(rows), "padim")
    assert table.cells.loc[("Pixel-level", "F1 max"), "pertask"].startswith("0.800")
    assert "after 1 of 2 products" in notes_of(table, ("Pixel-level", "F1 max"), "pertask")


def test_the_best_continual_strategy_is_marked_and_no_reference() -> None:
    table = thesis_table(summarise(line()), "padim")
    row = table.best.loc[[("Pixel-level", "F1 max")]]
    assert row.to_numpy().tolist() == [[False, False, True]]
    assert not table.best.loc[[("Time", "training")]].to_numpy().any()


def test_comparison_sets_detectors_side_by_side_without_references() -> None:
    names = ["a", "b"]
    runs = [
        run_rows(strategy, {"pixel_f1_max": TWO}, names, detector=detector)
        for detector in ("padim", "spade")
        for strategy in ("single", "multitask", "naive", "replay:300")
    ]
    table = comparison_table(summarise(frame(*runs)))
    assert list(table.cells.columns) == [
        ("padim", "naive"),
        ("padim", "replay:300"),
        ("spade", "naive"),
        ("spade", "replay:300"),
    ]
    assert table.cells.loc[("Pixel-level", "F1 max"), ("spade", "naive")] == "0.700"


def test_an_unknown_detector_is_named() -> None:
    with pytest.raises(ContinuadError, match="draem"):
        thesis_table(summarise(line()), "draem")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (370, "6 min 10 s"),
        (59.7, "1 min"),
        (11880, "3 h 18 min"),
        (3600, "1 h 0 min"),
        (3599, "1 h 0 min"),
    ],
)
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_megabytes_keep_a_decimal() -> None:
    assert megabytes(1541.0139) == "1541.0"
    assert megabytes(0) == "0.0"
    assert megabytes(0.0123) == "0.012"
