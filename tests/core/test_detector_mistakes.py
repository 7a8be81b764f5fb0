"""Mistakes in a detector of one's own are found at the first step or the first prediction, and name its class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from toys import SIZE, ToyAutoencoder, stream

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.types import Prediction
from continuad.errors import ContinuadError
from continuad.models.registry import settings
from continuad.strategies.herding import Herding
from continuad.strategies.lwf import Lwf
from continuad.strategies.mas import Mas
from continuad.strategies.naive import Naive
from continuad.vision.tiles import tiled


class Mean(Detector):
    """A detector of one statistic, without `forward`."""

    learns_by = "statistics"

    def __init__(self, image_size: int = SIZE, seed: int = 0):
        super().__init__(image_size)
        self.seed = seed

    def step(self, images: Tensor) -> Tensor | None:
        self.stats["mean"] = images.float().mean(0)
        return None

    def _predict(self, images: Tensor) -> Prediction:
        anomaly_map = (images.float() - self.stats["mean"]).abs().mean(1)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)


class Trains(ToyAutoencoder):
    """A gradient detector without `forward` under that name."""

    forward = Detector.forward

    def step(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images.float() / 255)).mean()


def taught(detector: Detector) -> Naive:
    strategy = Naive(detector)
    strategy.budget = Budget(steps=2)
    strategy.learn(stream(1)[0])
    return strategy


@pytest.mark.parametrize("kind", [Herding, Lwf, Mas])
def test_a_strategy_that_compares_answers_refuses_a_detector_without_any(kind: Any) -> None:
    for detector in (Trains, tiled(Trains)):
        assert "no forward" in str(kind.refuses(detector))
    with pytest.raises(ContinuadError, match="no forward"):
        kind(Trains())
    assert kind.refuses(ToyAutoencoder) is None
    assert kind.refuses(tiled(ToyAutoencoder)) is None


def test_features_of_ones_own_are_enough_for_herding() -> None:
    class Has(Mean):
        def features(self, images: Tensor) -> Tensor:
            return images.float().mean((2, 3))

    assert "no forward, no features" in str(Herding.refuses(Mean))
    assert Herding.refuses(Has) is None
    assert "no forward, no features" in str(Herding.refuses(tiled(Mean)))


def test_a_detector_without_forward_is_learned_where_nobody_asks_for_it() -> None:
    assert taught(Mean()).tasks
    assert Naive.refuses(Trains) is None


@pytest.mark.parametrize(
    ("score", "anomaly_map", "said"),
    [
        ((4,), (4, 16, 16), r"predicts a map of \(4, 16, 16\); it must be a tensor of \(4, 64, 64\)"),
        ((4,), (4, 1, 64, 64), r"predicts a map of \(4, 1, 64, 64\)"),
        ((4, 1), (4, 64, 64), r"predicts a score of \(4, 1\); it must be a tensor of \(4,\)"),
        ((), (4, 64, 64), r"predicts a score of \(\)"),
    ],
)
def test_a_prediction_of_the_wrong_size_is_refused(score: Any, anomaly_map: Any, said: str) -> None:
    class Wrong(Mean):
        def _predict(self, images: Tensor) -> Prediction:
            return Prediction(torch.zeros(score), torch.zeros(anomaly_map))

    detector = Wrong()
    with pytest.raises(ContinuadError, match=r"^test_detector_mistakes:.*Wrong " + said):
        taught(detector)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "but its step returns None: return a loss"),
        (0.5, "but its step returns 0.5: return a loss"),
        (torch.zeros(()), r"but its step returns a tensor of \(\) that nothing can descend: return a loss"),
        (torch.zeros(4, requires_grad=True), r"but its step returns a tensor of \(4,\)"),
    ],
)
def test_a_gradient_detector_that_gives_no_loss_is_refused_at_its_first_step(value: Any, said: str) -> None:
    class Wrong(ToyAutoencoder):
        def step(self, images: Tensor) -> Tensor:
            taken.append(len(images))
            found: Tensor = value
            return found

    taken: list[int] = []
    with pytest.raises(ContinuadError, match=r"^test_detector_mistakes:.*Wrong learns by gradient, " + said):
        taught(Wrong())
    assert len(taken) == 1


def test_a_statistics_detector_that_gives_a_loss_is_refused_at_its_first_step() -> None:
    class Wrong(Mean):
        def step(self, images: Tensor) -> Tensor | None:
            return images.float().mean()

    with pytest.raises(ContinuadError, match="Wrong learns by statistics, but its step returns a value"):
        taught(Wrong())


def test_other_mistakes_are_named_too() -> None:
    class Typo(Mean):
        learns_by = "gradients"  # type: ignore[assignment]

    class Empty(Mean):
        learns_by = "gradient"

    class Forgets(Mean):
        def __init__(self, image_size: int = SIZE, power: int = 2, seed: int = 0):
            super().__init__(image_size, seed)

    with pytest.raises(ContinuadError, match="Typo: learns_by is 'gradients'; set"):
        Typo()
    with pytest.raises(ContinuadError, match="Empty learns by gradient, but has no weights"):
        taught(Empty())
    with pytest.raises(ContinuadError, match=r"Forgets does not keep power: .*, as self.power = power$"):
        settings(Forgets())
