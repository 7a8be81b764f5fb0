"""SPADE: its two scores by hand, banks under each policy."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor
from toys import images_of, ready, stream

from continuad.detectors.spade import Spade
from continuad.errors import ContinuadError
from continuad.metrics.image import image_metrics
from continuad.strategies.accumulate import Accumulate
from continuad.strategies.naive import Naive

TRAIN = torch.from_numpy(images_of(0, 12, defects=False, seed=0).images)
OTHER = torch.from_numpy(images_of(1, 6, defects=False, seed=0).images)


def small(**options: object) -> Spade:
    return Spade(**({"image_size": 64} | options))  # type: ignore[arg-type]


def learn(detector: Spade, *tasks: Tensor, policy: str = "restart") -> Spade:
    for images in tasks:
        detector.begin([], policy)  # type: ignore[arg-type]
        for part in images.split(5):
            detector.step(part)
        detector.finish()
    ready(detector)
    return detector


def test_scores_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three images the two nearest, at 1 and 2, count; a patch may be found anywhere in them."""
    detector = small(strides=(8,), neighbours=2, sigma=0)
    detector.stats["shares"] = torch.tensor([3])
    detector.stats["pooled"] = torch.tensor([[1.0], [9.0], [-2.0]])
    kept = torch.tensor([[0.0, 10.0], [5.0, 5.0], [20.0, 30.0]]).view(3, 1, 1, 2)
    detector.stats["stride8"] = kept
    asked = [torch.tensor([13.0, 5.0]).view(1, 1, 1, 2), torch.zeros(1, 1, 2, 2)]
    monkeypatch.setattr(detector.pyramid, "forward", lambda images: asked)
    found = ready(detector).predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert float(found.score) == (1 + 4) / 2
    # 13 is 3 from 10 in the first image; 5 is 5 from both ends of it: the second image's 5 is not asked
    assert [float(found.map[0, 0, 0]), float(found.map[0, 0, -1])] == [9.0, 25.0]


def test_policies_and_bounds() -> None:
    both = learn(small(), TRAIN, OTHER, policy="accumulate")
    assert both.stats["shares"].tolist() == [12, 6]
    bounded = learn(small(bank=8, neighbours=8), TRAIN, OTHER, policy="accumulate")
    assert bounded.stats["shares"].tolist() == [4, 4]
    assert len(bounded.stats["stride8"]) == 8
    first = learn(small(bank=4, neighbours=4), TRAIN)
    assert torch.equal(bounded.stats["stride16"][:4], first.stats["stride16"])
    assert learn(first, OTHER, policy="freeze").stats["shares"].tolist() == [4]
    assert learn(first, OTHER).stats["shares"].tolist() == [4]
    with pytest.raises(ContinuadError, match="fewer than the 2 tasks"):
        learn(small(bank=1, neighbours=1), TRAIN, OTHER, policy="accumulate")


def test_refusals() -> None:
    with pytest.raises(ContinuadError, match="not trained yet"):
        small().predict(TRAIN)
    with pytest.raises(ContinuadError, match="option neighbours is 0"):
        small(neighbours=0)
    with pytest.raises(ContinuadError, match="images are 96 x 64, but the model learned 64 x 64"):
        learn(small(), TRAIN).predict(torch.zeros(1, 3, 96, 64, dtype=torch.uint8))
    with pytest.raises(ContinuadError, match="strides"):
        small(strides=(8, 32))


def test_an_image_scores_alike_in_any_company() -> None:
    detector = learn(small(neighbours=3), TRAIN)
    together = detector.predict(OTHER)
    alone = detector.predict(OTHER[-1:])
    torch.testing.assert_close(alone.score[0], together.score[-1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(alone.map[0], together.map[-1], rtol=1e-3, atol=1e-2)


def test_a_known_constant_image_scores_nothing() -> None:
    grey = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    found = learn(small(), grey).predict(grey[:1])
    assert float(found.score) == pytest.approx(0, abs=1e-4)
    assert float(found.map.abs().max()) == pytest.approx(0, abs=1e-4)


def test_a_task_leaves_nothing_behind_but_its_bank() -> None:
    model = Accumulate(small(bank=4, neighbours=4))
    tasks = stream(3)
    model.learn(tasks[0])
    old = weakref.ref(model.detector.stats["stride8"])
    for task in tasks[1:]:
        model.learn(task)
    gc.collect()
    assert old() is None
    assert model.detector.fresh == []
    assert len(model.detector.stats["stride8"]) == 4


def test_it_finds_patches_on_stripes() -> None:
    model = Naive(small())
    task = stream(1)[0]
    model.learn(task)
    scores = model.predict(torch.from_numpy(task.test.images)).score.numpy()
    assert image_metrics(scores, task.test.labels)["image_auroc"] > 0.9
