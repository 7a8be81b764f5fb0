"""What every strategy promises: tasks have names and numbers of their own, and nothing learned is lost silently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import SIZE, ToyAutoencoder, stream

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.footprint import footprint, held_bytes, learning_peak
from continuad.core.strategy import Strategy
from continuad.core.types import LearnedTask, Prediction, Task
from continuad.detectors.patchcore import PatchCore
from continuad.errors import ContinuadError
from continuad.models.registry import make_strategy
from continuad.models.store import load_model, save_model
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.pertask import PerTask

TASKS = stream()
IMAGES = torch.from_numpy(TASKS[0].test.images)


def taught(strategy: Strategy, tasks: int = 2) -> Strategy:
    strategy.budget = Budget(steps=2)
    for task in TASKS[:tasks]:
        strategy.learn(task)
    return strategy


def test_a_new_product_whose_number_is_taken_gets_the_next_one(tmp_path: Path) -> None:
    """A stream of one product numbers it 0; taught to a saved model it must not replace that model's first."""
    save_model(taught(PerTask(ToyAutoencoder(), reject=None)), tmp_path)
    strategy, _ = load_model(tmp_path, trust=["toys:ToyAutoencoder"])
    before = strategy.predict(IMAGES, "zebra")
    strategy.learn(replace(TASKS[2], index=0))
    assert [(task.index, task.name) for task in strategy.tasks] == [(0, "zebra"), (1, "chess"), (2, "egg")]
    assert torch.equal(strategy.predict(IMAGES, "zebra").map, before.map)
    assert strategy.predict(torch.from_numpy(TASKS[2].test.images)).task.tolist() == [2] * 8  # type: ignore[union-attr]


def test_a_product_is_not_learned_twice() -> None:
    strategy = taught(Naive(ToyAutoencoder()))
    with pytest.raises(ContinuadError, match="'chess' has been learned already"):
        strategy.learn(replace(TASKS[1], index=7))


@pytest.mark.parametrize("name", ["single", "pertask", "naive"])
def test_tasks_are_asked_for_by_name_or_number(name: str) -> None:
    strategy = taught(make_strategy(name, ToyAutoencoder()))
    assert torch.equal(strategy.predict(IMAGES, "chess").map, strategy.predict(IMAGES, 1).map)
    for wrong in ("hazelnut", 5):
        with pytest.raises(ContinuadError, match=f"there is no task '{wrong}'; learned are 0 zebra, 1 chess"):
            strategy.predict(IMAGES, wrong)


@pytest.mark.parametrize("name", ["pertask", "naive"])
def test_thresholds_are_asked_for_by_name_or_number(name: str) -> None:
    strategy = taught(make_strategy(name, ToyAutoencoder()))
    assert strategy.thresholds("zebra") == strategy.thresholds(0)
    assert strategy.thresholds("chess") == strategy.thresholds(1)
    assert name == "pertask" or strategy.thresholds("zebra") != strategy.thresholds("chess")
    for wrong in ("hazelnut", 5, -1):
        with pytest.raises(ContinuadError, match=f"there is no task '{wrong}'; learned are 0 zebra, 1 chess"):
            strategy.thresholds(wrong)


@pytest.mark.parametrize("name", ["pertask", "naive", "single"])
@pytest.mark.parametrize(
    ("images", "given"),
    [
        (IMAGES.float() / 255, "float32"),
        (IMAGES.to(torch.int8), "int8"),
        (IMAGES > 5, "bool"),
        (IMAGES[:, :1], r"uint8 \(\d+, 1, 64, 64\)"),
        (IMAGES[0], r"uint8 \(3, 64, 64\)"),
        (IMAGES[None], r"uint8 \(1, \d+, 3, 64, 64\)"),
        (IMAGES[:0], r"uint8 \(0, 3, 64, 64\)"),
        (IMAGES.numpy(), "ndarray"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused_in_one_way(name: str, images: Any, given: str) -> None:
    strategy = taught(make_strategy(name, ToyAutoencoder()))
    for ask in (lambda: strategy.predict(images, "zebra"), lambda: strategy.detector.predict(images)):
        with pytest.raises(ContinuadError, match=rf"images are a? ?{given}.*; expected is .*uint8 \(B, 3, H, W\)"):
            ask()


def test_an_untrained_model_says_so_whatever_it_is_asked() -> None:
    for task in (None, 0, "zebra"):
        with pytest.raises(ContinuadError, match="not trained yet"):
            PerTask(ToyAutoencoder()).predict(IMAGES, task)


def test_names_and_white_levels_are_saved(tmp_path: Path) -> None:
    strategy = Naive(ToyAutoencoder())
    strategy.learn(replace(TASKS[0], bits=12))
    save_model(strategy, tmp_path)
    assert load_model(tmp_path, ["toys:ToyAutoencoder"])[0].tasks == [LearnedTask(0, "zebra", 12)]


class MeanImage(Detector):
    """Learns by statistics and has no parameter at all."""

    learns_by = "statistics"

    def step(self, images: Tensor) -> None:
        known = self.stats["sum"] if "sum" in self.stats else torch.zeros_like(images[0], dtype=torch.float32)
        self.stats["sum"] = known + images.float().sum(0)

    def _predict(self, images: Tensor) -> Prediction:
        found = (images.float() - self.stats["sum"] / 12).abs().mean(1)
        return Prediction(found.flatten(1).amax(1), found)


def test_a_detector_without_parameters_learns_and_moves() -> None:
    strategy = taught(Naive(MeanImage(SIZE)), 1)
    assert strategy.predict(torch.from_numpy(TASKS[0].train.images)).map.mean() < strategy.predict(IMAGES).map.mean()
    assert strategy.to("meta").detector.device.type == "meta"


def test_every_task_starts_from_weights_that_are_counted() -> None:
    """Multitask keeps the weights it starts from: as many bytes again as the detector learns."""
    detector = ToyAutoencoder()
    fresh = sum(value.nbytes for value in detector.learned().values())
    assert held_bytes(Multitask(detector)) - held_bytes(Naive(detector)) == fresh


def test_the_peak_of_learning_by_gradient_is_weights_twice_gradients_and_adams_two_moments() -> None:
    """Twice, because a task that fails is put back from a copy."""
    strategy = taught(Naive(ToyAutoencoder()), 1)
    weights = list(strategy.detector.weights().values())
    one = sum(weight.nbytes for weight in weights)
    adam_counts_steps = 4 * len(weights)
    trained = 1  # is noted later
    buffers = held_bytes(strategy.detector) - one - trained  # the finished detector has let its gradients go
    assert strategy.learning_bytes == 5 * one + adam_counts_steps + 2 * buffers
    assert learning_peak(strategy) * 1e6 == strategy.learning_bytes


def test_the_peak_of_learning_counts_statistics_that_the_task_replaces() -> None:
    """MeanImage forgets its sum of 3 x 64 x 64 float32 when a task begins; until the task is learned it is held."""
    strategy = taught(Naive(MeanImage(SIZE)))
    trained, thresholds = 1, 2 * (3 + 4) * 4
    assert strategy.learning_bytes == 2 * (4 * 3 * 64 * 64 + trained) + thresholds


def test_the_peak_of_learning_by_statistics_counts_collected_patches() -> None:
    """12 + 4 images of 8 x 8 patches of 40 + 112 numbers and an owner, of which a tenth stays."""
    strategy = taught(Naive(PatchCore(SIZE)), 1)
    patches = 16 * 64 * (152 * 4 + 8)
    assert strategy.learning_bytes == pytest.approx(patches + footprint(strategy).architecture * 1e6)
    assert footprint(strategy).additional * 1e6 < patches / 9


class Halving(nn.Module):
    """Not a detector."""


def test_a_class_that_is_no_detector_is_refused() -> None:
    from continuad.models.registry import find_detector, find_strategy

    for find in (find_detector, find_strategy):
        with pytest.raises(ContinuadError, match=f"'{__name__}:Halving' is no"):
            find(f"{__name__}:Halving")


class Brief(Naive):
    """An external strategy with options."""

    def __init__(self, detector: Detector, rank: int = 1, note: str = "", seed: int = 0):
        super().__init__(detector, seed)
        self.rank, self.note = rank, note


def test_external_strategies_take_options_like_the_packages_own() -> None:
    made = make_strategy(f"{__name__}:Brief:3:note=x", ToyAutoencoder())
    assert isinstance(made, Strategy)
    assert (made.rank, made.note) == (3, "x")


def test_a_task_is_placed_where_it_says_while_its_number_is_free() -> None:
    strategy = Naive(ToyAutoencoder())
    strategy.budget = Budget(steps=1)
    task: Task = TASKS[2]
    strategy.learn(task)
    assert strategy.tasks == [LearnedTask(2, "egg", 16)]


class Editing(Naive):
    needs_gradients = True


def test_a_strategy_that_edits_gradients_refuses_detectors_without_any() -> None:
    assert Editing.refuses(ToyAutoencoder) is None
    assert Naive.refuses(MeanImage) is None
    with pytest.raises(ContinuadError) as refused:
        Editing(MeanImage(SIZE))
    assert str(refused.value) == "the strategy needs a loss to descend, and the detector learns by statistics"


def test_what_a_strategy_does_by_default() -> None:
    strategy = Strategy(ToyAutoencoder(), seed=4)
    assert (strategy.seed, strategy.tasks, strategy.learning_bytes) == (4, [], 0)
    assert Strategy(ToyAutoencoder()).seed == 0
    assert strategy.view(TASKS) is TASKS
    assert strategy.data(TASKS[1]) == (TASKS[1].train, None)
    assert strategy.val(TASKS[1]) == {1: TASKS[1].val}
    assert strategy.penalty(IMAGES) == 0.0
    taught(strategy)
    found = strategy.predict(IMAGES)
    assert not found.map.requires_grad
    assert torch.equal(found.map, strategy.detector.predict(IMAGES).map)
    assert strategy.thresholds(1) == strategy.thresholds() != strategy.thresholds(0)


def test_numbers_rise_in_the_order_of_learning() -> None:
    strategy = Naive(ToyAutoencoder())
    strategy.budget = Budget(steps=1)
    for index, name in ((5, "a"), (2, "b"), (5, "c"), (3, "d")):
        strategy.learn(replace(TASKS[0], index=index, name=name))
    assert [(task.index, task.name) for task in strategy.tasks] == [(5, "a"), (6, "b"), (7, "c"), (8, "d")]
