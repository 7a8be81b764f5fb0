"""What holds for every detector when it predicts: refusals, reused buffers, inference mode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from test_contract import SLOW, SMALL, few_tasks
from toys import SIZE, shaken

from continuad.core.fit import Budget
from continuad.core.strategy import Strategy
from continuad.detectors.cflow import positions
from continuad.errors import ContinuadError
from continuad.models.registry import applicable, detectors, make_detector
from continuad.strategies.naive import Naive
from continuad.vision.anomaly_map import _axis_matrix
from continuad.vision.winograd import transforms

NAMES = [name for name in detectors() if SLOW.get(name, "all")]  # EfficientAD-M is S with other networks
each = pytest.mark.parametrize("name", NAMES)
ZEROS = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)


def learned(name: str) -> Strategy:
    """A detector after the first task."""
    model = Naive(make_detector(name, **applicable(detectors()[name], SMALL)))
    model.budget = Budget(steps=1)
    shaken(model.detector, 0.1)  # new networks of few channels answer almost the same to anything
    model.learn(few_tasks(name)[0])
    return model


def forget() -> None:
    """Drop what predictions prepare once and keep for later ones and for learning."""
    for kept in (_axis_matrix, positions, transforms):
        kept.cache_clear()


@pytest.fixture
def _nothing_kept() -> Iterator[None]:
    """Whatever a prediction prepares, it prepares within the test, and it does not outlive it."""
    forget()
    yield
    forget()


@each
def test_an_untrained_detector_and_another_size_are_refused(name: str) -> None:
    model = learned(name)
    with pytest.raises(ContinuadError, match="images are 64 x 96, but the model learned 64 x 64"):
        model.detector.predict(torch.zeros(1, 3, SIZE, 96, dtype=torch.uint8))
    fresh = make_detector(name, **applicable(detectors()[name], SMALL))
    with pytest.raises(ContinuadError, match="not trained yet"):
        fresh.predict(ZEROS)


@each
def test_a_buffer_that_is_used_again_gets_the_new_pictures_answer(name: str) -> None:
    """A camera writes every picture to the same place."""
    detector, buffer = learned(name).detector, np.zeros((1, 3, SIZE, SIZE), np.uint8)
    first = detector.predict(torch.from_numpy(buffer))
    buffer[:] = few_tasks(name)[0].test.images[-1:]
    second = detector.predict(torch.from_numpy(buffer))
    assert not torch.equal(second.map, first.map)
    again = detector.predict(torch.from_numpy(buffer.copy()))
    assert torch.equal(again.map, second.map)
    assert torch.equal(again.score, second.score)


@pytest.mark.usefixtures("_nothing_kept")
@each
def test_asked_in_inference_mode_it_learns_on_as_if_it_had_not_been(name: str) -> None:
    """Of the very images, too, that it was asked about."""
    asked, quiet = learned(name), learned(name)
    images = torch.from_numpy(few_tasks(name)[1].train.images[:2])
    forget()
    with torch.inference_mode():
        found = asked.detector.predict(images)
    assert torch.equal(found.map, quiet.detector.predict(images).map)
    for model in (asked, quiet):
        if model.detector.learns_by == "gradient":
            loss = model.detector.step(images)
            assert loss is not None
            loss.backward()
        model.learn(few_tasks(name)[1])
    a, b = (model.detector.predict(images) for model in (asked, quiet))
    assert torch.equal(a.map, b.map)
    assert torch.equal(a.score, b.score)
    assert asked.thresholds(1) == quiet.thresholds(1)
