"""Streams in which several products are learned together, and measured one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toys import ToyAutoencoder, stream

from continuad.benchmark.grouping import group_sizes, in_steps
from continuad.benchmark.protocol import Protocol
from continuad.benchmark.run import Walk, run
from continuad.core.strategy import Strategy
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.models.registry import make_strategy
from continuad.report.tables import matrix, summarise
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.pertask import PerTask
from continuad.strategies.single import Single

TIMES = ("train_seconds", "inference_ms", "task_inference_ms_pooled", "task_inference_ms_lowest")


def padim() -> Padim:
    return Padim(image_size=64, channels=12)


def without_times(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[~rows.metric.isin(TIMES)].reset_index(drop=True)


@pytest.mark.parametrize(
    ("groups", "products", "sizes"),
    [
        ("", 3, [1, 1, 1]),
        ("14-1", 15, [14, 1]),
        ("14-1", 17, [14, 1, 1, 1]),
        ("10-5", 15, [10, 5]),
        ("10-5", 20, [10, 5, 5]),
        ("10-1x5", 15, [10, 1, 1, 1, 1, 1]),
        ("3x5", 15, [3, 3, 3, 3, 3]),
        ("2x2-3", 10, [2, 2, 3, 3]),
        ("5", 15, [5, 5, 5]),
        ("15", 15, [15]),
        ("1", 1, [1]),
    ],
)
def test_the_forms_of_the_literature(groups: str, products: int, sizes: list[int]) -> None:
    assert group_sizes(groups, products) == sizes


@pytest.mark.parametrize(
    ("groups", "products", "said"),
    [
        ("10-5", 12, r"steps of 15 products in all and the stream has 12; .* add up to 12, such as 10-2 or 1x12"),
        ("14-1", 10, r"steps of 15 products in all and the stream has 10; .* such as 9-1 or 1x10"),
        ("10-5", 17, "steps of 15 products in all and the stream has 17"),
        ("3x5", 14, "steps of 15 products in all and the stream has 14"),
        ("10-1x5", 17, "steps of 15 products in all and the stream has 17"),
        ("2", 1, "such as 1 or 1x1"),
        ("ten", 10, "cannot be read; write 14-1"),
        ("0-5", 5, "cannot be read"),
        ("5-", 5, "cannot be read"),
        ("5x", 5, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(groups: str, products: int, said: str) -> None:
    with pytest.raises(ContinuadError, match=said):
        group_sizes(groups, products)


def test_a_step_reads_its_products_one_after_another() -> None:
    tasks = stream()
    first, second = in_steps(tasks, [2, 1])
    assert (first.task.index, first.task.name, first.places) == (0, "zebra + chess", range(2))
    assert (second.task.index, second.task.name, second.places) == (1, "egg", range(2, 3))
    images = torch.cat([torch.from_numpy(task.train.images) for task in tasks[:2]])
    assert torch.equal(first.task.train.__getitems__(list(range(24))).image, images)
    assert len(first.task.val) == 8
    assert second.task.train is tasks[2].train
    assert in_steps([tasks[0]] * 5, [5])[0].task.name == "zebra + zebra + 3 more"


def test_in_steps_one_product_are_the_plain_stream() -> None:
    pd.testing.assert_frame_equal(*(without_times(run(stream(), PerTask(padim()), groups=g)) for g in ("", "1x3")))


def test_products_of_a_step_are_learned_together_and_measured_apart() -> None:
    rows, together = run(stream(), Naive(padim()), groups="2-1"), run(stream(), Multitask(padim()))
    scores = rows[rows.metric == "pixel_auroc"]
    assert list(zip(scores.after_task, scores.on_task, strict=True)) == [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert list(dict.fromkeys(rows.after_name)) == ["zebra + chess", "egg"]
    r, names = matrix(rows, "pixel_auroc", rows.run.iloc[0])
    assert names == ["zebra", "chess", "egg"]
    union = matrix(together, "pixel_auroc", together.run.iloc[0])[0]
    np.testing.assert_array_equal(r[1, :2], union[1, :2], "one model of all images of both")
    summary = summarise(rows).iloc[0]
    assert summary.tasks == 3
    assert summary.pixel_auroc == pytest.approx(r[2].mean())
    assert summary.forgetting_pixel_auroc == pytest.approx((r[1, :2] - r[2, :2]).mean())
    assert summary.backward_transfer_pixel_auroc == pytest.approx((r[2, :2] - r[1, :2]).mean())
    cost = rows[rows.metric == "train_seconds"]
    assert cost[["after_task", "on_task"]].values.tolist() == [[1, 1], [2, 2]], "once a step"
    assert (rows.metric == "steps").sum() == 3, "and steps for each of its products"


def test_the_task_of_a_product_is_the_step_it_was_learned_in() -> None:
    strategy = PerTask(padim(), reject=None)
    rows = run(stream(), strategy, groups="1-2", look_ahead=True)
    right = rows[(rows.metric == "task_accuracy") & (rows.after_task == 2)].set_index("on_task").value
    for place, (task, step) in enumerate(zip(stream(), (0, 1, 1), strict=True)):
        found = strategy.infer_task(torch.from_numpy(task.test.images))
        assert right[place] == pytest.approx(float((found == step).float().mean()))
    assert right.mean() > 0.9
    assert [task.index for task in strategy.tasks] == [0, 1]
    r, _ = matrix(rows, "pixel_auroc", rows.run.iloc[0])
    ahead = summarise(rows).forward_transfer_pixel_auroc.item()
    assert ahead == pytest.approx(r[0, 1:].mean() - 0.5), "both products of the second step, before it"


@pytest.mark.parametrize("kind", [Single, Multitask])
def test_references_learn_the_same_steps(kind: type[Strategy]) -> None:
    rows = run(stream(), kind(padim()), groups="2-1")
    r, _ = matrix(rows, "pixel_auroc", rows.run.iloc[0])
    assert np.isfinite(r[1, :2]).all()
    assert np.isfinite(r[2]).all()


@pytest.mark.parametrize("name", ["replay:6", "herding:6", "reservoir:6", "gem:6", "ewc", "packnet", "replay:25%+lwf"])
def test_strategies_remember_steps_of_several_products(name: str) -> None:
    rows = run(stream(), make_strategy(name, ToyAutoencoder()), groups="2-1")
    assert rows.value.notna().all()


def test_examples_and_a_second_call_count_products(tmp_path: Path) -> None:
    first = run(stream(), PerTask(padim()), tmp_path / "run", groups="2-1")
    Walk(stream(), Protocol(groups="2-1"), examples=tmp_path / "examples").teach(PerTask(padim()), "pertask")
    assert sorted(f.name for f in (tmp_path / "examples").rglob("*.npz")) == [
        "00_zebra.npz",
        "01_chess.npz",
        "02_egg.npz",
    ]
    again = run(stream(), PerTask(padim()), tmp_path / "run", groups="2-1")
    pd.testing.assert_frame_equal(again, first)
    with pytest.raises(ContinuadError, match="tested otherwise"):
        run(stream(), PerTask(padim()), tmp_path / "run")
