"""Several strategies at once: what adds up, what passes through one after another, and whose images are taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
import torch
from torch import Tensor
from toys import ToyAutoencoder, images_of, stream

from continuad.core.strategy import Strategy
from continuad.core.types import Images, Prediction, Task
from continuad.errors import ContinuadError
from continuad.strategies.combined import Combined
from continuad.strategies.naive import Naive
from continuad.strategies.pertask import PerTask

TASK = stream(1)[0]
called: list[str] = []


class Part(Naive):
    """Notes when it is called, and pulls by its own number."""

    def __init__(self, detector: ToyAutoencoder, name: str, pull: float) -> None:
        super().__init__(detector)
        self.name, self.pull = name, pull

    def penalty(self, images: Tensor) -> Tensor | float:
        return self.pull * len(images)

    def on_gradients(self) -> None:
        called.append(f"gradients {self.name}")

    def on_step(self) -> None:
        called.append(f"step {self.name}")

    def after(self, task: Task) -> None:
        called.append(f"after {self.name} {task.name}")

    def _val_predictions(self, val: Mapping[int, Images]) -> dict[int, Iterable[Prediction]]:
        found = super()._val_predictions(val)
        found[7 if self.name == "a" else 8] = []
        return found


class Replaying(Part):
    """Remembers three images to learn, and two val images of task 5."""

    old = images_of(1, 3, defects=False, seed=0)

    def data(self, task: Task) -> tuple[Images, Images | None]:
        return task.train, self.old

    def val(self, task: Task) -> dict[int, Images]:
        return {task.index: task.val, 5: self.old}


def combined(*kinds: type[Part]) -> Combined:
    detector = ToyAutoencoder()
    parts = [kind(detector, name, pull) for kind, name, pull in zip(kinds, "ab", (2.0, 3.0), strict=False)]
    return Combined(detector, parts, "+".join("ab"[: len(parts)]))


def test_penalties_add_up() -> None:
    assert combined(Part, Part).penalty(torch.zeros(4, 3, 64, 64)) == 2 * 4 + 3 * 4


def test_every_part_is_called_in_the_order_named() -> None:
    strategy = combined(Part, Part)
    called.clear()
    strategy.on_gradients()
    strategy.on_step()
    strategy.after(TASK)
    assert called == ["gradients a", "gradients b", "step a", "step b", "after a zebra", "after b zebra"]


@pytest.mark.parametrize("kinds", [(Part, Replaying), (Replaying, Part)])
def test_images_are_those_of_the_part_that_remembers_any(kinds: tuple[type[Part], type[Part]]) -> None:
    strategy = combined(*kinds)
    assert strategy.data(TASK) == (TASK.train, Replaying.old)
    assert strategy.val(TASK) == {0: TASK.val, 5: Replaying.old}
    assert combined(Part, Part).data(TASK) == (TASK.train, None)
    assert combined(Part, Part).val(TASK) == {0: TASK.val}
    assert combined(Part).data(TASK) == (TASK.train, None)


def test_thresholds_are_set_for_whatever_a_part_keeps_something_of() -> None:
    found = combined(Part, Part)._val_predictions({0: TASK.val, 7: TASK.val})
    assert sorted(found) == [0, 7, 8]
    assert found[8] == []
    assert found[7] != []  # images at hand go before what a part keeps
    assert sorted(combined(Part, Part)._val_predictions({0: TASK.val})) == [0, 7, 8]


class OwnStatistics(Part):
    statistics = "accumulate"


class OwnView(Part):
    def view(self, stream: object) -> list[Task]:  # type: ignore[override]
        return []


class OwnBeginning(Part):
    def before(self, task: Task) -> None:
        pass


class OwnThresholds(Part):
    def thresholds(self, task: int | None = None) -> object:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (OwnStatistics, "'b' treats statistics in its own way"),
        (OwnView, "'b' has its own way to see a stream"),
        (OwnBeginning, "'b' has its own way to begin a task"),
        (OwnThresholds, "'b' has its own way to set thresholds"),
    ],
)
def test_a_part_that_has_its_own_way_is_refused_by_name(kind: type[Part], why: str) -> None:
    with pytest.raises(ContinuadError, match=f"strategy {why} and cannot be combined"):
        combined(Part, kind)


def test_other_refusals_name_what_was_written() -> None:
    with pytest.raises(ContinuadError, match=r"'a\+b': only one of them can replay images"):
        combined(Replaying, Replaying)
    with pytest.raises(ContinuadError, match=r"combined needs strategies with \+ between them"):
        combined()
    detector = ToyAutoencoder()
    alone: Strategy = PerTask(detector)
    with pytest.raises(ContinuadError, match=r"'pertask' has its own way to (begin a task|predict)"):
        Combined(detector, [alone], "pertask")
    with pytest.raises(ValueError, match="zip"):
        Combined(detector, [Naive(detector)], "naive+naive")
