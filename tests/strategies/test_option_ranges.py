"""Options of strategies: their defaults, their ranges, and where they arrive."""

from __future__ import annotations

import pytest
import torch
from toys import ToyAutoencoder, images_of

from continuad.core.strategy import Strategy
from continuad.detectors.fastflow import FastFlow
from continuad.detectors.padim import Padim
from continuad.strategies.adapters import Adapters
from continuad.strategies.agem import Agem
from continuad.strategies.average import Average
from continuad.strategies.combined import Combined
from continuad.strategies.der import Der
from continuad.strategies.ewc import Ewc, EwcOnline
from continuad.strategies.gem import Gem
from continuad.strategies.generative import Generative
from continuad.strategies.herding import Herding
from continuad.strategies.latent import Latent
from continuad.strategies.lwf import Lwf
from continuad.strategies.mas import Mas
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.packnet import PackNet
from continuad.strategies.pertask import PerTask
from continuad.strategies.replay import Replay
from continuad.strategies.reservoir import Reservoir
from continuad.strategies.single import Single
from continuad.vision.backbones import BackboneSpec

DEFAULTS: list[tuple[type[Strategy], dict[str, object]]] = [
    (Replay, {"exemplars": 300, "coding": "raw"}),
    (Reservoir, {"exemplars": 300, "coding": "raw"}),
    (Herding, {"exemplars": 300, "coding": "raw"}),
    (Agem, {"exemplars": 300, "coding": "raw", "sample": 0}),
    (Gem, {"exemplars": 300, "coding": "raw", "sample": 0, "margin": 0.5}),
    (Der, {"exemplars": 300, "coding": "raw", "strength": 1.0}),
    (Latent, {"exemplars": 300}),
    (Generative, {"drawn": 300, "steps": None, "latent": 100, "width": 0.5}),
    (Lwf, {"strength": 1.0}),
    (Ewc, {"strength": 1000.0}),
    (EwcOnline, {"strength": 1000.0, "decay": 0.9}),
    (Mas, {"strength": 1000.0}),
    (Adapters, {"rank": 4, "reject": 0.01}),
    (PackNet, {"share": 0.5, "reject": 0.01}),
    (PerTask, {"task_inference": "pooled", "reject": 0.01}),
    (Single, {}),
    (Multitask, {}),
    (Average, {}),
    (Naive, {}),
]


def around(kind: type[Strategy], **options: object) -> Strategy:
    if kind is Latent:
        return kind(FastFlow(64, strides=(16,), flow_steps=2), **options)  # type: ignore[arg-type]
    return kind(Padim(64, channels=12) if kind is Average else ToyAutoencoder(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "expected"), DEFAULTS)
def test_options_have_these_values_when_nothing_is_said(kind: type[Strategy], expected: dict[str, object]) -> None:
    strategy = around(kind)
    assert {name: getattr(strategy, name) for name in expected} == expected
    assert strategy.seed == 0


@pytest.mark.parametrize(("kind", "expected"), DEFAULTS)
def test_options_that_are_given_arrive(kind: type[Strategy], expected: dict[str, object]) -> None:
    other = {
        "coding": "png",
        "task_inference": "lowest",
        "reject": None,
        "width": 0.25,
        "share": 0.75,
        "rank": 3,
        "decay": 0.5,
    }
    given = {name: other.get(name, 7) for name in expected}
    strategy = around(kind, seed=5, **given)
    assert {name: getattr(strategy, name) for name in expected} == given
    assert strategy.seed == 5


@pytest.mark.parametrize("kind", [Replay, Reservoir, Herding, Agem, Gem, Der])
def test_the_memory_gets_the_options_too(kind: type[Replay]) -> None:
    memory = kind(ToyAutoencoder(), exemplars=7, seed=5, coding="png").memory
    assert (memory.seed, memory.coding) == (5, "png")
    assert memory.exemplars == 7


def test_a_combination_is_named_after_its_parts() -> None:
    detector = ToyAutoencoder()
    strategy = Combined(detector, [Naive(detector), Lwf(detector)], "naive+lwf", seed=5)
    assert (strategy.strategies, strategy.seed, len(strategy.members)) == ("naive+lwf", 5, 2)
    assert Combined(detector, [Replay(detector)]).strategies == "replay"
    assert Combined(detector, [Replay(detector)]).seed == 0


@pytest.mark.parametrize("kind", [PerTask, PackNet, Adapters])
def test_the_network_of_task_inference_is_the_one_asked_for(kind: type[PerTask]) -> None:
    """Another network answers otherwise, and a detector of the default one does not share it."""
    random = BackboneSpec(weights_file="random")
    strategy = kind(ToyAutoencoder(), backbone=random)
    assert strategy.backbone == random
    assert kind(ToyAutoencoder()).backbone == BackboneSpec()
    x = torch.from_numpy(images_of(0, 1, defects=False, seed=0).images)
    assert not torch.equal(strategy.pooled.embed(x), kind(ToyAutoencoder()).pooled.embed(x))
