"""Options of detectors and strategies: which there are, which values they take, and how they are written.

The constructor's arguments are the options, and their type hints say what is allowed. All of this works on classes and
on their outlines alike (see `outline`), so mistakes are found before torch is loaded.
"""

from __future__ import annotations

import inspect
import math
import numbers
import os
import types
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from continuad.errors import ContinuadError
from continuad.models.names import file_of, files_of

NOT_OPTIONS = {"detector", "members"}  # arguments of a strategy that are objects, not settings
STEPS = "steps"  # a detector's own number of steps; no argument, but set by name like one


def options_of(kind: type) -> dict[str, Any]:
    """The options of a detector or strategy by name, each with its type hint."""
    hints = _hints(kind)
    return {name: hints.get(name, Any) for name in inspect.signature(kind).parameters if name not in NOT_OPTIONS}


def checked(kind: type, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for a constructor; whole numbers where a number is allowed become numbers.

    Args:
        name: what people call the detector or strategy.

    Raises:
        ContinuadError: an option that it does not have, or a value that the option does not take.
    """
    has = options_of(kind)
    found = {}
    for option, value in options.items():
        if option in NOT_OPTIONS:
            found[option] = value
        elif option not in has:
            raise ContinuadError(f"'{name}' has no option {option}{nearest(option, has)}; it has {', '.join(has)}")
        else:
            found[option] = fitted(f"option {name}.{option}", value, has[option])
    return found


def written(kind: type, text: str) -> dict[str, Any]:
    """Options behind a strategy's name: "300" for the first of its own, "coding=webp" for one by name.

    Args:
        text: as on the command line, such as `replay:2MB:coding=webp`.

    Raises:
        ContinuadError: an option that the strategy does not have, or a value that the option does not take.
    """
    name, value = split_value(text)
    has = {option: hint for option, hint in options_of(kind).items() if option != "seed"}
    found: dict[str, Any] = {}
    for part in value.split(":") if value else []:
        option, equals, given = part.rpartition("=")
        if not has:
            raise ContinuadError(f"strategy '{name}' takes no value, but '{text}' gives one")
        option = option if equals else next(iter(has))
        if option not in has:
            there = f"there is no option '{option}'{nearest(option, has)}; there are {', '.join(has)}"
            raise ContinuadError(f"'{text}': {there}")
        if option in found:
            raise ContinuadError(f"'{text}': option '{option}' is given twice")
        found[option] = _from_text(f"'{text}': option {option}", given, has[option])
    return found


def split_value(text: str) -> tuple[str, str]:
    """A strategy's name and what follows it: `replay:300` is replay and 300, `package.module:Class:300` the same for a
    class from elsewhere, and several strategies with "+" between them are the value of `combined`."""
    if "+" in text:
        return "combined", text
    name, _, value = text.partition(":")
    kind, _, rest = value.partition(":")
    if kind.isidentifier() and file_of(name) not in files_of("strategy"):
        return f"{name}:{kind}", rest
    return name, value


def refuse_unmatched(options: Mapping[str, Any], kinds: Mapping[str, type], parts: Iterable[str] = ()) -> None:
    """Refuse options of a run, such as {"padim.channels": 350}, that none of its detectors and strategies takes.

    Args:
        kinds: the detectors and strategies of the run by name.
        parts: names of strategies that are combined with others by "+": their options stand behind their names.

    Raises:
        ContinuadError: an option without an owner in the run, or a value that it does not take.
    """
    has = {f"{name}.{option}": hint for name, kind in kinds.items() for option, hint in run_options(kind).items()}
    for full, value in options.items():
        name, _, option = full.rpartition(".")
        if full in has:
            fitted(f"option {full}", value, has[full])
        elif name in kinds:
            own = run_options(kinds[name])
            raise ContinuadError(f"'{name}' has no option {option}{nearest(option, own)}; it has {', '.join(own)}")
        elif name in parts:
            raise ContinuadError(
                f"option {full}: in a combination options stand behind the name, as in {name}:{option}={value}"
            )
        else:
            raise ContinuadError(
                f"option {full} matches no detector or strategy of this run{nearest(full, has)}; "
                f"there are {', '.join(kinds)}"
            )


def run_options(kind: type) -> dict[str, Any]:
    """The options that a run may set for a detector or strategy: for a detector that learns in steps also `steps`."""
    more = {STEPS: int} if getattr(kind, "learns_by", "") == "gradient" else {}
    return options_of(kind) | more


def fitted(what: str, value: Any, hint: Any) -> Any:
    """A value as a type hint asks for it: a whole number becomes a number where a number is allowed, a path text.

    Raises:
        ContinuadError: the hint does not allow the value; `what` names it.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    for kind in _kinds(hint):
        if _fits(value, kind):
            return kind(value) if kind in (int, float) else value
    raise ContinuadError(f"{what} is {value!r}; allowed: {allowed(hint)}")


def allowed(hint: Any) -> str:
    """What a type hint allows, in words: "a whole number or text"."""
    return " or ".join(words for kind in _kinds(hint) if (words := _in_words(kind))) or "nothing that can be written"


def nearest(name: str, names: Iterable[str]) -> str:
    """ " (did you mean X or Y?)" for the names that resemble a wrong one most; "" if there are none."""
    close = get_close_matches(name, list(names), n=2, cutoff=0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _hints(kind: type) -> dict[str, Any]:
    inner = getattr(kind, "kind", None)  # the detector that a tiled one cuts pictures for
    try:
        return (_hints(inner) if isinstance(inner, type) else {}) | get_type_hints(
            inspect.getattr_static(kind, "__init__")
        )
    except NameError:  # a class from elsewhere whose hints cannot be read: its constructor judges values
        return {}


def _from_text(what: str, text: str, hint: Any) -> Any:
    readings: list[Any] = []
    for read in (int, float):
        try:
            readings.append(read(text))
        except ValueError:
            continue
    readings += [text == "true"] if text in ("true", "false") else []
    for value in (*readings, text):
        if any(_fits(value, kind) for kind in _kinds(hint)):
            return fitted(what, value, hint)
    return fitted(what, text, hint)


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of one kind; kinds that cannot be checked fit everything."""
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inside
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and _fit_all(value, origin, inside)
    try:
        return isinstance(value, origin or kind)
    except TypeError:  # Any, or a protocol
        return True


def _fit_all(values: Sequence[Any], origin: type, inside: tuple[Any, ...]) -> bool:
    """Whether the items of a list or tuple fit `tuple[int, int]`, `tuple[str, ...]` or `Sequence[int]`."""
    if origin is tuple and inside[-1] is not Ellipsis:
        return len(values) == len(inside) and all(map(_fits, values, inside))
    return all(any(_fits(one, kind) for kind in _kinds(inside[0])) for one in values)


def _in_words(kind: Any) -> str:
    simple = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if kind in simple:
        return simple[kind]
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(map(str, inside))
    if origin is not None and issubclass(origin, Sequence) and inside:
        several = {int: "whole numbers, such as [4, 8]", str: 'a list of texts, such as ["a", "b"]'}
        if origin is tuple and inside[-1] is not Ellipsis:
            return f"{len(inside)} {several.get(inside[0], 'values')}"
        return several.get(inside[0], "a list of values")
    return ""  # an object, which Python can give and text cannot
