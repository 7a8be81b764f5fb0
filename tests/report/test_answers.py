"""The answers at the top of a report, computed from rows."""

from __future__ import annotations

import pytest
from report_cases import BEST, TWO, frame, line, run_rows

from continuad.report.answers import Answer, answers, changes, headline, not_available, unfinished
from continuad.report.tables import over_seeds, summarise

NAN = float("nan")


def answer(strategy: str, table: list[list[float]], names: list[str]) -> Answer:
    """The answer for one strategy beside a single model that reaches 0.9 everywhere."""
    single = [[0.9] * (after + 1) for after in range(len(table))]
    rows = frame(
        run_rows("single", {"pixel_f1_max": single}, names), run_rows(strategy, {"pixel_f1_max": table}, names)
    )
    found = answers(rows, over_seeds(summarise(rows)), "pixel_f1_max")
    return next(one for one in found if one.strategy == strategy)


def test_a_product_that_fell_is_named_with_its_numbers() -> None:
    one = answer("naive", [[0.8], [0.5, 0.7], [0.1, 0.68, 0.6]], ["screw", "bolt", "nut"])
    assert one.verdict == "yes"
    assert one.sentence.startswith("Yes. screw fell from 0.80 to 0.10 in Pixel F1")
    assert "1 of 2 earlier products lost 0.05 or more, the mean change is −0.36" in one.sentence
    assert one.worst == pytest.approx(-0.7)


def test_nothing_lost_is_a_no_with_the_worst_change() -> None:
    one = answer("pertask", [[0.8], [0.8, 0.85]], ["screw", "bolt"])
    assert one.verdict == "no"
    assert one.sentence == "No. Worst change of an earlier product: 0.000 Pixel F1 max (screw, 0.800 → 0.800)."
    assert "+0.100" in answer("replay:9", [[0.8], [0.9, 0.85]], ["screw", "bolt"]).sentence


def test_a_small_loss_is_a_little() -> None:
    assert answer("replay:9", [[0.8], [0.77, 0.8]], ["screw", "bolt"]).verdict == "a little"


def test_a_strategy_with_little_to_forget_is_said_to_be_weak() -> None:
    one = answer("average", [[0.2], [0.2, 0.25]], ["screw", "bolt"])
    assert one.verdict == "no"
    assert "reaches 25 % of what a separate model per product does" in one.sentence


def test_the_mean_over_seeds_decides() -> None:
    rows = line()
    table = changes(rows, "pixel_f1_max", "padim", "naive")
    assert table.loc["washer", "learned"] == pytest.approx(0.89)
    assert table.loc["washer", "final"] == pytest.approx(0.59)
    assert list(table.index) == ["washer"], "the last product is no earlier one"


def test_references_and_first_products_have_nothing_to_forget() -> None:
    assert answer("multitask", TWO, ["a", "b"]).verdict == "reference"
    one = answer("naive", [[0.9]], ["a"])
    assert one.verdict == "open"
    assert headline([one], "pixel_f1_max", several=False).startswith("It cannot be said yet")


def test_a_run_that_was_only_measured_in_the_end_is_open() -> None:
    one = answer("naive", [[NAN], [0.5, 0.6]], ["a", "b"])
    assert one.verdict == "open"
    assert one.sentence == "No earlier product has Pixel F1 max both when it was learned and at the end."
    assert headline([one], "pixel_f1_max", several=False) == f"It cannot be said yet. {one.sentence}"


def test_a_product_that_was_not_measured_is_not_spoken_for() -> None:
    one = answer("naive", [[NAN], [NAN, 0.8], [NAN, 0.77, 0.7]], ["a", "b", "c"])
    assert one.sentence.startswith("A little. b fell from 0.80 to 0.77")
    assert "1 without Pixel F1 max is not counted" in one.sentence


def test_references_alone_say_nothing_of_forgetting() -> None:
    found = [answer(name, TWO, ["a", "b"]) for name in ("single", "multitask")]
    assert headline(found, "pixel_f1_max", several=False).startswith("It cannot be said: only references were run")


def test_products_of_the_last_step_are_no_earlier_ones() -> None:
    table = [[0.9], [NAN, NAN], [0.7, 0.8, 0.6]]
    rows = frame([row for row in run_rows("naive", {"pixel_f1_max": table}, ["a", "b", "c"]) if row["after_task"] != 1])
    assert list(changes(rows, "pixel_f1_max", "padim", "naive").index) == ["a"]
    at_once = rows[rows["after_task"] == 2]
    (one,) = answers(at_once, over_seeds(summarise(at_once)), "pixel_f1_max")
    assert one.sentence.startswith("All 3 products were learned in one step")


def test_what_a_scenario_leaves_out_is_said() -> None:
    rows = line()
    means = over_seeds(summarise(rows))
    said = not_available(rows, means, {"scenario": "task", "open_set": ["parts/pin"]})
    assert any(text.startswith("Task accuracy: in the scenario task") for text in said)
    assert any(text.startswith("Open-set AUROC, for single, naive, pertask") for text in said)


def test_the_headline_sums_up_all_strategies() -> None:
    rows = line()
    found = answers(rows, over_seeds(summarise(rows)), "pixel_f1_max")
    text = headline(found, "pixel_f1_max", several=False)
    assert (
        text
        == "Not with pertask; yes with naive. Best of these at the end: pertask, with a mean Pixel F1 max of 0.790."
    )


def test_the_headline_leaves_no_strategy_out_and_compares_the_same_products() -> None:
    rows = frame(
        run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"]),
        run_rows("pertask", {"pixel_f1_max": [[0.99]]}, ["a", "b"]),
        run_rows("average", {"pixel_f1_max": [[0.5], [0.5, 0.5]]}, ["a", "b"]),
    )
    text = headline(answers(rows, over_seeds(summarise(rows)), "pixel_f1_max"), "pixel_f1_max", several=False)
    assert text.startswith(
        "Not with average; yes with naive; cannot be said of pertask. Best of these at the end: naive,"
    )


def test_a_run_that_is_still_going_is_named() -> None:
    rows = frame(
        run_rows("naive", {"pixel_f1_max": TWO}, ["a", "b"]),
        run_rows("pertask", {"pixel_f1_max": [[0.8]]}, ["a", "b"]),
    )
    assert unfinished(rows, {}) == ["padim-pertask-seed0-order0: 1 of 2 products"]
    settings = {
        "products": ["a", "b"],
        "detector": ["padim"],
        "strategy": ["naive", "pertask", "replay:9", "ewc"],
        "seeds": [0],
        "orders": 1,
        "notes": ["padim × ewc does not apply: it learns without gradients"],
    }
    assert unfinished(rows, settings) == [
        "padim-pertask-seed0-order0: 1 of 2 products",
        "padim with replay:9: 1 of 1 runs without a product yet",
    ]
    assert unfinished(line(), {"products": ["washer", "bolt"]}) == []
    assert len(unfinished(line(), {"products": ["washer", "bolt", "nut"]})) == 6


def test_forgetting_needs_two_steps() -> None:
    runs = [run_rows(name, {"pixel_f1_max": [[NAN], [0.9, 0.8]]}, ["a", "b"]) for name in ("naive", "single")]
    rows = frame([row for run in runs for row in run if row["after_task"] == 1])
    said = not_available(rows, over_seeds(summarise(rows)), {})
    assert "Forgetting, for naive: needs products learned in two steps or more." in said
    assert not any(text.startswith("Forgetting") for text in not_available(line(), over_seeds(summarise(line())), {}))


def test_what_is_missing_is_named_with_its_reason() -> None:
    with_gap = frame(run_rows("naive", {"pixel_f1_max": [[0.9], [0.6, NAN]], "image_f1_max": BEST}, ["washer", "bolt"]))
    said = not_available(with_gap, over_seeds(summarise(with_gap)), {"notes": ["bolt: masks are missing"]})
    assert said[0] == "bolt: masks are missing"
    assert any(text.startswith("Pixel metrics of bolt: none of its test images has") for text in said)
    assert any("“single” was not run" in text for text in said)
    assert not any(text.startswith("Image metrics") for text in said)
