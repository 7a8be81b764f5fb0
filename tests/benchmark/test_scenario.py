"""What a strategy is given of the task when it is tested."""

from __future__ import annotations

import pandas as pd
import pytest
from toys import stream

from continuad.benchmark.evaluate import evaluate
from continuad.benchmark.grid import cells
from continuad.benchmark.run import run
from continuad.benchmark.scenario import left_out, task_is_given
from continuad.benchmark.settings import Settings
from continuad.core.strategy import Strategy
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.pertask import PerTask
from continuad.strategies.single import Single

TIMES = ("train_seconds", "inference_ms", "task_inference_ms_pooled", "task_inference_ms_lowest")


def padim() -> Padim:
    return Padim(image_size=64, channels=12)


def values(rows: pd.DataFrame) -> pd.Series:
    """Everything but times, by where and what it is."""
    kept = rows[~rows.metric.isin(TIMES)]
    return kept.set_index(["after_task", "on_task", "metric"])["value"]


@pytest.mark.parametrize(
    ("scenario", "kept", "task_given"),
    [
        ("", (Single, Naive, PerTask), (Single,)),
        ("task", (Single, Naive, PerTask), (Single, Naive, PerTask)),
        ("domain", (Naive, PerTask), ()),
        ("class", (PerTask,), ()),
    ],
)
def test_who_takes_part_and_who_is_given_the_task(
    scenario: str, kept: tuple[type[Strategy], ...], task_given: tuple[type[Strategy], ...]
) -> None:
    kinds = (Single, Naive, PerTask)
    assert tuple(kind for kind in kinds if left_out(scenario, kind) is None) == kept
    assert tuple(kind for kind in kept if task_is_given(scenario, kind(padim()))) == task_given


ORACLE = "oracle_"


@pytest.mark.parametrize("kind", [PerTask, Naive, Multitask])
def test_the_task_scenario_gives_what_the_oracle_has(kind: type[Strategy]) -> None:
    """Predictions and thresholds of the product, also where nothing is inferred."""
    natural, given = (values(run(stream(2), kind(padim()), scenario=s)) for s in ("", "task"))
    metrics = given.index.get_level_values("metric")
    assert not [m for m in metrics if m.startswith((ORACLE, "task_accuracy", "unknown_rate"))]
    oracle = {(a, on, m.removeprefix(ORACLE)): v for (a, on, m), v in natural.items() if m.startswith(ORACLE)}
    assert {m for _, _, m in oracle} >= {"image_f1", "image_fpr", "image_recall_1pct", "pixel_f1", "pixel_auroc"}
    assert oracle == {place: given[place] for place in oracle}
    assert "inference_ms" in set(run(stream(1), kind(padim()), scenario="task").metric)


def test_where_nobody_knows_the_product_one_threshold_serves_all() -> None:
    """Tested are images of the product with the lower scores, whose own threshold is below the one for everything.
    Who is not given the product has the same by nature, and what its own threshold gives as the oracle's."""
    strategy = Multitask(padim())
    rows, natural = (
        values(run(stream(2), each, scenario=s)) for each, s in ((strategy, "domain"), (Multitask(padim()), ""))
    )
    task = stream(2)[min((0, 1), key=lambda t: strategy.thresholds(t).image)]
    (shared, few), (own, many) = (evaluate(strategy, task, task_given=given) for given in (False, True))
    assert few.decided.sum() < many.decided.sum()
    assert rows[1, task.index, "pixel_f1"] == shared["pixel_f1"]
    assert natural[1, task.index, "oracle_pixel_f1"] == own["pixel_f1"] != shared["pixel_f1"]
    pd.testing.assert_series_equal(natural, rows)


def test_the_class_scenario_is_what_pertask_does_by_nature() -> None:
    pd.testing.assert_series_equal(*(values(run(stream(2), PerTask(padim()), scenario=s)) for s in ("", "class")))


def test_who_is_given_the_task_has_no_answer_for_tasks_to_come() -> None:
    rows = run(stream(2), PerTask(padim()), scenario="task", look_ahead=True)
    assert (rows.on_task <= rows.after_task).all()


def test_who_takes_no_part_is_left_out_of_the_grid_with_the_reason() -> None:
    asked = Settings(scenario="class", strategy=("single", "naive", "replay:5+reservoir:5", "pertask"))
    kept, refused = cells(asked)
    assert {cell.strategy for cell in kept} == {"pertask"}
    assert refused["padim × naive"] == "it does not infer the task, as the scenario class asks"
    assert set(refused) == {"padim × single", "padim × naive", "padim × replay:5+reservoir:5"}
    _, refused = cells(Settings(scenario="domain", strategy=("single", "naive")))
    assert "must be given the task" in refused["padim × single"]
    with pytest.raises(ContinuadError, match="strategy naive takes no part in the scenario class: it does not infer"):
        run(stream(1), Naive(padim()), scenario="class")


def test_an_unknown_scenario_is_refused_with_the_list() -> None:
    with pytest.raises(ContinuadError, match="--scenario klass is not known; there are task, domain, class"):
        cells(Settings(scenario="klass"))
