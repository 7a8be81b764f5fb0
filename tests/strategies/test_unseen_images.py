"""What no strategy looks at while it learns: test images and their labels; val images, where those set thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn, cast

import pytest
import torch
from test_contract import EXTERNAL, build, kind_of
from toys import stream

from continuad.core.batches import in_order
from continuad.core.detector import owners_of
from continuad.core.strategy import Strategy
from continuad.core.types import Images, ImageSet, Task
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.memory.codec import Coding
from continuad.models.registry import strategies
from continuad.strategies.replay import Replay

TASKS = stream()
DETECTORS = ("padim", "patchcore", EXTERNAL)
PAIRS = [(d, s) for s in strategies() for d in DETECTORS if not strategies()[s].refuses(kind_of(d))]
PAIRS += [("fastflow", "latent")]  # which keeps features of a frozen backbone, and refuses the three
CASES = [(*pair, source) for pair in PAIRS for source in ("train", "val")]
CASES += [(EXTERNAL, s, "crossfit:2") for s in ("naive", "replay", "pertask")]
every_pair = pytest.mark.parametrize(("detector", "strategy"), PAIRS)


class Untouchable:
    """Whatever is asked of it is an error."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise AssertionError(f"test images were asked for their {name} while learning")

    def __len__(self) -> NoReturn:
        raise AssertionError("test images were counted while learning")

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("test images were read while learning")

    def __getitem__(self, place: int) -> NoReturn:
        raise AssertionError("test images were read while learning")


def poisoned() -> list[Task]:
    return [replace(task, test=cast(ImageSet, Untouchable())) for task in TASKS]


def test_the_poison_works() -> None:
    test = poisoned()[0].test
    for ask in (lambda: len(test), lambda: test[0], lambda: test.labels, lambda: list(in_order(test, 4))):  # type: ignore[arg-type, return-value]
        with pytest.raises(AssertionError, match="while learning"):
            ask()


def test_every_strategy_takes_part() -> None:
    assert {s for _, s in PAIRS} == set(strategies())


@pytest.mark.parametrize(("detector", "strategy", "source"), CASES)
def test_nothing_is_read_of_a_test_image_or_its_label_before_it_is_judged(
    detector: str, strategy: str, source: str
) -> None:
    model = build(detector, strategy)
    model.thresholds_from = source
    for task in model.view(poisoned()[:2]):
        model.learn(task)
    given = 0 if model.needs_task else None
    good = torch.from_numpy(TASKS[0].val.images)
    found = model.predict(good, given, out_of_fold=True)
    model.calibration.rule.decide(found.score.numpy(), found.map.numpy(), model.thresholds(0, 0.05))
    assert [known.name for known in model.tasks] == ["zebra", "chess"]


class Spy:
    """Notes whose images a detector learns from."""

    def __init__(self, model: Strategy):
        self.seen: set[int] = set()
        self.step = model.detector.step
        model.detector.step = self  # type: ignore[assignment, method-assign]

    def __call__(self, images: torch.Tensor) -> torch.Tensor | None:
        self.seen |= set(owners_of(images).tolist())
        return self.step(images)


def owners(images: Images) -> set[int]:
    return set(owners_of(next(in_order(images, len(images))).image).tolist())


@every_pair
def test_from_val_images_no_val_image_is_learned(detector: str, strategy: str) -> None:
    model = build(detector, strategy)
    model.thresholds_from = "val"
    spy = Spy(model)
    for task in model.view(TASKS):
        model.learn(task)
    train, val = (set().union(*(owners(getattr(task, part)) for task in TASKS)) for part in ("train", "val"))
    assert not spy.seen & val
    assert spy.seen & train
    if detector != EXTERNAL and detector != "fastflow":
        assert spy.seen >= train, "statistics are those of all train images"


@every_pair
def test_from_all_images_val_images_are_learned_where_they_can_be_left_out_again(detector: str, strategy: str) -> None:
    model = build(detector, strategy)
    spy = Spy(model)
    for task in model.view(TASKS):
        model.learn(task)
    val = set().union(*(owners(task.val) for task in TASKS))
    if model.predicts_out_of_fold:
        assert val <= spy.seen
    else:
        assert not spy.seen & val
    assert model.predicts_out_of_fold == (detector in ("padim", "patchcore") and strategy != "average")


@pytest.mark.parametrize("coding", ["raw", "jpeg"])
def test_exemplars_are_left_out_as_they_are_replayed(coding: Coding) -> None:
    """A decoded JPEG differs from its image: it is the decoded one that was learned and that is left out."""
    model = Replay(Padim(64, channels=12), 6, coding=coding)
    model.learn(TASKS[0])
    before = model.memory.part(True, 0)
    model.learn(TASKS[1])
    assert owners(before) <= set(model.detector.stats["owners"].tolist())
    images = next(in_order(before, 6)).image
    outside = model.predict(images, out_of_fold=True).score
    assert model.thresholds(0).image == pytest.approx(float(outside.max()), rel=1e-4)
    assert (model.predict(images).score < 0.75 * outside).all()


def test_multitask_does_not_cross_fit() -> None:
    model = build(EXTERNAL, "multitask")
    model.thresholds_from = "crossfit:2"
    with pytest.raises(ContinuadError, match="cannot set thresholds by crossfit:2; use train or val"):
        model.learn(model.view(TASKS)[0])
