"""Check a model's manifest before anything in it is used: a file may be damaged, or made by somebody else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePath
from typing import Any


def is_sound(manifest: dict[str, Any]) -> bool:
    """Whether every part that is used has the shape that `save_model` gives it. Files lie beside the manifest: a name
    with a folder in it is refused."""
    strategy, tasks, tensors = (manifest.get(part) for part in ("strategy", "tasks", "tensors"))
    return (
        _is_made(manifest.get("detector"))
        and _is_made(strategy)
        and _is_budget(strategy.get("budget"))  # type: ignore[union-attr]
        and isinstance(manifest.get("threshold"), str)
        and isinstance(manifest.get("thresholds_from"), str)
        and isinstance(manifest.get("backbones"), dict)
        and isinstance(manifest.get("extra"), dict)
        and isinstance(tasks, list)
        and all(map(_is_task, tasks))
        and all(a["index"] < b["index"] for a, b in pairwise(tasks))
        and len({task["name"] for task in tasks}) == len(tasks)
        and isinstance(tensors, dict)
        and all(map(_is_place, tensors.values()))
    )


def _is_made(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("name"), str) and isinstance(part.get("options"), dict)


def _is_budget(part: Any) -> bool:
    whole = isinstance(part, dict) and set(part) == {"steps", "epochs", "patience"}
    return whole and all(value is None or type(value) is int for value in part.values())


def _is_task(part: Any) -> bool:
    whole = isinstance(part, dict) and set(part) == {"index", "name", "bits"} and isinstance(part["name"], str)
    return whole and _is_count(part["index"], 0, 2**31) and (part["bits"] is None or _is_count(part["bits"], 1, 16))


def _is_count(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_place(part: Any) -> bool:
    if not (isinstance(part, dict) and isinstance(part.get("file"), str) and isinstance(part.get("key"), str)):
        return False
    file: str = part["file"]
    return file.endswith(".safetensors") and PurePath(file.replace("\\", "/")).name == file
