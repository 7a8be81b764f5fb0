"""Values against type hints: what a setting takes, in type and range, and how that is said.

A hint may carry limits beside its type, `Annotated[float, Range(0, 1)]`. They are declared once, in the signature of
the constructor; from there the command line, settings files, Python and the messages take them.
"""

from __future__ import annotations

import inspect
import math
import numbers
import os
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Union, get_args, get_origin, get_type_hints
from typing import runtime_checkable as checkable

from continuad.errors import ContinuadError


@checkable
class Limit(Protocol):
    """What a hint may ask for beside a type. Its text says it: "at least 1"."""

    def holds(self, value: Any) -> bool:
        """Whether a value of the right type is within the limit."""


class Range(NamedTuple):
    """A number from `low` to `high`. `above`: the low one is not allowed itself; `below`: nor is the high one."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a number lies in the range."""
        return bool(self.low <= value <= self.high) and not (
            (self.above and value == self.low) or (self.below and value == self.high)
        )

    def __str__(self) -> str:
        low, high = _number(self.low), _number(self.high)
        if not self.above and not self.below and self.high < math.inf:
            return f"{low} to {high}"
        lowest = f"above {low}" if self.above else f"at least {low}"
        highest = f" and below {high}" if self.below else f" and at most {high}"
        return lowest + (highest if self.high < math.inf else "")


class Items(NamedTuple):
    """A text or list that is not empty, of at most so many characters or items."""

    most: int

    def holds(self, value: Any) -> bool:
        """Whether there are so many."""
        return 1 <= len(value) <= self.most

    def __str__(self) -> str:
        return f"1 to {self.most} long"


class Rising(NamedTuple):
    """A list in which every number is larger than the one before."""

    def holds(self, value: Any) -> bool:
        """Whether they rise."""
        return list(value) == sorted(set(value))

    def __str__(self) -> str:
        return "the smallest first, each once"


Seed = Annotated[int, Range(0, 2**32 - 1)]
"""Of random numbers: what torch, NumPy and scikit-learn all take."""

Side = Annotated[int, Range(1, 32_768)]
ImageSize = Side | tuple[Side, Side]
"""Pixels that images are resized to: a side, or height and width."""

STEPS_MOST = 10**9
Count = Annotated[int, Range(1, STEPS_MOST)]
"""How many steps, images or vectors."""


def fitted(what: str, value: Any, hint: Any) -> Any:
    """A value as a type hint asks for it: a whole number becomes a number where a number is allowed, a path text.

    Raises:
        ContinuadError: the hint does not allow the value; `what` names it.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    for kind in _kinds(hint):
        if fits(value, kind):
            base = _base(kind)
            return base(value) if base in (int, float) else value
    raise ContinuadError(f"{what} is {_shown(value)}; allowed: {allowed(hint)}")


def allowed(hint: Any) -> str:
    """What a type hint allows, in words: "a whole number, at least 1, or text"."""
    return " or ".join(words for kind in _kinds(hint) if (words := _in_words(kind))) or "nothing that can be written"


def fits(value: Any, hint: Any) -> bool:
    """Whether a hint allows a value; hints that cannot be checked allow everything."""
    if len(kinds := _kinds(hint)) > 1:
        return any(fits(value, kind) for kind in kinds)
    base = _base(hint)
    if base is not hint:
        return fits(value, base) and all(limit.holds(value) for limit in _limits(hint))
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_finite(value)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in inside
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and _fit_all(value, origin, inside)
    try:
        return isinstance(value, origin or hint)
    except TypeError:  # Any, or a protocol
        return True


def checks_values(kind: type) -> None:
    """Let a class's own constructor refuse what its type hints do not allow, before it does anything else.

    Arguments whose hints cannot be written as text (objects) are left alone.
    """
    init: Callable[..., None] | None = vars(kind).get("__init__")
    if not inspect.isfunction(init):
        return
    signature = inspect.signature(init)

    @cache
    def hints() -> Mapping[str, Any]:
        return {name: hint for name, hint in hints_of(init).items() if any(map(_in_words, _kinds(hint)))}

    @wraps(init)
    def checked(self: Any, *given: Any, **options: Any) -> None:
        try:
            named = signature.bind_partial(self, *given, **options).arguments
        except TypeError:  # the constructor itself says what is wrong
            named = {}
        for name, value in named.items():
            if name in hints():
                fitted(f"option {name}", value, hints()[name])
        init(self, *given, **options)

    kind.__init__ = checked  # type: ignore[misc]


def check_fields(record: Any, what: str = "") -> None:
    """Refuse a dataclass's values that its type hints do not allow; for its `__post_init__`.

    Args:
        what: stands before the field's name in a message.

    Raises:
        ContinuadError: it names the field.
    """
    kind: Any = type(record)
    for name, hint in hints_of(kind).items():
        fitted(f"{what}{name}", getattr(record, name), hint)


@cache
def hints_of(thing: Any) -> dict[str, Any]:
    """Type hints of a class or function with their limits; none where they cannot be read."""
    try:
        return get_type_hints(thing, include_extras=True)
    except NameError:  # a class from elsewhere: its constructor judges values
        return {}


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _base(hint: Any) -> Any:
    """A hint without its limits."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _limits(hint: Any) -> list[Limit]:
    return [limit for limit in getattr(hint, "__metadata__", ()) if isinstance(limit, Limit)]


def _is_finite(value: numbers.Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _fit_all(values: Sequence[Any], origin: type, inside: tuple[Any, ...]) -> bool:
    """Whether the items of a list or tuple fit `tuple[int, int]`, `tuple[str, ...]` or `Sequence[int]`."""
    if origin is tuple and inside[-1] is not Ellipsis:
        return len(values) == len(inside) and all(map(fits, values, inside))
    return all(fits(one, inside[0]) for one in values)


def _in_words(kind: Any) -> str:
    base, limits = _base(kind), _limits(kind)
    if limits:
        return ", ".join([" or ".join(filter(None, map(_in_words, _kinds(base)))), *map(str, limits)])
    simple = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if base in simple:
        return simple[base]
    origin, inside = get_origin(base), get_args(base)
    if origin is Literal:
        return ", ".join(str(one) for one in inside if one != "")
    if origin is not None and issubclass(origin, Sequence) and inside:
        several = {int: "whole numbers, such as [4, 8]", str: 'a list of texts, such as ["a", "b"]'}
        words = several.get(_base(inside[0]), "a list of values")
        if origin is tuple and inside[-1] is not Ellipsis:
            words = f"{len(inside)} {several.get(_base(inside[0]), 'values')}"
        return ", ".join([words, *(f"each {limit}" for limit in _limits(inside[0]))])
    return ""  # an object, which Python can give and text cannot


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."
