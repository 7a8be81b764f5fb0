"""Options of detectors and strategies: which there are, which values they take, and how they are written.

The constructor's arguments are the options, and their type hints say what is allowed (see `core.hints`). All of this
works on classes and on their outlines alike (see `outline`), so mistakes are found before torch is loaded.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from continuad.core.hints import Count, fits, fitted, hints_of
from continuad.errors import ContinuadError
from continuad.models.names import file_of, files_of

NOT_OPTIONS = {"detector", "members"}  # arguments of a strategy that are objects, not settings
STEPS = "steps"  # a detector's own number of steps; no argument, but set by name like one
OF_THE_RUN = {"seed": "--seed", "image_size": "--image-size"}  # options with one value for all of a run
COMBINED = "combined"  # the strategy of several; it is written as their names with "+" between them


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


def parts_of(text: str) -> list[str]:
    """The strategies that a text names: several where "+" stands between them.

    Raises:
        ContinuadError: one of them is empty, or is `combined`, which has no meaning without others.
    """
    parts = text.split("+")
    if any(not part or split_value(part)[0] == COMBINED for part in parts):
        raise ContinuadError(
            f"strategy '{text}': several strategies are written with + between them, such as replay:300+ewc"
        )
    return parts


def identity(kind: type, text: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """What a strategy is, however it is written: `replay:5` and `replay:exemplars=05` are one thing.

    Args:
        options: those that are set beside its name.
    """
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items() if name in options_of(kind)}
    values = defaults | dict(options) | written(kind, text)
    return (
        class_of(kind),
        *sorted(f"{name}={_plain(value)}" for name, value in values.items()),
    )


def class_of(kind: type) -> str:
    """A class, or the outline of one, by module and name; of a tiled detector, the class inside."""
    kind = getattr(kind, "kind", kind)
    return f"{kind.__module__}:{kind.__qualname__}"


def _plain(value: Any) -> Any:
    """An amount such as "05.0MB" in one spelling."""
    amount = re.fullmatch(r"(\d+(?:\.\d+)?)(%|MB)", value) if isinstance(value, str) else None
    return (float(amount[1]), amount[2]) if amount else value


def refuse_unmatched(options: Mapping[str, Any], kinds: Mapping[str, type], parts: Iterable[str] = ()) -> None:
    """Refuse options of a run, such as {"padim.channels": 350}, that none of its detectors and strategies takes, and
    those that the whole run has one value for.

    Args:
        kinds: the detectors and strategies of the run by name.
        parts: names of strategies that are combined with others by "+": their options stand behind their names.

    Raises:
        ContinuadError: an option without an owner in the run, or a value that it does not take.
    """
    has = {f"{name}.{option}": hint for name, kind in kinds.items() for option, hint in run_options(kind).items()}
    for full, value in options.items():
        name, _, option = full.rpartition(".")
        if name == COMBINED:
            raise ContinuadError(f"option {full}: write strategies with + between them, as --strategy replay:300+ewc")
        if full in has and option in OF_THE_RUN:
            raise ContinuadError(
                f"option {full} is {value!r}: a run has one value for all, given by {OF_THE_RUN[option]}"
            )
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
    more = {STEPS: Count} if getattr(kind, "learns_by", "") == "gradient" else {}
    return options_of(kind) | more


def nearest(name: str, names: Iterable[str]) -> str:
    """ " (did you mean X or Y?)" for the names that resemble a wrong one most; "" if there are none."""
    close = get_close_matches(name, list(names), n=2, cutoff=0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _hints(kind: type) -> dict[str, Any]:
    inner = getattr(kind, "kind", None)  # the detector that a tiled one cuts pictures for
    own = hints_of(inspect.getattr_static(kind, "__init__"))
    return (_hints(inner) if isinstance(inner, type) else {}) | own


def _from_text(what: str, text: str, hint: Any) -> Any:
    readings: list[Any] = []
    for read in (int, float):
        try:
            readings.append(read(text))
        except ValueError:
            continue
    readings += [text == "true"] if text in ("true", "false") else []
    for value in (*readings, text):
        if fits(value, hint):
            return fitted(what, value, hint)
    return fitted(what, text, hint)
