"""Every detector under every strategy: learn, predict, save, reload, resume, move, count bytes, answer threads.

A new file in detectors/ or strategies/ is covered by being there. Run with CONTINUAD_FULL=1 for every pair of them.
"""

from __future__ import annotations

import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import SIZE, ToyAutoencoder, stream

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.footprint import MEGABYTE, footprint
from continuad.core.state import HostStats
from continuad.core.strategy import InfersTask, Strategy
from continuad.core.types import Task
from continuad.errors import ContinuadError
from continuad.models.names import TILED
from continuad.models.options import split_value
from continuad.models.registry import (
    applicable,
    detectors,
    find_detector,
    find_strategy,
    make_detector,
    make_strategy,
    settings,
    strategies,
)
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
OTHER_DEVICE = "cuda" if torch.cuda.is_available() else "meta"  # shapes suffice to see where things lie
EXTERNAL = f"{ToyAutoencoder.__module__}:{ToyAutoencoder.__name__}"
FULL = "CONTINUAD_FULL" in os.environ  # every pair, which takes half an hour
FEW = ("naive", "replay", "accumulate", "pertask")
EXTRA = {"fastflow": ("latent",)}  # refused by those detectors that meet every strategy
SLOW = {"efficientad-s": ("replay",), "efficientad-m": (), "stfpm": ("replay", "pertask")}  # seconds a pair


def partners(detector: str) -> tuple[str, ...]:
    """Every strategy meets one detector of each kind, and every detector the strategies that differ most."""
    return (
        tuple(strategies())
        if FULL or detector in ("padim", EXTERNAL)
        else SLOW.get(detector, FEW + EXTRA.get(detector, ()))
    )


def few_tasks(detector: str, tasks: int = 3) -> list[Task]:
    """Three small tasks, of fewer images for detectors that take seconds for each."""
    return stream(tasks, train=4 if detector in SLOW else 12)


PAIRS = [(d, s) for d in [*detectors(), EXTERNAL] for s in partners(d)]


def kind_of(detector: str) -> type[Detector]:
    return ToyAutoencoder if detector == EXTERNAL else detectors()[detector]


def build(detector: str, strategy: str, **options: object) -> Strategy:
    made = make_detector(detector, **applicable(kind_of(detector), SMALL | options))
    built = make_strategy(strategy, made, **applicable(find_strategy(split_value(strategy)[0]), SMALL))
    built.budget = Budget(steps=STEPS)
    return built


@pytest.mark.parametrize(("detector", "strategy"), PAIRS)
def test_pair(detector: str, strategy: str, tmp_path: Path) -> None:
    kind = kind_of(detector)
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
    reloaded, _ = load_model(tmp_path / "whole", trust=[EXTERNAL])
    given = "chess" if whole.needs_task else None
    x = torch.from_numpy(tasks[1].test.images)
    found = whole.predict(x, given)
    assert found.map.shape == (8, SIZE, SIZE)
    assert torch.isfinite(found.map).all()
    assert torch.isfinite(found.score).all()
    for other in (resumed, reloaded):
        again = other.predict(x, given)
        assert torch.equal(again.map, found.map)
        assert torch.equal(again.score, found.score)
        assert other.thresholds(1) == whole.thresholds(1)
        assert footprint(other) == footprint(whole)
        assert other.tasks == whole.tasks


@pytest.mark.parametrize(("detector", "strategy"), PAIRS)
def test_bytes_counted_are_bytes_saved(detector: str, strategy: str, tmp_path: Path) -> None:
    """Additional memory, and what is trained, equal the saved tensors; frozen backbones are named, not saved."""
    if strategies()[strategy].refuses(kind_of(detector)):
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


def meets(strategy: str) -> str:
    """A quick detector that the strategy accepts."""
    return next(d for d in (EXTERNAL, "padim", "fastflow") if not strategies()[strategy].refuses(kind_of(d)))


TOGETHER = [("padim", "pertask"), ("padim", "pertask:reject=0.5"), ("fastflow", "packnet"), ("fastflow", "adapters")]
"""Detector and task inference share a backbone, or snapshots hold a normalising flow."""


@pytest.mark.parametrize(("detector", "strategy"), [*((meets(s), s) for s in strategies()), *TOGETHER])
def test_answers_from_eight_threads_equal_the_serial_ones(detector: str, strategy: str) -> None:
    """A prediction changes nothing: neither the model nor the answers to another thread."""
    model = build(detector, strategy, flow_steps=1)
    tasks = stream(2, train=4)
    for task in model.view(tasks):
        model.learn(task)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = [torch.from_numpy(task.test.images[i : i + 1]) for i in range(4) for task in tasks]
    given = (0, 1) if model.needs_task else (0, 1, None)
    asked = [(i % len(images), given[i % len(given)]) for i in range(300 if detector == "fastflow" else 1000)]

    def answer(question: tuple[int, int | None]) -> tuple[float, float]:
        found = model.predict(images[question[0]], question[1])
        return float(found.score), float(found.map.sum())

    serial = {question: answer(question) for question in set(asked)}
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, asked)) == [serial[question] for question in asked]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("strategy", strategies())
def test_state_goes_where_the_model_goes_and_exemplars_stay(strategy: str, tmp_path: Path) -> None:
    """A model that lies on another device takes in there what a file holds."""
    model = build(meets(strategy), strategy)
    for task in list(model.view(stream(2, train=4))):
        model.learn(task)
    save_model(model, tmp_path)
    moved = build(meets(strategy), strategy).to(OTHER_DEVICE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a meta tensor takes no values in
        load_into(moved, tmp_path)
    exemplars = {f"{name}.{key}" for name, m in moved.named_modules() if isinstance(m, HostStats) for key in m}
    where = {name: value.device.type for name, value in moved.state_dict().items()}
    assert {where[name] for name in exemplars} <= {"cpu"}
    assert {where[name] for name in where.keys() - exemplars} == {OTHER_DEVICE}


QUICK = [d for d in detectors() if FULL or not d.startswith("efficientad")]  # those take half a minute here
FAILING = [(meets(s), s) for s in strategies()] + [(d, "naive") for d in QUICK]


@pytest.mark.parametrize("fails", ["in its second step", "at its end"])
@pytest.mark.parametrize(("detector", "strategy"), FAILING)
def test_a_task_that_fails_or_is_stopped_leaves_the_model_as_it_was(detector: str, strategy: str, fails: str) -> None:
    """Its answers, thresholds and tasks, and what it learns next: plain attributes and what lies in them included."""
    model, undisturbed = build(detector, strategy), build(detector, strategy)
    tasks = stream(2, train=4 if detector in SLOW else 24)
    first, second = model.view(tasks)
    images = torch.from_numpy(tasks[0].test.images[:4])
    given = 0 if model.needs_task else None

    def says() -> tuple[list[Tensor], list[object]]:
        found = model.predict(images, given)
        return [found.score, found.map, *model.state_dict().values()], [
            *model.state_dict(),
            *(model.thresholds(task) for task in (None, 0)),
            *model.tasks,
            model.training,
            model.detector.training,
        ]

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    def ends(task: Task) -> None:
        type(model).after(model, task)
        raise KeyboardInterrupt

    model.learn(first)
    before = [tensor.clone() for tensor in says()[0]], says()[1]
    if fails == "at its end":
        model.after = ends  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        model.learn(second, stop if fails == "in its second step" else None)
    vars(model).pop("after", None)
    after = says()
    assert after[1] == before[1]
    assert all(torch.equal(a, b) for a, b in zip(after[0], before[0], strict=True))
    model.learn(second)
    for task in undisturbed.view(tasks):
        undisturbed.learn(task)
    whole = undisturbed.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in model.state_dict().items())
    assert (model.tasks, model.thresholds(1)) == (undisturbed.tasks, undisturbed.thresholds(1))


@pytest.mark.parametrize("name", [EXTERNAL, *QUICK, *(f"{TILED}{d}" for d in QUICK)])
def test_a_detector_comes_out_of_pickle_as_it_went_in(name: str) -> None:
    """Workers of any engine get their models that way."""
    kind = find_detector(name)
    options = applicable(kind, SMALL | ({"image_size": 96, "tile": SIZE} if name.startswith(TILED) else {}))
    model = make_strategy("naive", make_detector(name, **options))
    model.budget = Budget(steps=1)
    task = stream(1, train=4, size=96 if name.startswith(TILED) else SIZE)[0]
    x = torch.from_numpy(task.test.images[:2])
    untrained = pickle.loads(pickle.dumps(model.detector))
    with pytest.raises(ContinuadError, match="not trained yet"):
        untrained.predict(x)
    model.learn(task)
    again = pickle.loads(pickle.dumps(model.detector))
    assert settings(again) == settings(untrained) == settings(model.detector)
    assert type(again) is kind
    found, said = model.detector.predict(x), again.predict(x)
    assert torch.equal(said.map, found.map)
    assert torch.equal(said.score, found.score)


@pytest.mark.parametrize(
    ("detector", "strategy"), [*((meets(s), s) for s in strategies()), ("padim", "pertask"), ("fastflow", "adapters")]
)
def test_a_strategy_comes_out_of_pickle_as_it_went_in(detector: str, strategy: str) -> None:
    """Its answers, thresholds, tasks and bytes; and it learns on as if nothing had been."""
    model, tasks = build(detector, strategy), stream(3, train=4)
    first, second, third = model.view(tasks)
    for task in (first, second):
        model.learn(task)
    x = torch.from_numpy(tasks[0].test.images[:3])
    for given in (0,) if model.needs_task else (0, None):
        model.predict(x, given)  # a strategy that makes views of snapshots has them now
    again = pickle.loads(pickle.dumps(model))
    for task in (None, third):
        if task:
            for each in (model, again):
                each.learn(task)
        for given in (0, 1) if model.needs_task else (0, 1, None):
            found, said = model.predict(x, given), again.predict(x, given)
            assert torch.equal(said.map, found.map)
            assert torch.equal(said.score, found.score)
        assert [again.thresholds(t) for t in (None, 0, 1)] == [model.thresholds(t) for t in (None, 0, 1)]
        assert (again.tasks, again.budget, settings(again)) == (model.tasks, model.budget, settings(model))
        # pickle gives each of two views of the same few numbers a storage of its own
        assert footprint(again) == pytest.approx(footprint(model), abs=100 / MEGABYTE)


REFUSE_ALONE = ("multitask",)  # must be shown the earlier tasks again


@pytest.mark.parametrize("strategy", strategies())
def test_a_model_from_disk_learns_a_new_task_beside_the_earlier_ones(strategy: str, tmp_path: Path) -> None:
    """A stream of one new product numbers it 0, as the first of the earlier ones."""
    tasks = stream(3)
    taught = build(meets(strategy), strategy)
    for task in taught.view(tasks[:2]):
        taught.learn(task)
    save_model(taught, tmp_path)
    model, _ = load_model(tmp_path, trust=[EXTERNAL])
    new = replace(tasks[2], index=0)
    given = 0 if model.needs_task else None
    x = torch.from_numpy(tasks[0].test.images)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    thresholds = [model.thresholds(t) for t in (0, 1)]
    if strategy in REFUSE_ALONE:
        with pytest.raises(ContinuadError, match="no images of zebra, chess"):
            model.learn(new)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert torch.equal(model.predict(x, given).map, taught.predict(x, given).map)
        assert ([model.thresholds(t) for t in (0, 1)], model.tasks) == (thresholds, taught.tasks)
        new = list(model.view(tasks))[2]
    anew = set(
        model._val_predictions(model.val(replace(new, index=2)))
    )  # tasks whose thresholds are set anew, from what is kept
    before = model.predict(x, 0)
    model.learn(new)
    assert [(task.index, task.name) for task in model.tasks] == [(0, "zebra"), (1, "chess"), (2, "egg")]
    assert {"0", "1", "2"} <= set(model.calibration.kept)
    assert all(model.thresholds(t) == thresholds[t] for t in (0, 1) if t not in anew)
    if model.needs_task or isinstance(model, InfersTask):
        assert torch.equal(model.predict(x, "zebra").map, before.map)


@pytest.mark.parametrize("name", [*detectors(), EXTERNAL])
def test_a_detector_follows_from_its_seed_alone(name: str) -> None:
    """One that draws from anything but the generator that `make_detector` seeds differs when it is loaded again."""
    built = []
    for seed, noise in ((1, 10), (1, 11), (2, 12)):
        torch.manual_seed(noise)
        made = make_detector(name, **(applicable(kind_of(name), SMALL) | {"seed": seed}))
        built.append(made.state_dict())
        assert torch.initial_seed() == noise
    assert all(torch.equal(value, built[1][key]) for key, value in built[0].items())
    if made.weights():
        assert not all(torch.equal(value, built[2][key]) for key, value in built[0].items())


@pytest.mark.parametrize("name", detectors())
def test_untrained_detectors_and_other_sizes_are_refused(name: str) -> None:
    detector = make_detector(name, **applicable(detectors()[name], SMALL))
    with pytest.raises(ContinuadError, match="not trained yet"):
        detector.predict(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8))
    detector.stats["trained"] = torch.tensor(True)
    with pytest.raises(ContinuadError, match="images are 96 x 64, but the model learned 64 x 64"):
        detector.predict(torch.zeros(1, 3, 96, SIZE, dtype=torch.uint8))


@pytest.mark.parametrize(("base", "most"), [(Detector, 15), (Strategy, 17)])
def test_the_interfaces_stay_small(base: type, most: int) -> None:
    own = {name for name in vars(base) if not name.startswith("_")} - {"stats", "kept"}
    assert len(own) <= most, own


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
