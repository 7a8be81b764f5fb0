"""Model folders that are damaged, or that somebody made up: nothing but a ContinuadError comes out of them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import stream

from continuad.core.strategy import Strategy
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.models.store import MANIFEST, load_model, save_model, undo_save
from continuad.models.tensors import placed
from continuad.strategies.naive import Naive
from continuad.strategies.pertask import PerTask

MEAN = "detector.stats.mean"
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**6,
    10**30,
    1e308,
    float("nan"),
    "",
    "x" * 100_000,
    "../x.safetensors",
    "/etc/passwd",
    "os:system",
    "\ud800\n/",
    [],
    [[]],
    {},
    {"": {}},
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a model, the newer one of two tasks."""
    folder = tmp_path_factory.mktemp("saved")
    strategy = PerTask(Padim(image_size=32, channels=4))
    for task in stream(2, size=32):
        strategy.learn(task)
        save_model(strategy, folder, {"note": "of mine"})
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a manifest; of tensors the first four."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in list(value)[: 4 if path == ("tensors",) else None]:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from _places(one, (*path, at))


def _put(manifest: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> str:
    changed = json.loads(json.dumps(manifest))
    inside = changed
    for key in path[:-1]:
        inside = inside[key]
    change(inside, path[-1])
    return json.dumps(changed)


def _loads(folder: Path, text: str) -> Strategy | None:
    """The model, or None where it is refused as it should be."""
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    began = time.perf_counter()
    try:
        return load_model(folder)[0]
    except ContinuadError:
        return None
    finally:
        seconds = time.perf_counter() - began
        if seconds > 1: print("SLOW", seconds, SL)


PARTS = ["format", "backbones", "detector", "strategy", "threshold", "tasks", "tensors", "extra"]


@pytest.mark.parametrize("part", PARTS)
def test_any_value_in_any_place_of_a_manifest_is_taken_or_refused(part: str, folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    places = [path for path in _places(manifest) if path[0] == part]
    assert places
    for path in places:
        assert part == "extra" or not _loads(folder, _put(manifest, path, lambda at, key: at.__delitem__(key))), path
        for value in VALUES:
            text = _put(manifest, path, lambda at, key, value=value: at.__setitem__(key, value))
            global SL; SL = (path, str(value)[:40])
            found = _loads(folder, text)
            if part in ("format", "backbones", "tasks", "tensors") and found is not None:
                assert path[-1] in ("name", "bits", "index"), (path, value)
