"""Rows are found wherever a results folder keeps them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from report_cases import KEPT, TWO, frame, run_rows, write_results, write_run

from continuad.errors import ContinuadError
from continuad.report.files import load_rows
from continuad.report.write import write_report

NAIVE = run_rows("naive", {"pixel_f1_max": TWO}, ["NA", "bolt"])
PERTASK = run_rows("pertask", {"pixel_f1_max": KEPT}, ["NA", "bolt"])


def test_rows_of_all_runs_are_gathered(tmp_path: Path) -> None:
    for rows in (PERTASK, NAIVE):
        write_run(tmp_path, rows)
    pd.testing.assert_frame_equal(load_rows(tmp_path), frame(NAIVE, PERTASK))


def test_the_report_writes_the_gathered_rows_as_one_table(tmp_path: Path) -> None:
    write_run(tmp_path, NAIVE)
    write_report(tmp_path)
    write_run(tmp_path, PERTASK)
    assert len(load_rows(tmp_path)) == len(NAIVE) + len(PERTASK), "the runs count, not the table of an earlier report"
    write_report(tmp_path)
    both = frame(NAIVE, PERTASK)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rows.parquet"), both)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "rows.csv", keep_default_na=False), both)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_table_without_runs_will_do_and_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    write_results(tmp_path, frame(NAIVE))
    if kind == "csv":
        frame(NAIVE).to_csv(tmp_path / "rows.csv", index=False)
        (tmp_path / "rows.parquet").unlink()
    before = (tmp_path / f"rows.{kind}").read_bytes()
    pd.testing.assert_frame_equal(load_rows(tmp_path), frame(NAIVE))
    write_report(tmp_path)
    assert (tmp_path / f"rows.{kind}").read_bytes() == before
    assert len(list(tmp_path.glob("rows.*"))) == 1


def test_rows_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    file = write_run(tmp_path, NAIVE)
    for text in ("[", "{}", "[]", '{"rows": [1]}', '{"rows": [{}]}'):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ContinuadError, match=r"naive-seed0-order0.rows\.json: cannot be read"):
            load_rows(tmp_path)


def test_a_run_that_was_copied_does_not_count_twice(tmp_path: Path) -> None:
    write_run(tmp_path, NAIVE).parent.rename(tmp_path / "runs" / "kept")
    write_run(tmp_path, NAIVE)
    with pytest.raises(ContinuadError, match=r"kept and .*order0 hold the same run|order0 and .*kept hold the same"):
        load_rows(tmp_path)
