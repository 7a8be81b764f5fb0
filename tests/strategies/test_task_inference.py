"""Task inference: what is kept of a task does not age, and one pass through the backbone serves everybody."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import SIZE, ToyAutoencoder, images_of, ready, stream

from continuad.core.batches import in_order
from continuad.core.types import Batch, LearnedTask, Prediction, Task
from continuad.detectors.padim import Padim
from continuad.detectors.patchcore import PatchCore
from continuad.errors import ContinuadError
from continuad.models.registry import make_detector, make_strategy
from continuad.strategies._pooled import MARGIN, Nearest, PooledTaskInference, pooled
from continuad.strategies.adapters import Adapters
from continuad.strategies.packnet import PackNet
from continuad.strategies.pertask import PerTask
from continuad.vision.backbones import Backbone

TASKS = stream()


def test_how_far_a_task_reaches_is_measured_on_the_scale_of_the_day() -> None:
    """A varied later task widens the deviation within tasks that distances are divided by. The farthest of an earlier
    task's 16 images must stay where it was: 16/15 nearer to the mean that it has a part in than to that of the others,
    at 1 without the margin."""
    inference = PooledTaskInference()
    for task in TASKS[:2]:
        inference.learn(task.index, in_order(task.all_good(), 16))

    def farthest(task: Task) -> float:
        features = inference.embed(next(in_order(task.all_good(), 16)).image)
        return float(inference(features)[1].max())

    before = inference._deviation().clone()
    assert farthest(TASKS[0]) == pytest.approx(15 / 16 / MARGIN)
    rng = np.random.default_rng(0)
    varied = images_of(2, 12, defects=False, seed=0)
    varied.images[:] = (varied.images * rng.uniform(0.1, 1, (12, 3, 1, 1))).astype(np.uint8)
    inference.learn(2, in_order(varied, 16))
    assert float((inference._deviation() / before).max()) > 1.5
    assert farthest(TASKS[0]) == pytest.approx(15 / 16 / MARGIN)


@pytest.mark.parametrize("reject", [None, 0.01])
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


@pytest.mark.parametrize(("reject", "reach"), [(0.01, 4.5), (0.4, 4.5), (0.5, 2.25)])
def test_the_nearest_task_by_hand(reject: float, reach: float) -> None:
    """Two features. Deviations within tasks are sqrt((1 + 7) / 2) = 2 and sqrt((0 + 2) / 2) = 1: task 3 lies at
    (0, 0), task 5 at (4, 0) on that scale. The three images of task 3 lie 2, 1 and 0 away, so 3, 1.5 and 0 from the
    mean of the other two; times 1.5 its reach is 4.5, or 2.25 if half of them may lie farther (the second of three).
    The two images of task 5 lie 0.5 and 0.25 away, and the farther one 1 from the other: a reach of 1.5."""
    inference = PooledTaskInference(reject=reject)
    rows = {
        "5/mean": [8.0, 0.0],
        "5/variance": [7.0, 2.0],
        "5/farthest": [[8.0, 0.5], [8.0, 0.5]],
        "5/count": 2,
        "3/mean": [0.0, 0.0],
        "3/variance": [1.0, 0.0],
        "3/farthest": [[4.0, 0.0], [0.0, -1.0], [0.0, 0.0]],
        "3/count": 3,
    }
    for name, value in rows.items():
        inference.kept[name] = torch.tensor(value)
    assert inference.known() == [3, 5]
    found = inference(torch.tensor([[2.0, 0.0], [8.0, 3.0], [0.0, 4.0]]))
    assert found.task.tolist() == [3, 5, 3]
    assert found.distance.tolist() == pytest.approx([1 / reach, 3 / 1.5, 4 / reach], rel=1e-5)


def features_of(inference: PooledTaskInference, *tasks: torch.Tensor) -> None:
    """Teach it features (N, 2) as they are, of tasks 0, 1 and so on."""
    inference.embed = lambda images: images[:, :, 0, 0]  # type: ignore[method-assign]
    for number, rows in enumerate(tasks):
        inference.learn(number, [Batch.good(part[:, :, None, None]) for part in rows.split(7)])


def line(n: int) -> torch.Tensor:
    """Features (2 n, 2): n images on either side of 0 at 1 to n, one behind the other in random order."""
    one = torch.arange(1.0, n + 1)
    rows = torch.stack([torch.cat([one, -one]), torch.zeros(2 * n)], 1)
    return rows[torch.randperm(2 * n, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(("reject", "farthest"), [(0.01, 50), (0.1, 46), (0.3, 36), (0.6, 21), (0.99, 19)])
def test_the_share_of_good_images_that_may_be_rejected_by_hand(reject: float, farthest: int) -> None:
    """Of 100 images at 1 1 2 2 ... 50 50 the ceil(101 (1 - r))-th: the 100th at 1 %, the 91st (46) at 10 %, the 71st
    (36) at 30 %, the 41st (21) at 60 %. The farthest 64 are kept, from 19 on, which no share goes below. From the
    mean of the others an image lies 100 / 99 as far."""
    inference = PooledTaskInference(reject=reject)
    features_of(inference, line(50))
    assert inference.kept["0/farthest"].shape == (64, 2)
    assert int(inference.kept["0/count"]) == 100
    edge = MARGIN * farthest * 100 / 99
    x = torch.tensor([[edge * 0.999, 0.0], [edge * 1.001, 0.0], [-edge * 2, 0.0]])
    assert inference(x).distance.tolist() == pytest.approx([0.999, 1.001, 2], rel=1e-5)


def test_an_images_own_part_in_the_mean_is_taken_out_of_its_distance() -> None:
    """Images at 3, -1 and -2: the farthest lies 3 from the mean 0, and 4.5 from that of the others, -1.5."""
    inference = PooledTaskInference()
    features_of(inference, torch.tensor([[3.0, 0.0], [-1.0, 0.0], [-2.0, 0.0]]))
    assert inference(torch.tensor([[MARGIN * 4.5, 0.0]])).distance.tolist() == pytest.approx([1.0])


def test_the_farthest_images_are_those_by_their_tasks_own_deviation() -> None:
    """The second feature varies a hundred times as much: its largest values are no farther than the first one's."""
    inference, rows = PooledTaskInference(), line(40)
    features_of(inference, torch.cat([rows, rows.flip(1) * 100]))
    kept = inference.kept["0/farthest"].abs()
    assert sorted(kept[:, 0].tolist())[-32:] == [float(i // 2) for i in range(50, 82)]
    assert sorted(kept[:, 1].tolist())[-32:] == [100.0 * (i // 2) for i in range(50, 82)]


def test_of_a_single_image_or_of_copies_no_reach_is_known_and_nothing_is_rejected() -> None:
    inference = PooledTaskInference()
    features_of(inference, torch.tensor([[3.0, 0.0]]), torch.full((5, 2), -9.0))
    found = inference(torch.tensor([[40.0, 0.0], [-40.0, 0.0], [3.0, 0.0]]))
    assert found.task.tolist() == [0, 1, 0]
    assert found.distance.tolist() == [0, 0, 0]


def test_a_task_is_remembered_by_mean_variance_and_its_farthest_images() -> None:
    inference = PooledTaskInference()
    inference.learn(4, in_order(TASKS[0].all_good(), 5))
    z = inference.embed(next(in_order(TASKS[0].all_good(), 16)).image).numpy()
    np.testing.assert_allclose(inference.kept["4/mean"], z.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inference.kept["4/variance"], z.var(0), rtol=1e-3, atol=1e-6)
    order = np.argsort(-(((z - z.mean(0)) ** 2) / (z.var(0) + 1e-6)).sum(1))
    np.testing.assert_allclose(inference.kept["4/farthest"], z[order], rtol=1e-4, atol=1e-5)
    assert int(inference.kept["4/count"]) == 16
    dtypes = {name: value.dtype for name, value in inference.kept.under("4/").items()}
    assert dtypes.pop("count") == torch.int64
    assert set(dtypes.values()) == {torch.float32}


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
            scores = centre + (image - centre) * torch.tensor([[0.2, 0.4, 0.6, 1.0], [0.1, 0.3, 0.8, 1.0]][task])
            for name, three in ((str(task), [centre, pixel, image]), ("all", [9.0, 10.0, 11.0])):
                self.calibration.kept[name] = torch.tensor(three)
                self.calibration.kept[f"{name}/images"] = scores[task:]
            self.tasks.append(LearnedTask(task, f"t{task}"))
        self.found = Nearest(torch.tensor([1, 0, 1]), torch.tensor([1.0, 0.25, 1.01]))
        self.pooled.forward = lambda _: self.found  # type: ignore[method-assign]


IMAGES = torch.from_numpy(np.concatenate([task.test.images[:1] for task in TASKS]))


def raw(strategy: PerTask, task: int) -> Prediction:
    return strategy.snapshot(task).predict(IMAGES)


def test_predictions_are_put_on_the_scale_of_their_tasks() -> None:
    """0 is the centre and 1 the threshold: (x - 0) / 0.5 for task 0's maps, (x - 1) / (3 - 1) for task 1's."""
    strategy = Knowing(reject=None)
    found, maps, scores = strategy.predict(IMAGES), [raw(strategy, t).map for t in (0, 1)], raw(strategy, 1).score
    torch.testing.assert_close(found.map, torch.stack([(maps[1][0] - 1) / 2, maps[0][1] / 0.5, (maps[1][2] - 1) / 2]))
    torch.testing.assert_close(found.score[[0, 2]], (scores[[0, 2]] - 4.2) / 0.8)  # 4.2: the middle of good scores
    assert found.task.tolist() == [1, 0, 1]  # type: ignore[union-attr]
    given = strategy.predict(IMAGES, "t1")
    torch.testing.assert_close(given.map, (maps[1] - 1) / 2)
    assert given.task.tolist() == [1, 1, 1]  # type: ignore[union-attr]
    assert strategy.thresholds(0) == (0.0, 1.0, 1.0, 1 / 5)
    assert strategy.thresholds(1) == strategy.thresholds() == (0.0, 1.0, 1.0, 1 / 4)  # the least that is promised


def test_the_image_threshold_for_another_rate_is_on_the_same_scale() -> None:
    """Task 0's good images score 0.05, 0.1, 0.15 and 0.25, their middle is 0.125; the ceil(5 x 0.5) = third at 50 %."""
    strategy = Knowing()
    assert strategy.thresholds(0, 0.5) == (0.0, 1.0, pytest.approx(0.2), 0.5)
    assert strategy.thresholds(0, 0.01) == (0.0, 1.0, pytest.approx(1.0), 1 / 5)
    assert strategy.thresholds(1, 0.5) == (0.0, 1.0, pytest.approx(0.0, abs=1e-6), 0.5)  # the second of three


@pytest.mark.parametrize("name", ["padim", "patchcore", "spade"])
def test_verdicts_are_those_of_separate_models_when_the_task_is_given(name: str) -> None:
    """SPADE's scores and maps are different quantities: scaled by maps, its scores would never reach the threshold."""
    one, other = (make_strategy(kind, make_detector(name, image_size=64)) for kind in ("pertask", "single"))
    for strategy in (one, other):
        for task in TASKS[:2]:
            strategy.learn(task)
    for task in TASKS[:2]:
        images = torch.from_numpy(task.test.images)
        flagged = [
            (strategy.predict(images, task.index).score > strategy.thresholds(task.index, rate).image).tolist()
            for strategy in (one, other)
            for rate in (None, 0.4)
        ]
        assert flagged[0] == flagged[2]
        assert flagged[1] == flagged[3]
        assert any(flagged[0])


def test_an_image_is_rejected_beyond_the_distance_and_not_at_it() -> None:
    strategy = Knowing()
    assert strategy.predict(IMAGES).task.tolist() == [1, 0, -1]  # type: ignore[union-attr]
    torch.testing.assert_close(
        strategy.predict(IMAGES).map, Knowing(reject=None).predict(IMAGES).map
    )  # scored all the same
    assert strategy.predict(IMAGES, 0).task.tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert strategy.task_distance(IMAGES).tolist() == pytest.approx([1.0, 0.25, 1.01])
    assert strategy.infer_task(IMAGES).tolist() == [1, 0, 1]


def test_the_lowest_map_is_asked_for_by_name_or_as_the_strategys_own_way() -> None:
    lowest = torch.stack([raw(Knowing(), t).map.flatten(1).sum(1) for t in (0, 1)]).argmin(0).tolist()
    assert lowest != [1, 0, 1]
    assert Knowing().infer_task(IMAGES, "lowest").tolist() == lowest
    own = Knowing(task_inference="lowest", reject=None)
    assert own.infer_task(IMAGES).tolist() == own.predict(IMAGES).task.tolist() == lowest  # type: ignore[union-attr]
    assert own.infer_task(IMAGES, "pooled").tolist() == [1, 0, 1]
    rejecting = Knowing(task_inference="lowest").predict(IMAGES)
    assert rejecting.task.tolist() == [*lowest[:2], -1]  # type: ignore[union-attr]


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ContinuadError, match="option task_inference is 'best'; allowed: pooled, lowest"):
        PerTask(ToyAutoencoder(), "best")  # type: ignore[arg-type]
    for kind in (PerTask, PackNet, Adapters):
        for share in (-0.1, 1.0, 2.0):
            with pytest.raises(
                ContinuadError, match=f"option reject is {share}; allowed: a number, at least 0 and below"
            ):
                kind(ToyAutoencoder(), reject=share)


def test_images_of_another_size_and_questions_before_learning_are_refused() -> None:
    with pytest.raises(ContinuadError, match="images are 32 x 64, but the model learned 64 x 64"):
        Knowing().predict(IMAGES[:, :, :32], 0)
    for ask in (PerTask(ToyAutoencoder()).infer_task, PerTask(ToyAutoencoder()).task_distance):
        with pytest.raises(ContinuadError, match="not trained yet"):
            ask(IMAGES)
