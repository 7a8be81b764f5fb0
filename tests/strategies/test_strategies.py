"""Every strategy on hand-made streams: what it learns from, what it keeps, what it forgets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import ToyAutoencoder, images_of, stream

from continuad.benchmark.evaluate import evaluate
from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.footprint import MEGABYTE, footprint
from continuad.core.strategy import Strategy
from continuad.core.thresholds import Thresholds
from continuad.core.types import Images, Prediction, Task
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.strategies.accumulate import Accumulate
from continuad.strategies.average import Average
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.pertask import PerTask
from continuad.strategies.replay import Replay
from continuad.strategies.single import Single

TASKS = stream()


def padim() -> Padim:
    return Padim(image_size=64, channels=12)


def taught(strategy: Strategy, tasks: int = 3) -> Strategy:
    for task in list(strategy.view(TASKS))[:tasks]:
        strategy.learn(task)
    return strategy


def from_val(strategy: Strategy) -> Strategy:
    """It learns train images alone, and takes thresholds from val images."""
    strategy.thresholds_from = "val"
    return strategy


def test_naive_is_the_newest_task_alone() -> None:
    alone = Naive(padim())
    alone.learn(TASKS[2])
    x = torch.from_numpy(TASKS[2].test.images)
    assert torch.equal(taught(Naive(padim())).predict(x).map, alone.predict(x).map)


def test_naive_training_goes_on_from_the_last_weights() -> None:
    detector = ToyAutoencoder()
    strategy = taught(Naive(detector), 1)
    before = {k: v.detach().clone() for k, v in detector.weights().items()}
    strategy.budget = Budget(steps=1)
    strategy.learn(TASKS[1])
    moved = max(float((v.detach() - before[k]).abs().max()) for k, v in detector.weights().items())
    assert 0 < moved < 0.01  # one Adam step of 1e-3, not a fresh start


def test_accumulate_equals_multitask_for_gaussians() -> None:
    pooled, union = taught(Accumulate(padim())), taught(Multitask(padim()))
    assert float(pooled.detector.stats["count"]) == 3 * (12 + 4)
    for task in TASKS:
        x = torch.from_numpy(task.test.images)
        torch.testing.assert_close(pooled.predict(x).map, union.predict(x).map, rtol=2e-3, atol=2e-3)


def test_accumulate_memory_stays_that_of_one_task() -> None:
    """But for what follows from each of 16 good images: whose it was, 8 bytes, and its score, 4."""
    one, three = taught(Accumulate(padim()), 1), taught(Accumulate(padim()), 3)
    assert three.calibration.kept["0"].nbytes == 12
    more = 2 * (12 + 16 * (8 + 4))
    assert footprint(three).additional - footprint(one).additional == pytest.approx(more / MEGABYTE)


def test_average_is_algorithm_5_1() -> None:
    means, covariances = [], []
    for task in TASKS:
        alone = padim()
        from_val(Naive(alone)).learn(task)  # an average leaves val images out, too
        moments = alone.moments()
        assert moments is not None
        means.append(moments["mean"])
        covariances.append(moments["covariance"])
    mean, covariance = torch.zeros_like(means[0]), torch.zeros_like(covariances[0])
    for i in range(3):
        mean = mean * i / (i + 1) + means[i] / (i + 1)
        covariance = covariance * i / (i + 1) + covariances[i] / (i + 1)
    found = taught(Average(padim())).detector.moments()
    assert found is not None
    torch.testing.assert_close(found["mean"], mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["covariance"], covariance, rtol=1e-3, atol=1e-3 * float(covariance.abs().max()))


class ScaledMean(Detector):
    """Keeps the mean grey value; an image scores by its distance from it, divided by the val images' mean distance."""

    learns_by = "statistics"

    def step(self, images: Tensor) -> None:
        grey = images.double().mean()
        self.stats["mean"] = (self.stats["mean"] + grey) / 2 if "mean" in self.stats else grey

    def moments(self) -> dict[str, Tensor] | None:
        return {"mean": self.stats["mean"]} if "mean" in self.stats else None

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        self.stats["mean"] = moments["mean"]

    def calibrate(self, images: Iterable[Tensor]) -> None:
        self.stats["scale"] = torch.cat([self.distance(batch) for batch in images]).mean()

    def distance(self, images: Tensor) -> Tensor:
        return (images.double().mean((1, 2, 3)) - self.stats["mean"]).abs()

    def _predict(self, images: Tensor) -> Prediction:
        score = self.distance(images) / self.stats["scale"]
        return Prediction(score, score[:, None, None].expand(-1, *self.image_size))


def test_average_calibrates_the_blend_and_not_the_newest_task_alone() -> None:
    """Grey 100, then 140: the blend is 120. Val images of 150 lie 30 away from it and 10 from the newest task."""

    def grey(index: int, train: int, val: int) -> Task:
        sets = [images_of(0, n, defects=False, seed=0, size=32) for n in (4, 2)]
        for images, value in zip(sets, (train, val), strict=True):
            images.images[:] = value
        return Task(index, f"t{index}", *sets, sets[1])

    strategy = Average(ScaledMean(32))
    strategy.learn(grey(0, 100, 110))
    assert strategy.detector.stats["scale"].item() == 10
    strategy.learn(grey(1, 140, 150))
    assert strategy.detector.stats["mean"].item() == 120
    assert strategy.detector.stats["scale"].item() == 30
    assert strategy.predict(torch.full((1, 3, 32, 32), 60, dtype=torch.uint8)).score.item() == 2


def test_average_refuses_what_has_no_moments() -> None:
    with pytest.raises(ContinuadError, match="keeps none"):
        Average(ToyAutoencoder())


def test_replay_learns_new_images_and_exemplars_together() -> None:
    strategy = taught(Replay(padim(), 8), 2)
    # the second task learned its 12 + 4 images and the first task's exemplars, when they had the memory alone
    assert float(strategy.detector.stats["count"]) == 16 + 8


def test_replay_learns_neither_val_images_nor_val_exemplars_where_thresholds_come_from_them() -> None:
    strategy = taught(from_val(Replay(padim(), 8)), 2)
    exemplars = 8 - len(strategy.memory.part(val=True))  # type: ignore[union-attr, arg-type, operator]
    assert float(strategy.detector.stats["count"]) == 12 + 8 - 1
    assert exemplars >= 6


def test_replay_of_300_exemplars_learns_300_where_all_images_set_thresholds() -> None:
    """Of 160 + 160 good images 300 are kept, and the third task learns its 16 beside all of them."""
    strategy = Replay(padim(), 300)
    many = [replace(task, train=images_of(t, 156, defects=False, seed=0)) for t, task in enumerate(TASKS[:2])]
    for task in many:
        strategy.learn(task)
    assert len(strategy.memory) == 300
    assert {t: len(images) for t, images in strategy.val(TASKS[2]).items()} == {0: 150, 1: 150, 2: 4}
    strategy.learn(TASKS[2])
    assert float(strategy.detector.stats["count"]) == 300 + 16


def test_replay_calibrates_on_all_tasks() -> None:
    strategy = taught(Replay(padim(), 12), 2)
    held = strategy.val(TASKS[2])
    assert sorted(held) == [0, 1, 2]
    assert [len(held[t]) for t in (0, 1)] == [len(strategy.memory.part(True, t)) for t in (0, 1)] == [6, 6]  # type: ignore
    assert len(held[2]) == 4
    with pytest.raises(ContinuadError, match="option exemplars is 0; allowed: a whole number, 1 to"):
        Replay(padim(), 0)


def test_thresholds_rest_on_val_exemplars_as_they_were_before_the_memory_shrinks() -> None:
    """Zebra's four val images are in a memory of 16 until chess needs half of it."""
    strategy = taught(from_val(Replay(padim(), 16)), 1)
    exemplars = strategy.memory.part(True, 0)  # type: ignore[union-attr, operator]
    assert len(exemplars) == 4
    strategy.learn(TASKS[1])
    left = strategy.memory.part(True, 0)  # type: ignore[union-attr, operator]
    assert len(left) < 4
    np.testing.assert_allclose(strategy.thresholds(0), highest(strategy, exemplars), rtol=1e-5)
    assert abs(highest(strategy, left).centre / strategy.thresholds(0).centre - 1) > 1e-4


def test_multitask_shows_all_images_so_far_and_starts_again() -> None:
    """Of every task 12 train and 4 val images: all 16 are learned and set that task's thresholds."""
    strategy = Multitask(padim())
    assert [len(t.train) for t in strategy.view(TASKS)] == [12, 24, 36]
    assert [len(t.val) for t in strategy.view(TASKS)] == [4, 8, 12]
    for number, task in enumerate(strategy.view(TASKS)):
        numbers = range(number + 1)
        assert {t: len(images) for t, images in strategy.val(task).items()} == dict.fromkeys(numbers, 4)
        everything = strategy.val(task.with_all_in_one())
        assert {t: len(images) for t, images in everything.items()} == dict.fromkeys(numbers, 16)
        strategy.learn(task)
        assert float(strategy.detector.stats["count"]) == 16 * (number + 1)
        assert [strategy.thresholds(t).rate for t in numbers] == [1 / 17] * (number + 1)


def test_multitask_learns_train_images_alone_where_thresholds_come_from_val_images() -> None:
    strategy = from_val(Multitask(padim()))
    for number, task in enumerate(strategy.view(TASKS)):
        strategy.learn(task)
        assert float(strategy.detector.stats["count"]) == 12 * (number + 1)
        assert [strategy.thresholds(t).rate for t in range(number + 1)] == [1 / 5] * (number + 1)


def test_multitask_keeps_numbers_in_whatever_order_a_later_stream_shows_the_tasks() -> None:
    """Taught zebra 0 and chess 1; the later stream names them 1 and 0, and egg 2."""
    strategy, straight = taught(Multitask(padim()), 2), taught(Multitask(padim()), 3)
    again = [replace(TASKS[place], index=number) for number, place in enumerate((1, 0, 2))]
    strategy.learn(strategy.view(again)[2])
    assert strategy.tasks == straight.tasks
    for number in range(3):
        np.testing.assert_allclose(strategy.thresholds(number), straight.thresholds(number), rtol=1e-3)
    assert strategy.thresholds(0) != strategy.thresholds(1)


def test_multitask_refuses_what_lacks_tasks_that_it_learned() -> None:
    strategy = taught(Multitask(padim()), 2)
    before = {name: value.clone() for name, value in strategy.state_dict().items()}
    thresholds = strategy.thresholds(1)
    said = "multitask learns 'egg' together with all tasks before it, and there are no images of {}: give a stream"
    for task, missing in (
        (TASKS[2], "zebra, chess"),
        (strategy.view(TASKS[2:])[0], "zebra, chess"),
        (strategy.view(TASKS[1:])[1], "zebra"),
    ):
        with pytest.raises(ContinuadError, match=said.format(missing)):
            strategy.learn(task)
    after = strategy.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert strategy.thresholds(1) == thresholds
    strategy.learn(strategy.view(TASKS)[2])


def test_multitask_counts_tasks_that_were_passed_over_to_the_one_it_learns() -> None:
    strategy = Multitask(padim())
    whole = strategy.view(TASKS)[2]
    assert {t: len(images) for t, images in strategy.val(whole).items()} == {2: 12}
    strategy.learn(whole)
    assert [task.name for task in strategy.tasks] == ["egg"]
    assert strategy.thresholds(2) == strategy.thresholds()


def all_at_once(images: Images) -> Tensor:
    return images.__getitems__(list(range(len(images)))).image


def highest(strategy: Strategy, images: Images, *, out_of_fold: bool = True) -> Thresholds:
    """With so few images: mean of the maps, the pixel value that 0.1 % exceed, the highest score, and 1 in n + 1."""
    found = strategy.predict(all_at_once(images), out_of_fold=out_of_fold)
    pixel = np.quantile(found.map, 0.999, method="higher")
    return Thresholds(float(found.map.mean()), float(pixel), float(found.score.max()), 1 / (len(images) + 1))


def test_every_task_has_thresholds_of_its_own_set_anew_on_good_images() -> None:
    """Replay: on exemplars of earlier tasks; multitask: on all images; both as if each had not been learned. For
    everything: the highest of them."""
    replay, multitask = taught(Replay(padim(), 28), 3), taught(Multitask(padim()), 3)
    kept = Replay(padim(), 28)
    taught(kept, 2)
    for strategy, earlier in (
        (replay, lambda t: kept.memory.part(True, t)),
        (multitask, lambda t: TASKS[t].all_good()),
    ):
        own = [strategy.thresholds(t) for t in range(3)]
        expected = [highest(strategy, earlier(t)) for t in (0, 1)] + [highest(strategy, TASKS[2].all_good())]
        np.testing.assert_allclose(own, expected, rtol=1e-3)
        assert strategy.thresholds().image == pytest.approx(max(one.image for one in own), rel=1e-4)
        learned = [strategy.predict(all_at_once(TASKS[t].train)).score.max() for t in range(3)]
        assert all(float(score) < one.image for score, one in zip(learned, own, strict=True))


def test_thresholds_from_val_images_rest_on_them_and_on_val_exemplars_alone() -> None:
    replay, multitask = taught(from_val(Replay(padim(), 48)), 3), taught(from_val(Multitask(padim())), 3)
    for strategy, earlier in (
        (replay, lambda t: replay.memory.part(True, t)),  # type: ignore[union-attr, operator]
        (multitask, lambda t: TASKS[t].val),
    ):
        own = [strategy.thresholds(t) for t in range(3)]
        expected = [highest(strategy, earlier(t), out_of_fold=False) for t in (0, 1)]
        np.testing.assert_allclose(own, [*expected, highest(strategy, TASKS[2].val, out_of_fold=False)], rtol=1e-4)


def test_thresholds_stay_as_learned_where_no_val_images_are_kept() -> None:
    strategy = Naive(padim())
    learned = []
    for task in TASKS:
        strategy.learn(task)
        learned.append(strategy.thresholds(task.index))
        assert strategy.thresholds() == learned[-1]
    assert [strategy.thresholds(t) for t in range(3)] == learned


def test_a_verdict_rests_on_the_thresholds_for_everything_unless_the_product_is_given() -> None:
    strategy = taught(Naive(padim()), 2)
    strategy.calibration.kept["0"] = torch.tensor([1.0, 60.0, 67.0])  # among the scores, as the others are not
    found, shared = evaluate(strategy, TASKS[0])
    given, own = evaluate(strategy, TASKS[0], task_given=True)
    assert np.array_equal(own.scores, shared.scores)
    assert np.array_equal(own.flagged, own.scores > strategy.thresholds(0).image)
    assert np.array_equal(shared.flagged, shared.scores > strategy.thresholds().image)
    assert not np.array_equal(own.flagged, shared.flagged)
    assert {name.removeprefix("oracle_"): found[name] for name in found if name.startswith("oracle_")} == given


@pytest.mark.parametrize("kind", [Single, PerTask])
@pytest.mark.parametrize("detector", [padim, ToyAutoencoder])
def test_task_snapshots_never_change(kind: type[Strategy], detector: type) -> None:
    strategy = taught(kind(detector()), 1)
    x = torch.from_numpy(TASKS[0].test.images)
    before = strategy.predict(x, task=0)
    for task in TASKS[1:]:
        strategy.learn(task)
    after = strategy.predict(x, task=0)
    assert torch.equal(before.map, after.map)
    assert torch.equal(before.score, after.score)


def test_single_must_be_given_the_task() -> None:
    with pytest.raises(ContinuadError, match="must be given the task"):
        taught(Single(padim()), 1).predict(torch.from_numpy(TASKS[0].test.images))


def test_single_trains_every_model_from_the_same_start() -> None:
    first, second = Single(ToyAutoencoder()), Single(ToyAutoencoder())
    first.learn(TASKS[0])
    for strategy in (first, second):
        strategy.learn(TASKS[1])
    x = torch.from_numpy(TASKS[1].test.images)
    assert torch.equal(first.predict(x, 1).map, second.predict(x, 1).map)


@pytest.mark.parametrize("task_inference", ["pooled", "lowest"])
def test_pertask_finds_the_task_of_an_image(task_inference: str) -> None:
    strategy = taught(PerTask(padim(), task_inference, reject=None))  # type: ignore[arg-type]
    for task in TASKS:
        values, _ = evaluate(strategy, task)
        assert values["task_accuracy"] == 1.0
        assert values["pixel_auroc"] == values["oracle_pixel_auroc"]


def test_a_wrongly_inferred_task_is_seen_in_the_accuracy_and_costs_something() -> None:
    strategy = taught(PerTask(padim(), reject=None))
    means = strategy.pooled.kept  # type: ignore[union-attr]
    means["0/mean"], means["1/mean"] = means["1/mean"], means["0/mean"]
    values, _ = evaluate(strategy, TASKS[0])
    assert values["task_accuracy"] == 0.0
    assert values["pixel_f1_max"] < values["oracle_pixel_f1_max"]


def test_pertask_scores_are_comparable_between_products() -> None:
    """0 is the mean of all good images' maps and 1 their highest score, each predicted as if it was not learned."""
    strategy = taught(PerTask(padim()))
    for task in TASKS:
        found = strategy.predict(all_at_once(task.all_good()), out_of_fold=True)
        assert float(found.score.max()) == pytest.approx(1.0, abs=1e-4)
        assert float(found.map.mean()) == pytest.approx(0.0, abs=1e-4)
        assert float(strategy.predict(all_at_once(task.all_good())).score.max()) < 0.9


def test_pertask_can_answer_none_of_these() -> None:
    """Unless `reject` is set to None; such an image is scored all the same."""
    strategy, never = taught(PerTask(padim()), 2), taught(PerTask(padim(), reject=None), 2)
    for t in (0, 1):
        good = torch.from_numpy(TASKS[t].test.images[~TASKS[t].test.labels])
        assert strategy.predict(good).task.tolist() == [t] * 4  # type: ignore[union-attr]
    unlearned = torch.from_numpy(TASKS[2].test.images)
    assert strategy.predict(unlearned).task.tolist() == [-1] * 8  # type: ignore[union-attr]
    assert set(never.predict(unlearned).task.tolist()) <= {0, 1}  # type: ignore[union-attr]
    assert torch.equal(strategy.predict(unlearned).map, never.predict(unlearned).map)


def test_batches_of_mixed_products_equal_separate_ones() -> None:
    strategy = taught(PerTask(padim()))
    parts = [torch.from_numpy(task.test.images[:3]) for task in TASKS]
    mixed = strategy.predict(torch.cat(parts)[[0, 3, 6, 1, 4, 7, 2, 5, 8]])
    for t, part in enumerate(parts):
        torch.testing.assert_close(mixed.map[t::3], strategy.predict(part).map, rtol=1e-4, atol=1e-4)


def test_task_inference_and_detector_share_one_backbone() -> None:
    """EfficientNet-Lite0 up to stride 16 has 0.69 million parameters: 2.77 MB, once."""
    strategy = PerTask(padim())
    assert strategy.pooled.pyramid is strategy.detector.pyramid
    assert footprint(strategy).architecture == pytest.approx(2.77, abs=0.01)


def test_memory_grows_by_one_snapshot_a_task_and_nothing_else() -> None:
    weights = [footprint(taught(PerTask(padim()), n)).additional for n in (1, 2, 3)]
    assert weights[1] - weights[0] == pytest.approx(weights[2] - weights[1])
    naive = [footprint(taught(Naive(padim()), n)).additional for n in (1, 3)]
    assert naive[1] - naive[0] == pytest.approx(2 * (3 + 16) * 4 / MEGABYTE)  # thresholds of two tasks, 16 scores each


def test_test_labels_never_steer_learning() -> None:
    """Shuffled test labels and masks leave the model and its thresholds bit-identical."""
    rng = np.random.default_rng(0)
    for kind in (Naive, Accumulate, Average, Multitask, PerTask, Replay):
        states = []
        for shuffle in (False, True):
            tasks = stream(2)
            for task in tasks if shuffle else []:
                rng.shuffle(task.test.labels)
                task.test.masks[:] = rng.random(task.test.masks.shape) > 0.5
            strategy = kind(padim())
            for task in strategy.view(tasks):
                strategy.learn(task)
                evaluate(strategy, task)
            states.append(strategy.state_dict())
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(v, states[1][k]) for k, v in states[0].items()), kind


def test_the_thresholds_of_a_single_val_image_are_finite() -> None:
    one = images_of(0, 1, defects=False, seed=0)
    strategy = Naive(padim())
    strategy.learn(Task(0, "one", one, one, one))
    assert all(np.isfinite(strategy.thresholds()))


def test_average_counts_tasks_whatever_their_numbers() -> None:
    """Tasks 5 and 9 are blended as 0 and 1 are: half of each."""
    plain, numbered = Average(padim()), Average(padim())
    for place, number in ((0, 5), (1, 9)):
        plain.learn(TASKS[place])
        numbered.learn(replace(TASKS[place], index=number))
    x = torch.from_numpy(TASKS[0].test.images)
    assert torch.equal(plain.predict(x).map, numbered.predict(x).map)
