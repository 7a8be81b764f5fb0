"""Walk a stream: learn a step, test every product learned so far, write down what was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from continuad.benchmark.evaluate import Outcome, Values, compare_task_inference, evaluate, good_again, inference_ms
from continuad.benchmark.examples import save_examples
from continuad.benchmark.folder import Row, RunFolder
from continuad.benchmark.grouping import Step
from continuad.benchmark.open_set import open_set_values
from continuad.benchmark.protocol import Protocol
from continuad.core.footprint import footprint, learning_peak
from continuad.core.strategy import InfersTask, Strategy
from continuad.core.types import Task
from continuad.errors import ContinuadError
from continuad.files import safe_name
from continuad.models.registry import name_of
from continuad.models.store import describe
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
WHOLE = -1  # on_task of values that are about the run and not about a product
Notify = Callable[[str, int, int], None]


def run(
    stream: Sequence[Task],
    strategy: Strategy,
    into: Path | None = None,
    *,
    label: str | None = None,
    notify: Notify | None = None,
    look_ahead: bool = False,
    scenario: str = "",
    groups: str = "",
    open_set: Sequence[Task] = (),
) -> pd.DataFrame:
    """Learn the stream step after step and measure all products learned so far after each.

    Args:
        stream: tasks, one a product, in the order they are learned.
        strategy: an untrained strategy around its detector; it has learned the stream in the end.
        into: folder of this run. Its rows and its model are saved there after every step, and every minute what a
            gradient detector has learned of a step so far; the same call again goes on where the last was stopped.
        label: the strategy's name in the rows, e.g. "replay:300"; default: its file's name.
        notify: called with (what is going on, done, total).
        look_ahead: measure products that are still to come, for forward transfer (not if the task is given: no
            model of theirs can be asked yet).
        scenario, groups, open_set: see `Protocol`.

    Returns:
        The rows: one value each, columns as in `COLUMNS`; on_task -1 is about the run as a whole. Both task columns
        count products: after_task is the last one of those learned so far.

    Raises:
        ContinuadError: the strategy has learned something before, or takes no part in the scenario; `into` holds
            another run, or cannot be written; the groups do not fit the stream.
    """
    walk = Walk(stream, Protocol(scenario, groups, tuple(open_set), look_ahead), notify=notify)
    label = label or name_of(strategy)
    folder = walk.folder(strategy, label, into) if into else None
    names = learned_names(strategy)
    if names and (folder is None or folder.learned() != names):
        raise ContinuadError(
            f"this strategy has learned {', '.join(names)} already and a run begins untrained; make the strategy "
            "anew, or teach it further with strategy.learn(task)"
        )
    return pd.DataFrame(walk.teach(strategy, label, folder), columns=COLUMNS)


def run_name(strategy: Strategy, label: str, order: int) -> str:
    """A run's name and folder: no two runs of a grid share it, on any file system."""
    return f"{safe_name(name_of(strategy.detector))}_{safe_name(label)}_seed{strategy.seed}_order{order}"


def learned_names(strategy: Strategy) -> list[str]:
    """Names of the tasks that a strategy has learned, in order."""
    return [task.name for task in strategy.tasks]


@dataclass(frozen=True)
class Walk:
    """A stream in one order, and what is measured along it; any number of strategies may take it.

    Attributes:
        stream, notify: see `run`.
        protocol: what is measured.
        order: number of this order of tasks, noted in the rows.
        examples: folder for a few predictions of every product, for the report's pictures.
        store: where features of test images are kept between runs.

    Raises:
        ContinuadError: the stream is empty.
    """

    stream: Sequence[Task]
    protocol: Protocol
    order: int = 0
    examples: Path | None = None
    notify: Notify | None = None
    store: FeatureStore = field(default_factory=FeatureStore)

    def __post_init__(self) -> None:
        if not self.stream:
            raise ContinuadError("the stream is empty: give at least one task")

    @cached_property
    def steps(self) -> list[Step]:
        """What is learned at one time."""
        return self.protocol.steps(self.stream)

    @cached_property
    def products(self) -> list[Task]:
        """What is tested one by one: the stream's products, the index of each that of the step it is learned in."""
        return [replace(self.stream[place], index=step.task.index) for step in self.steps for place in step.places]

    @cached_property
    def stamp(self) -> str:
        """See `Protocol.stamp`."""
        return self.protocol.stamp(self.stream)

    def folder(self, strategy: Strategy, label: str, path: Path) -> RunFolder:
        """The folder of a strategy's run, as yet untrained."""
        return RunFolder(
            path, {"run": run_name(strategy, label, self.order), "stream": self.stamp, **describe(strategy)}
        )

    def teach(self, strategy: Strategy, label: str, folder: RunFolder | None = None) -> list[Row]:
        """Learn and measure the steps that `folder` does not hold yet; all rows of the run.

        Args:
            strategy: untrained. label: see `run`.

        Raises:
            ContinuadError: see `run`.
        """
        given = self.protocol.task_is_given(strategy)
        ahead = self.protocol.look_ahead and not (given and (strategy.needs_task or isinstance(strategy, InfersTask)))
        tasks = strategy.view([step.task for step in self.steps])
        rows, start = folder.resume(strategy, [step.last + 1 for step in self.steps]) if folder else ([], 0)
        for step, task in list(zip(self.steps, tasks, strict=True))[start:]:
            spent = self._learn(strategy, task, folder)
            ends = step is self.steps[-1]
            shown = self.products if ahead else self.products[: step.last + 1]
            found: dict[int, Values] = {place: {} for place in range(len(shown))}
            if not ends:
                found |= unchanged(strategy, rows)
            for place, product in enumerate(shown):
                self._say(f"testing {product.name}", place, len(shown))
                if found[place]:
                    continue
                learned = place <= step.last
                if learned and not product.test.labels.any():
                    found[place] = self._good_again(strategy, label, place, given, ends)
                if not len(product.test):
                    continue
                values, outcome = evaluate(strategy, product, self.store, learned=learned, task_given=given and learned)
                found[place] |= values
                if ends:
                    found[place] |= compare_task_inference(strategy, product) if not given else {}
                    self._save_examples(strategy, label, place, outcome, given)
            found[step.last] |= {"train_seconds": spent["train_seconds"]}
            for place in step.places:
                found[place]["steps"] = spent["steps"]
            found[WHOLE] = self._of_the_whole(strategy, step, given)
            rows = rows + self._rows(strategy, label, step, found)
            if folder:
                folder.keep(strategy, rows, task.index + 1)
        if folder:
            folder.finish(rows)
        return rows

    def _learn(self, strategy: Strategy, task: Task, folder: RunFolder | None) -> Values:
        """Learn one step; seconds, those of interrupted calls too, and optimiser steps."""
        half = folder.checkpoint(task.index) if folder else None
        began = time.perf_counter()
        steps = strategy.learn(task, lambda done, total: self._say(f"learning {task.name}", done, total), half)
        earlier = half.earlier if half else 0.0
        return {"train_seconds": earlier + time.perf_counter() - began, "steps": float(steps)}

    def _say(self, what: str, done: int, total: int) -> None:
        if self.notify:
            self.notify(what, done, total)

    def _good_again(self, strategy: Strategy, label: str, place: int, given: bool, ends: bool) -> Values:
        """What can be said of a product without defective test images, with pictures of its highest scores."""
        values, highest, outcome = good_again(strategy, self.products[place], self.store, given)
        if ends and not len(self.products[place].test):
            shown = replace(self.products[place], test=highest)
            self._save_examples(strategy, label, place, outcome, given, shown)
        return values

    def _save_examples(
        self, strategy: Strategy, label: str, place: int, outcome: Outcome, given: bool, shown: Task | None = None
    ) -> None:
        """A few of the last model's predictions of a product's test images, or of what is shown in its place."""
        if self.examples:
            product = shown or self.products[place]
            folder = self.examples / run_name(strategy, label, self.order)
            thresholds = strategy.thresholds(product.index if given else None)
            save_examples(folder, replace(product, index=place), outcome, thresholds)

    def _of_the_whole(self, strategy: Strategy, step: Step, given: bool) -> Values:
        """What is measured of the model and not of a product."""
        weight, newest = footprint(strategy), self.products[step.last]
        values = {"architecture_mb": weight.architecture, "additional_mb": weight.additional}
        values["learning_mb"] = learning_peak(strategy)
        if len(newest.test):
            values["inference_ms"] = inference_ms(strategy, newest, given)
        if step is self.steps[-1] and self.protocol.open_set:
            values |= open_set_values(strategy, self.products, self.protocol.open_set, self.store)
        return values

    def _rows(self, strategy: Strategy, label: str, step: Step, found: dict[int, Values]) -> list[Row]:
        run, detector = run_name(strategy, label, self.order), name_of(strategy.detector)
        about = {"run": run, "detector": detector, "strategy": label, "seed": strategy.seed, "order": self.order}
        about |= {"after_task": step.last, "after_name": step.task.name}
        return [
            {**about, "on_task": on, "on_name": name, "metric": metric, "value": value}
            for on, name in self._names()
            for metric, value in found.get(on, {}).items()
        ]

    def _names(self) -> Iterator[tuple[int, str]]:
        """Values of on_task, with the names beside them."""
        yield from enumerate(product.name for product in self.products)
        yield WHOLE, ""


def unchanged(strategy: Strategy, rows: list[Row]) -> dict[int, Values]:
    """Values that need not be measured again at every step: those of separate models, which no later step changes.

    Separate models are those of a strategy that needs the task. Empty for all others.
    """
    if not strategy.needs_task or not rows:
        return {}
    before = rows[-1]["after_task"]
    values: dict[int, Values] = {}
    for row in rows:
        if row["after_task"] == before and row["on_task"] != WHOLE and row["metric"] not in ("train_seconds", "steps"):
            values.setdefault(row["on_task"], {})[row["metric"]] = row["value"]
    return values
