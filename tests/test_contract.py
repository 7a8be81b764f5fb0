"""Every detector under every strategy: learn, predict, save, reload, resume, count bytes, same scores.

A new file in detectors/ or strategies/ is covered by being there. Run with CONTINUAD_FULL=1 for every pair of them.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import pytest
import torch
from toys import SIZE, ToyAutoencoder, stream

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.footprint import MEGABYTE, footprint
from continuad.core.strategy import Strategy
from continuad.core.types import Task
from continuad.errors import ContinuadError
from continuad.models.registry import applicable, detectors, make_detector, make_strategy, settings, strategies
from continuad.models.store import load_into, load_model, read_manifest, save_model

SMALL = {
    "image_size": SIZE,
    "channels": 12,
    "exemplars": 6,
    "width": 0.0625,
    "teacher": "random",
    "cells": (8,),
    "drawn": 6,
    "latent": 8,
    "steps": 2,
    "seed": 1,
}
STEPS = 2  # of gradient detectors
EXTERNAL = f"{ToyAutoencoder.__module__}:{ToyAutoencoder.__name__}"
FULL = "CONTINUAD_FULL" in os.environ  # every pair, which takes half an hour
FEW = ("naive", "replay", "accumulate", "pertask")
EXTRA = {"fastflow": ("latent",)}  # refused by those detectors that meet every strategy
SLOW = {"efficientad-s": ("replay",), "efficientad-m": (), "stfpm": ("replay", "pertask")}  # seconds a pair


def ways(detector: str) -> tuple[str, ...]:
    """Every strategy meets one detector of each kind, and every detector the strategies that differ most."""
    return (
        tuple(strategies())
        if FULL or detector in ("padim", EXTERNAL)
        else SLOW.get(detector, FEW + EXTRA.get(detector, ()))
    )


def few_tasks(detector: str, tasks: int = 3) -> list[Task]:
    """Three small tasks, of fewer images for detectors that take seconds for each."""
    return stream(tasks, train=4 if detector in SLOW else 12)


PAIRS = [(d, s) for d in [*detectors(), EXTERNAL] for s in ways(d)]


def build(detector: str, strategy: str) -> Strategy:
    kinds = {**detectors(), EXTERNAL: ToyAutoencoder}
    made = make_detector(detector, **applicable(kinds[detector], SMALL))
    built = make_strategy(strategy, made, **applicable(strategies()[strategy], SMALL))
    built.budget = Budget(steps=STEPS)
    return built


@pytest.mark.parametrize(("detector", "strategy"), PAIRS)
def test_pair(detector: str, strategy: str, tmp_path: Path) -> None:
    kind = {**detectors(), EXTERNAL: ToyAutoencoder}[detector]
    if strategies()[strategy].refuses(kind):
        with pytest.raises(ContinuadError):
            build(detector, strategy)
        return
    tasks = few_tasks(detector)
    whole = build(detector, strategy)
    for task in whole.view(tasks):
        whole.learn(task)

    interrupted = build(detector, strategy)
    for task in list(interrupted.view(tasks))[:2]:
        interrupted.learn(task)
    save_model(interrupted, tmp_path / "model")
    resumed = build(detector, strategy)
    load_into(resumed, tmp_path / "model")
    resumed.learn(list(resumed.view(tasks))[2])

    save_model(whole, tmp_path / "whole")
    reloaded, _ = load_model(tmp_path / "whole")
    task_given = 1 if whole.needs_task else None
    x = torch.from_numpy(tasks[1].test.images)
    found = whole.predict(x, task_given)
    assert found.map.shape == (8, SIZE, SIZE)
    assert torch.isfinite(found.map).all()
    assert torch.isfinite(found.score).all()
    for other in (resumed, reloaded):
        again = other.predict(x, task_given)
        assert torch.equal(again.map, found.map)
        assert torch.equal(again.score, found.score)
        assert other.thresholds(1) == whole.thresholds(1)
        assert footprint(other) == footprint(whole)


@pytest.mark.parametrize(("detector", "strategy"), PAIRS)
def test_bytes_counted_are_bytes_saved(detector: str, strategy: str, tmp_path: Path) -> None:
    """Additional memory, and what is trained, equal the saved tensors; frozen backbones are named, not saved."""
    if strategies()[strategy].refuses({**detectors(), EXTERNAL: ToyAutoencoder}[detector]):
        pytest.skip("not applicable")
    model = build(detector, strategy)
    for task in list(model.view(few_tasks(detector, 2))):
        model.learn(task)
    save_model(model, tmp_path)
    on_disk = (sum(_tensor_bytes(f) for f in tmp_path.glob("*.safetensors")) + _copies(model, tmp_path)) / MEGABYTE
    frozen = {id(p): p.nbytes for m in model.modules() for p in m.parameters() if not p.requires_grad}
    counted = sum(footprint(model)) - sum(frozen.values()) / MEGABYTE
    assert on_disk == pytest.approx(counted, abs=0.001)


def _copies(model: Strategy, folder: Path) -> int:
    """Bytes in memory of large tensors that equal another one: a model folder keeps such a pair once."""
    state = model.state_dict()
    stored: dict[tuple[str, str], dict[int, int]] = {}
    for name, place in read_manifest(folder)["tensors"].items():
        stored.setdefault((place["file"], place["key"]), {})[state[name].data_ptr()] = state[name].nbytes
    return sum(sum(list(equal.values())[1:]) for equal in stored.values())


def _tensor_bytes(file: Path) -> int:
    """A file's size without its header, which begins with its own length."""
    return file.stat().st_size - 8 - int.from_bytes(file.read_bytes()[:8], "little")


@pytest.mark.parametrize("name", [*detectors(), *strategies()])
def test_the_constructor_is_the_configuration(name: str) -> None:
    made: Detector | Strategy
    if name in detectors():
        made = make_detector(name, **applicable(detectors()[name], SMALL))
        assert settings(make_detector(name, **settings(made))) == settings(made)
        assert settings(made)["seed"] == 1
    else:
        kinds = {"padim": detectors()["padim"], EXTERNAL: ToyAutoencoder, "fastflow": detectors()["fastflow"]}
        made = build(next(d for d, kind in kinds.items() if not strategies()[name].refuses(kind)), name)
        assert settings(made)["seed"] == 1
    assert type(made).__doc__


def test_no_detector_name_in_a_strategy_nor_the_reverse() -> None:
    """Orthogonality: a file of one kind names no file of the other, nor do loop, memory and task_inference."""
    package = Path(__file__).parents[1] / "src" / "continuad"
    for file in chain.from_iterable((package / room).glob("*.py") for room in ("core", "memory", "strategies")):
        code = file.read_text(encoding="utf-8")
        assert not [d for d in detectors() if f"detectors.{d}" in code or f'"{d}"' in code], file
    for file in (package / "detectors").glob("*.py"):
        assert "strateg" not in file.read_text(encoding="utf-8"), file
