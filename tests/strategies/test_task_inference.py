"""Task inference: what is kept of a task does not age, and one pass through the backbone serves everybody."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import SIZE, ToyAutoencoder, images_of, ready, stream

from continuad.core.batches import in_order
from continuad.core.types import LearnedTask, Prediction, Task
from continuad.detectors.padim import Padim
from continuad.detectors.patchcore import PatchCore
from continuad.errors import ContinuadError
from continuad.strategies._pooled import Nearest, PooledTaskInference, pooled
from continuad.strategies.pertask import PerTask
from continuad.vision.backbones import Backbone

TASKS = stream()


def test_how_far_a_task_reaches_is_measured_on_the_scale_of_the_day() -> None:
    """A varied later task widens the deviation within tasks that distances are divided by. The farthest val image of
    an earlier task must stay at distance 1."""
    inference = PooledTaskInference()
    for task in TASKS[:2]:
        inference.learn(task.index, in_order(task.train, 16), in_order(task.val, 16))

    def farthest(task: Task) -> float:
        features = inference.embed(torch.from_numpy(task.val.images))
        return float(inference(features)[1].max())

    before = inference._deviation().clone()
    assert farthest(TASKS[0]) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    varied = images_of(2, 12, defects=False, seed=0)
    varied.images[:] = (varied.images * rng.uniform(0.1, 1, (12, 3, 1, 1))).astype(np.uint8)
    inference.learn(2, in_order(varied, 16), in_order(varied, 16))
    assert float((inference._deviation() / before).max()) > 1.5
    assert farthest(TASKS[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("reject", [None, 2.0])
@pytest.mark.parametrize(("detector", "passes"), [(Padim(SIZE, channels=12), 1), (PatchCore(SIZE), 2)])
def test_an_image_passes_a_shared_backbone_once(
    detector: Padim, passes: int, reject: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PaDiM has the levels that task inference looks at; PatchCore has others, and a second pass. Rejecting takes the
    distance that was found with the task."""
    strategy = PerTask(detector, reject=reject)
    for task in TASKS[:2]:
        strategy.learn(task)
    seen = []
    real = Backbone._compute

    def counted(self: Backbone, images: torch.Tensor) -> list[torch.Tensor]:
        seen.append(len(images))
        return real(self, images)

    monkeypatch.setattr(Backbone, "_compute", counted)
    mixed = torch.cat([torch.from_numpy(task.test.images[:2]) for task in TASKS[:2]])
    assert strategy.predict(mixed).task.tolist() == [0, 0, 1, 1]  # type: ignore[union-attr]
    assert sum(seen) == passes * len(mixed)


def test_an_image_is_embedded_anew_when_its_buffer_is_used_again() -> None:
    """The next picture in the same memory is another picture."""
    strategy = PerTask(Padim(SIZE, channels=12))
    for task in TASKS[:2]:
        strategy.learn(task)
    buffer = TASKS[0].test.images[:1].copy()
    first = strategy.predict(torch.from_numpy(buffer))
    buffer[:] = TASKS[1].test.images[:1]
    second = strategy.predict(torch.from_numpy(buffer))
    fresh = strategy.predict(torch.from_numpy(TASKS[1].test.images[:1]))
    assert not torch.equal(first.map, second.map)
    assert torch.equal(second.map, fresh.map)


@torch.inference_mode()
def test_predictions_work_in_inference_mode_and_learning_goes_on_after_them() -> None:
    strategy = PerTask(Padim(SIZE, channels=12))
    with torch.inference_mode(False):
        strategy.learn(TASKS[0])
    x = torch.from_numpy(TASKS[0].test.images)
    inside = strategy.predict(x)
    with torch.inference_mode(False):
        assert torch.equal(strategy.predict(x).map, inside.map)
        strategy.learn(TASKS[1])


def test_the_nearest_task_by_hand() -> None:
    """Two features. Deviations within tasks are sqrt((1 + 7) / 2) = 2 and sqrt((0 + 2) / 2) = 1: task 3 lies at
    (0, 0), task 5 at (4, 0) on that scale. Their farthest val images lie 2 and 0.5 away."""
    inference = PooledTaskInference()
    rows = {
        "5/mean": [8.0, 0.0],
        "5/variance": [7.0, 2.0],
        "5/val": [[8.0, 0.5], [8.0, 0.0]],
        "3/mean": [0.0, 0.0],
        "3/variance": [1.0, 0.0],
        "3/val": [[0.0, 0.0], [4.0, 0.0], [0.0, -1.0]],
    }
    for name, value in rows.items():
        inference.kept[name] = torch.tensor(value)
    assert inference.known() == [3, 5]
    found = inference(torch.tensor([[2.0, 0.0], [8.0, 3.0], [0.0, 4.0]]))
    assert found.task.tolist() == [3, 5, 3]
    assert found.distance.tolist() == pytest.approx([1 / 2, 3 / 0.5, 4 / 2], rel=1e-5)


def test_a_task_is_remembered_by_mean_variance_and_its_val_images() -> None:
    inference = PooledTaskInference()
    train, val = TASKS[0].train, TASKS[0].val
    inference.learn(4, in_order(train, 5), in_order(val, 3))
    z = inference.embed(torch.from_numpy(train.images)).numpy()
    np.testing.assert_allclose(inference.kept["4/mean"], z.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inference.kept["4/variance"], z.var(0), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(inference.kept["4/val"], inference.embed(torch.from_numpy(val.images)))
    assert {value.dtype for value in inference.kept.under("4/").values()} == {torch.float32}


def test_every_level_counts_by_the_mean_of_its_channels() -> None:
    levels = [torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]]), torch.tensor([[[[2.0], [4.0]]]])]
    assert pooled(levels).tolist() == [[2, 5, 3]]


class Knowing(PerTask):
    """Two learned tasks whose thresholds are given; what the pooled features say is set by hand."""

    def __init__(self, **options: object) -> None:
        super().__init__(ready(ToyAutoencoder()), **options)  # type: ignore[arg-type]
        for task, (centre, pixel, image, bias) in enumerate([(0.0, 0.5, 0.25, 0.0), (1.0, 3.0, 5.0, 1.0)]):
            with torch.no_grad():
                self.detector.decode.bias += bias  # type: ignore[operator, union-attr]
            self.snapshots.keep(task)
            self.calibration.kept[str(task)] = torch.tensor([centre, pixel, image])
            self.calibration.kept["all"] = torch.tensor([9.0, 10.0, 11.0])
            self.tasks.append(LearnedTask(task, f"t{task}"))
        self.found = Nearest(torch.tensor([1, 0, 1]), torch.tensor([2.0, 0.5, 2.5]))
        self.pooled.forward = lambda _: self.found  # type: ignore[method-assign]


IMAGES = torch.from_numpy(np.concatenate([task.test.images[:1] for task in TASKS]))


def raw(strategy: PerTask, task: int) -> Prediction:
    return strategy.snapshot(task).predict(IMAGES)


def test_predictions_are_put_on_the_scale_of_their_tasks() -> None:
    """0 is the centre and 1 the threshold: (x - 0) / 0.5 for task 0's maps, (x - 1) / (3 - 1) for task 1's."""
    strategy = Knowing()
    found, maps, scores = strategy.predict(IMAGES), [raw(strategy, t).map for t in (0, 1)], raw(strategy, 1).score
    torch.testing.assert_close(found.map, torch.stack([(maps[1][0] - 1) / 2, maps[0][1] / 0.5, (maps[1][2] - 1) / 2]))
    torch.testing.assert_close(found.score[[0, 2]], (scores[[0, 2]] - 1) / 4)
    assert found.task.tolist() == [1, 0, 1]  # type: ignore[union-attr]
    given = strategy.predict(IMAGES, "t1")
    torch.testing.assert_close(given.map, (maps[1] - 1) / 2)
    assert given.task.tolist() == [1, 1, 1]  # type: ignore[union-attr]
    assert strategy.thresholds(1) == strategy.thresholds() == (0.0, 1.0, 1.0)


def test_an_image_is_rejected_beyond_the_distance_and_not_at_it() -> None:
    strategy = Knowing(reject=2.0)
    assert strategy.predict(IMAGES).task.tolist() == [1, 0, -1]  # type: ignore[union-attr]
    torch.testing.assert_close(strategy.predict(IMAGES).map, Knowing().predict(IMAGES).map)  # scored all the same
    assert strategy.predict(IMAGES, 0).task.tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert strategy.task_distance(IMAGES).tolist() == [2.0, 0.5, 2.5]
    assert strategy.infer_task(IMAGES).tolist() == [1, 0, 1]


def test_the_lowest_map_is_asked_for_by_name_or_as_the_strategys_own_way() -> None:
    lowest = torch.stack([raw(Knowing(), t).map.flatten(1).sum(1) for t in (0, 1)]).argmin(0).tolist()
    assert lowest != [1, 0, 1]
    assert Knowing().infer_task(IMAGES, "lowest").tolist() == lowest
    own = Knowing(task_inference="lowest")
    assert own.infer_task(IMAGES).tolist() == own.predict(IMAGES).task.tolist() == lowest  # type: ignore[union-attr]
    assert own.infer_task(IMAGES, "pooled").tolist() == [1, 0, 1]


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ContinuadError, match="pertask task_inference 'best' is not known; use pooled or lowest"):
        PerTask(ToyAutoencoder(), "best")  # type: ignore[arg-type]
    with pytest.raises(ContinuadError, match=r"pertask can only reject .* with task_inference=pooled"):
        PerTask(ToyAutoencoder(), "lowest", reject=2.0)


def test_images_of_another_size_and_questions_before_learning_are_refused() -> None:
    with pytest.raises(ContinuadError, match="images are 32 x 64, but the model learned 64 x 64"):
        Knowing().predict(IMAGES[:, :, :32], 0)
    for ask in (PerTask(ToyAutoencoder()).infer_task, PerTask(ToyAutoencoder()).task_distance):
        with pytest.raises(ContinuadError, match="not trained yet"):
            ask(IMAGES)
