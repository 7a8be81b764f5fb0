"""Walk a stream: learn a task, look back at every task so far, write down what was found."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

import continuad
from continuad.benchmark.evaluate import compare_task_inference, evaluate, inference_ms
from continuad.benchmark.examples import save_examples
from continuad.benchmark.grouping import group_sizes, lessons_of
from continuad.benchmark.open_set import open_set_auroc
from continuad.benchmark.scenario import per_task_thresholds, task_is_given
from continuad.core.checkpoint import Checkpoint
from continuad.core.footprint import footprint, learning_peak
from continuad.core.strategy import Progress, Strategy
from continuad.core.types import Task
from continuad.errors import ContinuadError
from continuad.models.registry import name_of
from continuad.models.store import MANIFEST, describe, load_into, save_model
from continuad.vision.feature_cache import FeatureStore

COLUMNS = [
    "run",
    "detector",
    "strategy",
    "seed",
    "order",
    "after_task",
    "after_name",
    "on_task",
    "on_name",
    "metric",
    "value",
]
HALF = "half.safetensors"  # the task that is being learned
Rows = list[dict[str, Any]]
Notify = Callable[[str, int, int], None]


def run(
    stream: Sequence[Task],
    strategy: Strategy,
    into: Path | None = None,
    *,
    label: str | None = None,
    order: int = 0,
    examples: Path | None = None,
    notify: Notify | None = None,
    on_rows: Callable[[Rows], None] | None = None,
    store: FeatureStore | None = None,
    look_ahead: bool = False,
    scenario: str = "",
    groups: str = "",
    open_set: Sequence[Task] = (),
) -> pd.DataFrame:
    """Learn the stream task after task and measure all tasks seen after each.

    Args:
        stream: tasks, one a product, in the order they are learned.
        strategy: an untrained strategy around its detector.
        into: folder of this run's state. After every task model and rows are saved there in one atomic
            step, and every minute what a gradient detector has learned of a task so far; calling again with
            the same arguments goes on where the last call was stopped.
        label: the strategy's name in the rows, e.g. "replay:300"; default: its file's name.
        order: number of this order of tasks, noted in the rows.
        examples: folder for a few predictions of every task, for the report's pictures.
        notify: called with (what is going on, done, total).
        on_rows: called with all rows so far after every task.
        store: where features of test images are kept between runs.
        look_ahead: measure tasks that are still to come as well, for forward transfer (not for strategies
            that are given the task: they have no model to ask).
        scenario: what strategies are told of the task, see `scenario.SCENARIOS`; "": each in its own way.
        groups: products that are learned together as one task, see `group_sizes`; "": none.
        open_set: products that are never learned; after the last task it is measured how well they are told apart.

    Returns:
        The rows: one value each, columns as in `COLUMNS`; on_task -1 is about the run as a whole. Both task columns
        count products: after_task is the last one of those learned so far.

    Raises:
        ContinuadError: `into` holds another run, or cannot be written; the strategy takes no part in the scenario;
            the groups do not fit the stream.
    """
    if not stream:
        raise ContinuadError("the stream is empty: give at least one task")
    label = label or name_of(strategy)
    run_id = run_name(strategy, label, order)
    stamp = run_stamp(stream, scenario, groups, open_set)
    task_given = task_is_given(scenario, strategy)
    lessons = lessons_of(stream, group_sizes(groups, len(stream)))
    products = [replace(stream[place], index=lesson.task.index) for lesson in lessons for place in lesson.places]
    store = store or FeatureStore()
    rows, start = _resume(strategy, into, stamp) if into else ([], 0)
    for task in strategy.view([lesson.task for lesson in lessons])[start:]:
        say = None if notify is None else _prefixed(notify, f"learning {task.name}")
        half = _checkpoint(strategy, into, stamp, task) if into else None
        spent = _learn(strategy, task, half, say)
        *others, newest = lessons[task.index].places
        last = newest == len(stream) - 1
        looked_at = products if look_ahead and not task_given else products[: newest + 1]
        known = {} if last else _unchanged(strategy, rows)
        found = _look_at(
            strategy, looked_at, newest, scenario, last, examples and examples / run_id, notify, store, known
        )
        found[newest] |= spent
        for place in others:
            found[place]["steps"] = spent["steps"]
        found[-1] = _costs(strategy, products[newest], task_given)
        if last and open_set and (apart := open_set_auroc(strategy, products, open_set, store)) is not None:
            found[-1]["open_set_auroc"] = apart
        about = {"run": run_id, "detector": name_of(strategy.detector), "strategy": label, "seed": strategy.seed}
        about |= {"order": order, "after_task": newest, "after_name": task.name}
        rows += _rows(about, found, stream)
        if into and half:
            save_model(strategy, into, {"stream": stamp, "cursor": task.index + 1, "rows": rows})
            half.remove()
        if on_rows:
            on_rows(rows)
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(about: dict[str, Any], found: dict[int, dict[str, float]], stream: Sequence[Task]) -> Rows:
    names = {i: task.name for i, task in enumerate(stream)} | {-1: ""}
    return [
        about | {"on_task": on, "on_name": names[on], "metric": metric, "value": value}
        for on, values in found.items()
        for metric, value in values.items()
    ]


def run_name(strategy: Strategy, label: str, order: int) -> str:
    """Unique in its results folder, and fit for a file name."""
    name = f"{name_of(strategy.detector)}-{label}-seed{strategy.seed}-order{order}"
    return name.replace(":", "-").replace("%", "pct")


def stream_stamp(stream: Sequence[Task]) -> str:
    """A hash of all names and pixels that a run learns from or is measured on."""
    digest = hashlib.blake2b(digest_size=16)
    for task in stream:
        for images in (task.train, task.val, task.test):
            digest.update(f"{task.name}{images.images.shape}{images.labels.tolist()}".encode())
            for image in images.images:
                digest.update(image.tobytes())
            digest.update(images.masks.tobytes())
    return digest.hexdigest()


def run_stamp(stream: Sequence[Task], scenario: str = "", groups: str = "", open_set: Sequence[Task] = ()) -> str:
    """What tells runs of one strategy apart: the stream's hash, and what is asked beyond the usual."""
    asked = {"scenario": scenario, "groups": groups, "open_set": stream_stamp(open_set) if open_set else ""}
    return " ".join([stream_stamp(stream), *(f"{name}={value}" for name, value in asked.items() if value)])


def _resume(strategy: Strategy, into: Path, stamp: str) -> tuple[Rows, int]:
    if not (into / MANIFEST).exists():
        return [], 0
    extra = load_into(strategy, into)
    if extra.get("stream") != stamp:
        raise ContinuadError(
            f"{into} holds a run on other images, in another order or tested otherwise; choose another output folder"
        )
    return extra["rows"], extra["cursor"]


def _checkpoint(strategy: Strategy, into: Path, stamp: str, task: Task) -> Checkpoint:
    identity = {"version": continuad.__version__, "stream": stamp, "task": task.index, **describe(strategy)}
    return Checkpoint(into / HALF, identity)


def _learn(strategy: Strategy, task: Task, half: Checkpoint | None, say: Progress | None) -> dict[str, float]:
    began = time.perf_counter()
    steps = strategy.learn(task, say, half)
    earlier = half.earlier if half else 0.0
    return {"train_seconds": earlier + time.perf_counter() - began, "steps": float(steps)}


def _look_at(
    strategy: Strategy,
    products: Sequence[Task],
    newest: int,
    scenario: str,
    last: bool,
    examples: Path | None,
    notify: Notify | None,
    store: FeatureStore,
    known: dict[int, dict[str, float]],
) -> dict[int, dict[str, float]]:
    """Values of every product by its place in the stream; a product's index is the task it is learned in."""
    found: dict[int, dict[str, float]] = {}
    task_given, own = task_is_given(scenario, strategy), per_task_thresholds(scenario)
    for place, product in enumerate(products):
        if notify:
            notify(f"testing {product.name}", place, len(products))
        found[place] = dict(known.get(place, {}))
        if found[place] or not len(product.test):
            continue
        found[place], outcome = evaluate(
            strategy, product, store, learned=place <= newest, task_given=task_given, per_task_thresholds=own
        )
        if last and not task_given:
            found[place] |= compare_task_inference(strategy, product)
        if last and examples:
            thresholds = strategy.thresholds(product.index if own else None)
            save_examples(examples, replace(product, index=place), outcome, thresholds)
    return found


def _unchanged(strategy: Strategy, rows: Rows) -> dict[int, dict[str, float]]:
    """Values that are not measured again until the last task: those of separate models, which stay as they were."""
    if not strategy.needs_task or not rows:
        return {}
    before = rows[-1]["after_task"]
    values: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["after_task"] == before and row["on_task"] >= 0 and row["metric"] not in ("train_seconds", "steps"):
            values.setdefault(row["on_task"], {})[row["metric"]] = row["value"]
    return values


def _costs(strategy: Strategy, product: Task, task_given: bool) -> dict[str, float]:
    weight = footprint(strategy)
    values = {"architecture_mb": weight.architecture, "additional_mb": weight.additional}
    values["learning_mb"] = learning_peak(strategy)
    if len(product.test):
        values["inference_ms"] = inference_ms(strategy, product, task_given)
    return values


def _prefixed(notify: Notify, what: str) -> Callable[[int, int], None]:
    return lambda done, total: notify(what, done, total)
