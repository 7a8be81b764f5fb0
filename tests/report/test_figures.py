"""Figures show what is in the rows, in training order and in a strategy's own colour."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from report_cases import TWO, frame, line, run_rows

from continuad.report import style
from continuad.report.drawing import inline_svg, spread, to_svg
from continuad.report.figures import all_figures, bars, final_products, heat_matrix, products, trend
from continuad.report.tables import summarise


def test_trend_is_the_mean_over_products_seen_with_one_line_per_strategy() -> None:
    axes = trend(line(), "pixel_f1_max", "padim").axes[0]
    lines = {to_hex(drawn.get_color()): drawn.get_ydata() for drawn in axes.lines}
    # naive: 0.9 then (0.6 + 0.8) / 2 with seed 0, each 0.02 lower with seed 1.
    np.testing.assert_allclose(lines[style.colour("naive")], [0.89, 0.69])
    np.testing.assert_allclose(lines[style.colour("single")], [0.99, 0.865])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["washer", "+ bolt"]


def test_trend_over_several_orders_counts_products_instead_of_naming_them() -> None:
    rows = frame(
        run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"]),
        run_rows("naive", {"pixel_f1_max": TWO}, ["b", "a"], order=1),
    )
    assert trend(rows, "pixel_f1_max", "padim").axes[0].get_xlabel() == "products learned"


def test_the_matrix_picture_is_labelled_in_training_order() -> None:
    rows = line(["zipper", "apple"])
    axes = heat_matrix(rows, "pixel_f1_max", "padim", "naive").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zipper", "apple"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["zipper", "apple"]
    cells = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): ".89", (0, 1): ".59", (1, 1): ".79"}, "(on, after): means over two seeds"
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "time runs downwards"


def test_a_step_of_several_products_is_one_row_of_the_matrix() -> None:
    table = [[np.nan], [0.9, 0.8], [0.6, 0.8, 0.7]]
    names = ["a washer of brass", "bolt", "nut"]
    rows = frame([row for row in run_rows("naive", {"pixel_f1_max": table}, names) if row["after_task"] > 0])
    axes = heat_matrix(rows, "pixel_f1_max", "padim", "naive").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a washer… +1", "nut"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a washer of…", "bolt", "nut"]
    cells = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): ".90", (1, 0): ".80", (0, 1): ".60", (1, 1): ".80", (2, 1): ".70"}
    (drawn,) = trend(rows, "pixel_f1_max", "padim").axes[0].lines
    np.testing.assert_allclose(drawn.get_xydata(), [[2, 0.85], [3, 0.7]])
    at_once = rows[rows["after_task"] == 2]
    assert [drawing.section for drawing in all_figures(at_once, summarise(at_once))] == ["bars", "products"]


def test_bars_show_quality_memory_and_time() -> None:
    quality, memory, time = bars(summarise(line())).axes
    assert {text.get_text() for text in quality.texts} == {"0.865", "0.690", "0.790"}
    assert {text.get_text() for text in memory.texts} == {"23.0"}, "13 of networks and 10 beside"
    assert {text.get_text() for text in time.texts} == {"20 s"}


def test_products_are_compared_at_the_end() -> None:
    table = final_products(line(), "pixel_f1_max", "padim")
    assert list(table.index) == ["washer", "bolt"]
    assert list(table.columns) == ["single", "naive", "pertask"]
    assert table.loc["washer", "naive"] == pytest.approx(0.59)
    heights = [round(bar.get_height(), 3) for bar in products(line(), "pixel_f1_max", "padim").axes[0].patches]
    assert heights == [0.99, 0.74, 0.59, 0.79, 0.79, 0.79]


def test_only_what_can_be_drawn_is_planned() -> None:
    one = frame(run_rows("naive", {"image_auroc": [[0.9]]}, ["a"]))
    assert [drawing.section for drawing in all_figures(one, summarise(one))] == ["bars", "products"]
    nothing = one.query("metric != 'image_auroc'")
    assert [drawing.section for drawing in all_figures(nothing, summarise(nothing))] == ["bars"]
    assert bars(summarise(nothing)).axes


def test_a_strategy_has_one_colour_and_replay_darkens_with_size() -> None:
    assert style.colour("naive") == style.colour("naive")
    known = ["single", "multitask", "naive", "replay:300", "replay:800", "accumulate", "average", "pertask"]
    assert len({style.colour(name) for name in known}) == len(known)
    small, large = (sum(bytes.fromhex(style.colour(name)[1:])) for name in ("replay:100", "replay:800"))
    assert small > large
    assert re.fullmatch("#[0-9a-f]{6}", style.colour('x"><script>:7'))


def test_figures_of_strategies_that_look_alike_are_different_files() -> None:
    names = ("replay:300", "replay-300", "replay 300")
    rows = frame(*(run_rows(name, {"pixel_f1_max": TWO}, ["a", "b"]) for name in names))
    drawn = [drawing.name for drawing in all_figures(rows, summarise(rows)) if drawing.section == "matrix"]
    assert len(set(drawn)) == len(drawn) == 3


def test_labels_that_collide_move_apart_and_keep_their_order() -> None:
    placed = spread(np.array([0.50, 0.51, 0.9, 0.505]), 0.1)
    np.testing.assert_allclose(placed, [0.405, 0.605, 0.9, 0.505])
    np.testing.assert_allclose(spread(np.array([0.2, 0.8]), 0.1), [0.2, 0.8])


def test_svg_in_a_page_follows_its_colours_and_escapes_names() -> None:
    text = to_svg(trend(line(["<script>alert(1)</script>", "$x^2$ Ü"]), "pixel_f1_max", "padim"))
    element = inline_svg(text, "f7", 'a "title" <b>')
    assert element.startswith('<svg viewBox="')
    assert "<script" not in element
    assert "$x^2$ Ü" in element, "no formula, and text stays text"
    assert "http" not in element
    assert "currentColor" in element
    assert 'aria-label="a &#34;title&#34; &#60;b&#62;"' in element
    assert all(name.startswith("f7-") for name in re.findall(r'\bid="([^"]*)"', element))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', element))
    assert used <= set(re.findall(r'\bid="([^"]*)"', element))


def test_equal_rows_give_equal_files() -> None:
    rows = line()
    assert to_svg(heat_matrix(rows, "pixel_f1_max", "padim", "naive")) == to_svg(
        heat_matrix(rows, "pixel_f1_max", "padim", "naive")
    )
