"""From a name to a detector or strategy: the file of that name in `detectors/` or `strategies/`.

A file with several classes tells them apart by `variant`, as in `efficientad-s`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import nn

from continuad.core.detector import Detector
from continuad.core.hints import Seed, fitted
from continuad.core.strategy import Strategy
from continuad.errors import ContinuadError
from continuad.models import names
from continuad.models.names import TILED, Role, classes, classes_in, file_of, files_of, name_in
from continuad.models.options import COMBINED, checked, nearest, options_of, parts_of, split_value, written
from continuad.vision.tiles import Tiled, tiled

Kind = TypeVar("Kind", Detector, Strategy)


def detectors() -> dict[str, type[Detector]]:
    """Every detector by its command-line name."""
    return classes("detector", import_module)


def strategies() -> dict[str, type[Strategy]]:
    """Every strategy by its command-line name."""
    return classes("strategy", import_module)


def find_detector(name: str) -> type[Detector]:
    """The class in detectors/NAME.py, or `package.module:Class` for one that lives elsewhere; tiled-NAME for its tiled
    form."""
    if name.startswith(TILED):
        return tiled(find_detector(name.removeprefix(TILED)))  # type: ignore[arg-type]
    return _find(name, "detector", Detector)


def find_strategy(name: str) -> type[Strategy]:
    """The class in strategies/NAME.py, or `package.module:Class` for one that lives elsewhere."""
    return _find(name, "strategy", Strategy)


@torch.inference_mode(False)  # what is made here may learn later
def make_detector(name: str, **options: Any) -> Detector:
    """A detector by name; options it does not have are an error.

    Whatever its constructor draws at random follows from its `seed` (0 unless it is given), and torch's global
    generator is left as it was.

    Raises:
        ContinuadError: an unknown name or option, or a value that the option does not take.
    """
    kind = find_detector(name)
    fitted(f"option {name}.seed", options.get("seed", 0), Seed)
    with torch.random.fork_rng():
        torch.manual_seed(options.get("seed", 0))
        return _construct(kind, name, options)


@torch.inference_mode(False)
def make_strategy(text: str, detector: Detector, **options: Any) -> Strategy:
    """A strategy by name, with options after colons, the first of its own without a name: `replay:300`,
    `replay:2MB:coding=webp`; or several strategies: `replay:300+ewc`.

    Raises:
        ContinuadError: an unknown name or option, a value that the option does not take, or an option that is given
            both in the text and beside it.
    """
    name, value = split_value(text)
    found = find_strategy(name)
    if name == COMBINED:
        _refuse_twice(text, {"strategies"} if value else set(), options)
        members = fitted("option combined.strategies", value or options.get("strategies", "replay"), str)
        made = [make_strategy(one, detector, seed=options.get("seed", 0)) for one in parts_of(members)]
        return _construct(found, name, {"detector": detector, "members": made, **options, "strategies": members})
    behind = written(found, text)
    _refuse_twice(text, behind.keys(), options)
    return _construct(found, name, {"detector": detector, **options, **behind})


def _refuse_twice(text: str, written: Set[str], options: Mapping[str, Any]) -> None:
    if twice := sorted(written & options.keys()):
        raise ContinuadError(
            f"'{text}' gives {twice[0]}, and {twice[0]} is given once more as {options[twice[0]]!r}; give one of them"
        )


def refusal(strategy: str, detector: str) -> str | None:
    """Why a strategy, or one of several with "+" between them, cannot serve a detector; None when all can."""
    kind = find_detector(detector)
    reasons = (find_strategy(split_value(part)[0]).refuses(kind) for part in strategy.split("+"))
    return next((reason for reason in reasons if reason), None)


def settings(made: nn.Module) -> dict[str, Any]:
    """The constructor's arguments of a detector or strategy that are plain values, which it keeps under their names.

    Raises:
        ContinuadError: it does not keep one of them.
    """
    kind = type(made)
    if lost := [name for name in options_of(kind) if not hasattr(made, name)]:
        raise ContinuadError(
            f"{kind.__module__}:{kind.__qualname__} does not keep {', '.join(lost)}: set each argument of the "
            f"constructor under its own name, as self.{lost[0]} = {lost[0]}"
        )
    return {name: getattr(made, name) for name in options_of(kind)}


def name_of(made: Detector | Strategy) -> str:
    """The name that finds this object's class again."""
    if isinstance(made, Tiled):
        return TILED + name_of(made.inner)
    kind = type(made)
    package, _, file = kind.__module__.rpartition(".")
    if package in ("continuad.detectors", "continuad.strategies"):
        return name_in(file, kind)
    return f"{kind.__module__}:{kind.__qualname__}"


def summary_of(kind: type) -> str:
    """What a detector or strategy is: the first line of its file."""
    return names.summary_of(kind, import_module)


def about_strategy(text: str) -> str:
    """What a strategy is, as it is written on the command line: the first lines of its parts' files."""
    parts = [split_value(part)[0] for part in text.split("+")]
    return " ".join(summary_of(find_strategy(name)) for name in parts)


def applicable(kind: type[Detector] | type[Strategy], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some common options that a class has."""
    return {name: value for name, value in options.items() if name in options_of(kind)}


def _construct(kind: type[Kind], name: str, options: dict[str, Any]) -> Kind:
    return kind(**checked(kind, name, options))


def _find(name: str, role: Role, base: type[Kind]) -> type[Kind]:
    """The class of a name: `package.module:Class` from elsewhere, any other from the package's own files."""
    if ":" in name:
        return _external(name, role, base)
    file = file_of(name)
    found = classes_in(role, file, import_module) if file in files_of(role) else {}
    if name not in found:
        there = classes(role, import_module)
        raise ContinuadError(f"unknown {role} '{name}'{nearest(name, there)}; there are {', '.join(there)}")
    return found[name]


def _external(name: str, role: Role, base: type[Kind]) -> type[Kind]:
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ContinuadError(f"{role} '{name}' cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ContinuadError(f"'{name}' is no {role}: give a class derived from continuad's {base.__name__}")
    return found
