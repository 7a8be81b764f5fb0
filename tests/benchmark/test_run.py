"""A walk along a stream: its rows, and the same rows after being killed anywhere."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toys import ToyAutoencoder, stream

from continuad.benchmark.evaluate import evaluate
from continuad.benchmark.folder import ROWS, RunFolder
from continuad.benchmark.grid import Cell, build, cells, run_grid
from continuad.benchmark.protocol import Protocol
from continuad.benchmark.run import Walk, learned_names, run, run_name
from continuad.benchmark.settings import Settings
from continuad.core.fit import Budget
from continuad.core.strategy import Strategy
from continuad.core.types import Task
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.models.store import load_model, read_manifest, save_model
from continuad.report.files import load_rows
from continuad.report.tables import matrix, summarise
from continuad.strategies.ewc import Ewc
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.pertask import PerTask
from continuad.strategies.replay import Replay
from continuad.strategies.single import Single

TIMES = ("train_seconds", "inference_ms", "task_inference_ms_pooled", "task_inference_ms_lowest")


def padim() -> Padim:
    return Padim(image_size=64, channels=12)


def without_times(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[~rows.metric.isin(TIMES)].reset_index(drop=True)


def test_rows_of_a_run() -> None:
    rows = run(stream(), PerTask(padim()))
    scores = rows[rows.metric == "pixel_f1_max"]
    assert list(zip(scores.after_task, scores.on_task, strict=True)) == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert set(rows.on_name) == {"zebra", "chess", "egg", ""}
    assert {"task_accuracy_pooled", "task_inference_ms_lowest"} <= set(rows[rows.after_task == 2].metric)
    assert (rows[rows.metric == "train_seconds"].on_task == rows[rows.metric == "train_seconds"].after_task).all()
    assert set(rows[rows.on_task == -1].metric) == {"architecture_mb", "additional_mb", "learning_mb", "inference_ms"}


@pytest.mark.parametrize("kind", [Naive, PerTask])
def test_looking_ahead_measures_tasks_still_to_come(kind: type[Strategy]) -> None:
    rows = run(stream(2), kind(padim()), look_ahead=True)
    r, _ = matrix(rows, "pixel_auroc", rows.run.iloc[0])
    assert np.isfinite(r).all()
    summary = summarise(rows)
    assert summary.forward_transfer_pixel_auroc.item() == pytest.approx(r[0, 1] - 0.5)
    plain = run(stream(2), kind(padim()))
    assert np.isnan(summarise(plain).forward_transfer_pixel_auroc.item())
    seen = plain[plain.metric == "pixel_auroc"].value.tolist()
    assert seen == rows[(rows.metric == "pixel_auroc") & (rows.on_task <= rows.after_task)].value.tolist()


def test_separate_models_are_measured_when_learned_and_after_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between these the values are carried over; they are those that measuring every time gives."""
    asked: list[str] = []

    def counting(strategy: Strategy, task: Task, *args: Any, **options: Any) -> Any:
        asked.append(task.name)
        return evaluate(strategy, task, *args, **options)

    monkeypatch.setattr("continuad.benchmark.run.evaluate", counting)
    rows = run(stream(), Single(padim()))
    assert asked == ["zebra", "chess", "zebra", "chess", "egg"]
    monkeypatch.setattr("continuad.benchmark.run.unchanged", lambda *_: {})
    pd.testing.assert_frame_equal(without_times(rows), without_times(run(stream(), Single(padim()))))
    assert len(asked) == 5 + 6


def test_many_large_maps_go_to_a_file_and_give_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = run(stream(1), Naive(padim()))
    monkeypatch.setattr("continuad.benchmark.evaluate.LARGE", 1000)
    pd.testing.assert_frame_equal(without_times(run(stream(1), Naive(padim()))), without_times(in_memory))


def test_intransigence_is_measured_against_multitask() -> None:
    both = pd.concat([run(stream(2), kind(padim())) for kind in (Multitask, Naive)])
    together, alone = (matrix(both, "pixel_auroc", r)[0].diagonal() for r in both.run.unique())
    naive = summarise(both).set_index("strategy").loc["naive"]
    assert naive.intransigence_pixel_auroc == pytest.approx((together - alone).mean())


def test_pertask_forgets_exactly_nothing_and_naive_does() -> None:
    kept, lost = run(stream(), PerTask(padim())), run(stream(), Naive(padim()))
    r, names = matrix(kept, "pixel_f1_max", kept.run.iloc[0])
    assert names == ["zebra", "chess", "egg"]  # BL-127: the order of learning, not the alphabet's
    assert all(r[after, on] == r[on, on] for after in range(3) for on in range(after + 1))
    r, _ = matrix(lost, "pixel_auroc", lost.run.iloc[0])
    assert r[2, 0] < r[0, 0]


class Killed(BaseException):
    """Not an Exception, so that nothing on the way may swallow it."""


@cache
def whole_run(kind: type[Strategy]) -> pd.DataFrame:
    return run(stream(), kind(padim()))


@pytest.mark.parametrize("moment", range(1, 11))
@pytest.mark.parametrize("kind", [Replay, PerTask])
def test_killed_anywhere_resumes_to_identical_rows(
    kind: type[Strategy], moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the n-th file that is put in place; a run of three steps puts ten or more."""
    replaced, calls = os.replace, 0

    def dying(source: str, target: str) -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise Killed
        replaced(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with contextlib.suppress(Killed):
        run(stream(), kind(padim()), tmp_path / "cut")
    assert calls == moment
    monkeypatch.setattr(os, "replace", replaced)
    again = run(stream(), kind(padim()), tmp_path / "cut")
    pd.testing.assert_frame_equal(without_times(again), without_times(whole_run(kind)))


def kept_rows(folder: Path) -> pd.DataFrame:
    return pd.DataFrame(json.loads((folder / ROWS).read_text(encoding="utf-8"))["rows"])


def test_rows_that_were_written_before_their_model_was_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two files: the rows know two steps, the model one."""

    def dying(strategy: Strategy, folder: Path, extra: dict[str, Any]) -> None:
        if extra["cursor"] == 2:
            raise Killed
        save_model(strategy, folder, extra)

    monkeypatch.setattr("continuad.benchmark.folder.save_model", dying)
    with pytest.raises(Killed):
        run(stream(), Replay(padim()), tmp_path / "cut")
    assert set(kept_rows(tmp_path / "cut").after_task) == {0, 1}
    assert read_manifest(tmp_path / "cut")["extra"]["cursor"] == 1
    monkeypatch.undo()
    again = run(stream(), Replay(padim()), tmp_path / "cut")
    pd.testing.assert_frame_equal(without_times(again), without_times(whole_run(Replay)))
    assert not again.duplicated(["after_task", "on_task", "metric"]).any()


def test_rows_lie_in_one_file_and_the_model_holds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    keep = RunFolder.keep

    def look(folder: RunFolder, strategy: Strategy, rows: list[dict[str, Any]], cursor: int) -> None:
        keep(folder, strategy, rows, cursor)
        assert kept_rows(tmp_path).to_dict("records") == rows
        seen.append(len(rows))

    monkeypatch.setattr(RunFolder, "keep", look)
    rows = run(stream(), Naive(padim()), tmp_path)
    assert len(seen) == 3
    pd.testing.assert_frame_equal(kept_rows(tmp_path), rows)
    assert set(read_manifest(tmp_path)["extra"]) == {"stream", "cursor"}


def test_a_model_without_its_rows_is_refused(tmp_path: Path) -> None:
    run(stream(2), Naive(padim()), tmp_path)
    (tmp_path / ROWS).unlink()
    with pytest.raises(ContinuadError, match=r"rows\.json lacks rows of steps .* remove the folder"):
        run(stream(2), Naive(padim()), tmp_path)
    (tmp_path / ROWS).write_text("[1", encoding="utf-8")
    with pytest.raises(ContinuadError, match=r"rows\.json cannot be read"):
        run(stream(2), Naive(padim()), tmp_path)


def test_a_strategy_that_has_learned_something_begins_no_run(tmp_path: Path) -> None:
    strategy = Naive(padim())
    for task in stream(2):
        strategy.learn(task)
    for into in (None, tmp_path / "new"):
        with pytest.raises(ContinuadError, match=r"has learned zebra, chess already .*strategy\.learn\(task\)"):
            run(stream(), strategy, into)
    learned = Naive(padim())
    rows = run(stream(2), learned, tmp_path / "kept")
    assert learned_names(learned) == ["zebra", "chess"]
    pd.testing.assert_frame_equal(run(stream(2), learned, tmp_path / "kept"), rows)
    other = Naive(padim())
    other.learn(stream()[2])
    with pytest.raises(ContinuadError, match="has learned egg already"):  # what it knows is not replaced either
        run(stream(2), other, tmp_path / "kept")


def test_separate_runs_of_one_grid_may_go_on_side_by_side(tmp_path: Path) -> None:
    """Two processes, each with a cell of its own, that wait for each other in the middle of learning."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    names = ("naive", "pertask")
    processes = [context.Process(target=one_cell, args=(name, tmp_path / "both", barrier)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"runs", "examples"}, "nothing that both write"
    asked = settings()
    run_grid(asked, cells(asked)[0], tmp_path / "alone", lambda *_: stream(2))
    both, alone = (without_times(load_rows(tmp_path / name)) for name in ("both", "alone"))
    pd.testing.assert_frame_equal(both, alone)


def one_cell(strategy: str, out: Path, barrier: Any) -> None:
    """What one of several workers does."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)

    def wait(what: str, done: int, total: int) -> None:
        if what == "testing chess" and done == 1:
            barrier.wait(60)

    run_grid(settings(), [Cell("padim", strategy, 0, 0)], out, lambda *_: stream(2), notify=wait)


def test_killed_while_learning_resumes_to_identical_rows(tmp_path: Path) -> None:
    whole = run(stream(), Naive(ToyAutoencoder()), tmp_path / "whole")

    def die(what: str, done: int, total: int) -> None:
        if what == "learning chess" and done == 5:
            raise Killed

    with pytest.raises(Killed):
        run(stream(), Naive(ToyAutoencoder()), tmp_path / "cut", notify=die)
    again = run(stream(), Naive(ToyAutoencoder()), tmp_path / "cut")
    pd.testing.assert_frame_equal(without_times(again), without_times(whole))


def test_the_same_run_twice_gives_the_same_rows() -> None:
    one, two = (without_times(run(stream(2), Naive(ToyAutoencoder(seed=4), seed=4))) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_a_run_on_other_images_is_not_mixed_in(tmp_path: Path) -> None:
    run(stream(1), Naive(padim()), tmp_path)
    other = stream(1)
    other[0].train.images[0] = 0
    with pytest.raises(ContinuadError, match="other images"):
        run(other, Naive(padim()), tmp_path)


def test_what_cannot_be_measured_has_no_row() -> None:
    tasks = stream(2)
    tasks[0].test.labels[:] = False
    tasks[0].test.masks[:] = False
    tasks[1].test.mask_known[tasks[1].test.labels] = False
    rows = run(tasks, Naive(padim()))
    first, second = (set(rows[rows.on_task == t].metric) for t in (0, 1))
    false_alarms = {"image_fpr", "image_fpr_1pct", "image_fpr_5pct", "image_fpr_promised"}
    oracle = {f"oracle_{metric}" for metric in false_alarms}
    assert first == {"train_seconds", "steps", "good_fpr", "good_level"} | false_alarms | oracle
    assert not {"good_fpr", "good_level"} & second
    assert "image_auroc" in second
    assert "pixel_auroc" not in second


def settings(**given: object) -> Settings:
    base = {"image_size": (64, 64), "strategy": ("naive", "pertask"), "options": {"padim.channels": 12}}
    return Settings.of(base | given, "test")


def test_a_grid_fills_one_folder_and_repeats_nothing(tmp_path: Path) -> None:
    opened, asked = [], settings(seeds=(0, 1))

    def open_stream(seed: int, order: int) -> list:
        opened.append((seed, order))
        return stream(2)

    run_grid(asked, cells(asked)[0], tmp_path, open_stream)
    rows = load_rows(tmp_path)
    assert opened == [(0, 0), (1, 0)]
    assert sorted(rows.run.unique()) == [f"padim_{s}_seed{k}_order0" for s in ("naive", "pertask") for k in (0, 1)]
    assert sorted(rows.run.unique()) == sorted(f.name for f in (tmp_path / "runs").iterdir())
    assert {f.name for f in (tmp_path / "runs").rglob("*") if f.is_file()} == {ROWS}
    grown = settings(seeds=(0, 1), strategy=("naive", "pertask", "average"))
    before = {f: f.read_bytes() for f in (tmp_path / "runs").rglob("*.json")}
    run_grid(grown, cells(grown)[0], tmp_path, open_stream)
    assert all(f.read_bytes() == kept for f, kept in before.items())
    assert len(load_rows(tmp_path)) == len(rows) + (rows.strategy == "naive").sum()  # as many rows as naive's
    assert len(list((tmp_path / "examples").iterdir())) == 6


def test_models_of_a_grid_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    run_grid(settings(), [Cell("padim", "naive", 0, 0)], tmp_path, lambda *_: stream(2), keep_models=True)
    folder = tmp_path / "runs" / "padim_naive_seed0_order0"
    assert load_model(folder)[1]["cursor"] == 2
    assert json.loads((folder / ROWS).read_text())["finished"] is True


def test_a_run_that_was_stopped_is_not_finished(tmp_path: Path) -> None:
    def die(what: str, done: int, total: int) -> None:
        if what == "learning chess":
            raise Killed

    asked, cell = settings(detector=("toys:ToyAutoencoder",), options={}), Cell("toys:ToyAutoencoder", "naive", 0, 0)
    with pytest.raises(Killed):
        run_grid(asked, [cell], tmp_path, lambda *_: stream(2), notify=die)
    assert set(load_rows(tmp_path).after_task) == {0}
    run_grid(asked, [cell], tmp_path, lambda *_: stream(2))
    assert set(load_rows(tmp_path).after_task) == {0, 1}


def test_a_run_that_diverges_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ewc, "penalty", lambda self, images: float("inf") if self.tasks else 0.0)
    asked = settings(detector=("toys:ToyAutoencoder",), strategy=("ewc:1000", "naive"), options={})
    diverged = run_grid(asked, cells(asked)[0], tmp_path, lambda *_: stream(2))
    (name,) = diverged
    assert re.fullmatch(r"toys~ToyAutoencoder@[0-9a-f]+_ewc~1000_seed0_order0", name)
    assert "lower the strategy's strength" in diverged[name]
    assert load_rows(tmp_path).groupby("strategy").after_task.max().to_dict() == {"ewc:1000": 0, "naive": 1}


def test_runs_of_labels_that_look_alike_have_folders_of_their_own() -> None:
    strategy = Naive(padim())
    labels = ("replay:300", "replay-300", "replay~300", "replay:300%", "replay:300pct", "Replay:300", "replay_300")
    names = {run_name(strategy, label, 0).lower() for label in labels}
    assert len(names) == len(labels)
    assert run_name(strategy, "replay:300", 0) == "padim_replay~300_seed0_order0"
    assert len(run_name(strategy, "replay:300:" + "x" * 5000, 0)) < 120


def test_a_pair_that_does_not_apply_is_left_out_with_its_reason() -> None:
    asked = settings(detector=("padim", "toys:ToyAutoencoder"), strategy=("naive", "average"))
    kept, refused = cells(asked)
    assert [(c.detector, c.strategy) for c in kept] == [
        ("padim", "naive"),
        ("padim", "average"),
        ("toys:ToyAutoencoder", "naive"),
    ]
    assert "keeps none" in next(iter(refused.values()))
    with pytest.raises(ContinuadError, match="nothing to run"):
        cells(settings(detector=("toys:ToyAutoencoder",), strategy=("average",)))


def test_a_strategy_from_another_package_runs_in_a_grid(tmp_path: Path) -> None:
    external = "continuad.strategies.naive:Naive"
    asked = settings(strategy=(external,))
    run_grid(asked, cells(asked)[0], tmp_path, lambda *_: stream(1))
    assert set(load_rows(tmp_path).strategy) == {external}


def test_options_reach_the_detector_and_unknown_ones_are_refused() -> None:
    built = build(settings(), Cell("padim", "replay:7", 5, 0))
    assert built.detector.channels == 12
    assert built.exemplars == 7
    assert built.seed == 5
    with pytest.raises(ContinuadError, match="no option"):
        build(settings(options={"padim.chanels": 12}), Cell("padim", "naive", 0, 0))


def test_finished_runs_of_other_settings_are_refused(tmp_path: Path) -> None:
    grid = [Cell("padim", "naive", 0, 0)]
    run_grid(settings(), grid, tmp_path, lambda *_: stream(1))
    with pytest.raises(ContinuadError, match="other settings"):
        run_grid(settings(threshold="far:0.5"), grid, tmp_path, lambda *_: stream(1))


def test_a_share_of_exemplars_has_a_folder_and_a_measured_weight(tmp_path: Path) -> None:
    asked = settings(strategy=("replay:25%",))
    run_grid(asked, cells(asked)[0], tmp_path, lambda *_: stream(3))
    rows = load_rows(tmp_path)
    assert [re.sub("@[0-9a-f]+", "", f.name) for f in (tmp_path / "runs").iterdir()] == [
        "padim_replay~25pct_seed0_order0"
    ]
    assert set(rows.strategy) == {"replay:25%"}
    grown = rows[rows.metric == "additional_mb"].value.diff().dropna()
    exemplars = 4 * (3 * 64 * 64 + 8 + 8 + 2)  # a quarter of 12 + 4 images a task
    thresholds = 12 + 2 * 4 * 4  # the scores behind them, of a further four images, for the task and for everything
    owners = 4 * 8  # of the images that the newest model learned
    assert grown.tolist() == pytest.approx([(exemplars + thresholds + owners) / 1e6] * 2)


def test_budgets_reach_the_strategy() -> None:
    strategy = build(settings(epochs=3, patience=2), Cell("padim", "naive", 0, 0))
    assert strategy.budget == Budget(epochs=3, patience=2)
    with pytest.raises(ContinuadError, match="exclude each other"):
        build(settings(epochs=3, steps=2), Cell("padim", "naive", 0, 0))


def test_a_budget_that_a_strategy_cannot_keep_is_refused_before_data_are_read() -> None:
    asked = settings(detector=("fastflow",), strategy=("naive", "packnet"), epochs=3, patience=2)
    with pytest.raises(ContinuadError, match="packnet prunes at half of the steps and cannot stop early"):
        cells(asked)


def test_a_detector_may_have_steps_of_its_own() -> None:
    external = f"{ToyAutoencoder.__module__}:{ToyAutoencoder.__name__}"
    asked = Settings(detector=(external, "padim"), strategy=("naive",), steps=7, options={f"{external}.steps": 3})
    budgets = {cell.detector: build(asked, cell).budget.steps for cell in cells(asked)[0]}
    assert budgets == {external: 3, "padim": 7}


def test_a_product_with_a_very_long_name_has_examples(tmp_path: Path) -> None:
    tasks = [replace(task, name="ü" * 250 + task.name) for task in stream(2)]
    Walk(tasks, Protocol(), examples=tmp_path).teach(Naive(padim()), "naive")
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_examples_hold_everything_the_gallery_needs(tmp_path: Path) -> None:
    strategy = PerTask(padim())
    Walk(stream(2), Protocol(), examples=tmp_path).teach(strategy, "pertask")
    folder = tmp_path / run_name(strategy, "pertask", 0)
    with np.load(folder / "01_chess.npz") as kept:
        assert kept["image"].shape[1:] == (64, 64, 3)
        assert kept["map"].shape == kept["mask"].shape == kept["decision"].shape
        assert kept["centre"] < kept["threshold"]
        assert kept["label"].tolist()[0] is False
        assert kept["name"][0].startswith("good/")
