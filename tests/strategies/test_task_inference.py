"""Task inference: what is kept of a task does not age, and one pass through the backbone serves everybody."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import SIZE, images_of, stream

from continuad.core.batches import in_order
from continuad.core.types import Task
from continuad.detectors.padim import Padim
from continuad.detectors.patchcore import PatchCore
from continuad.strategies._pooled import PooledTaskInference
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


@pytest.mark.parametrize(("detector", "passes"), [(Padim(SIZE, channels=12), 1), (PatchCore(SIZE), 2)])
def test_an_image_passes_a_shared_backbone_once(detector: Padim, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """PaDiM has the levels that task inference looks at; PatchCore has others, and a second pass."""
    strategy = PerTask(detector)
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
