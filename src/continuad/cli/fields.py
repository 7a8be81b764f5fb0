"""The options of `continuad bench`, made from the fields of `Settings`: names, defaults and help texts stand there."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from continuad.benchmark.settings import COMMAND_LINE, Settings, checked_values, option_name, values_in
from continuad.core.hints import Range, Seed, Side, fitted
from continuad.errors import ContinuadError

SEED = Annotated[int | None, typer.Option("--seed", help="One run with this seed.", show_default="0")]
SEEDS = Annotated[
    list[str] | None,
    typer.Option("--seeds", metavar="K", help="Runs with seeds 0 to K-1, or with those of a list: 3,7,9."),
]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose last parameter is `**given`, an option for every field of `Settings`."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    kept = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [parameter for field in fields(Settings) for parameter in _parameters(field)]
    after = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*added, *kept[1:])]
    command.__signature__ = inspect.Signature([kept[0], *after])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (kept[0], *after)}
    return command


def settings_from(context: typer.Context, given: Mapping[str, Any], file: Path | None) -> Settings:
    """What was said on the command line, over what a file says, over the defaults.

    Raises:
        ContinuadError: a value that a setting does not take.
    """
    said = {name: value for name, value in given.items() if _was_said(context, name)}
    if "seed" in said and "seeds" in said:
        raise ContinuadError("--seed N runs one seed and --seeds K runs 0 to K-1; give one of them")
    values = {name: _read(name, value) for name, value in said.items()}
    if "seed" in values:
        values["seeds"] = values.pop("seed")
    return Settings(**(values_in(file) if file else {}) | checked_values(values, COMMAND_LINE))


def _parameters(field: Field[Any]) -> Iterator[inspect.Parameter]:
    """The options of one field: mostly one of the same name."""
    if field.name == "seeds":
        yield _parameter("seed", SEED, None)
        yield _parameter("seeds", SEEDS, None)
        return
    about, flag = field.metadata["help"], option_name(field.name)
    default: Any = field.default
    kind: Any = type(default)
    if field.name in ("detector", "strategy"):
        kind, default = list[str], list(default)
    elif field.name == "image_size":
        kind, default = str, "x".join(map(str, dict.fromkeys(default)))  # 256 for 256x256
    elif field.name in ("folders", "open_set", "options"):
        kind, default = list[Path] | None if field.name != "options" else list[str] | None, None
    elif field.name in ("root", "weights_file"):
        kind, default = Path | None, None
    if field.name == "folders":
        yield _parameter("folders", Annotated[kind, typer.Argument(help=about, show_default=False)], None)
    else:
        flags = (flag, f"--no-{flag[2:]}") if kind is bool else (flag,)
        shown = default not in ("", None, False)
        names = "/".join(flags)
        yield _parameter(field.name, Annotated[kind, typer.Option(names, help=about, show_default=shown)], default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _read(name: str, value: Any) -> Any:
    """What was typed, as the value of a setting."""
    if name in ("detector", "strategy"):
        return _names(value)
    if name in ("folders", "open_set"):
        return tuple(map(str, value))
    if name == "image_size":
        return _size(value)
    if name == "weights_file":
        return str(value.expanduser().absolute())
    if name == "options":
        return _options(value)
    if name == "seeds":
        return _seeds(value)
    if name == "seed":
        return fitted("--seed", value, Seed)
    return str(value) if isinstance(value, Path) else value


def _was_said(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    parts = (part.strip() for text in texts for part in text.split(","))
    return tuple(part for part in parts if part)


def _seeds(texts: Sequence[str]) -> tuple[int, ...]:
    """Seeds 0 to K-1 for one number K; for a list of several, with commas or by repeating the option, those in it."""
    asked = ",".join(texts)
    try:
        numbers = [int(part) for part in asked.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise ContinuadError(f"--seeds {asked}: give how many, such as 3, or a list of seeds, such as 0,1,2")
    if "," in asked:
        return tuple(dict.fromkeys(fitted("--seeds", number, Seed) for number in numbers))
    return tuple(range(fitted("--seeds", numbers[0], Annotated[int, Range(1, 1000)])))


def _size(text: str) -> tuple[int, int]:
    height, times, width = text.lower().partition("x")
    try:
        sides = int(height), int(width if times else height)
    except ValueError:
        raise ContinuadError(f"--image-size {text}: give a side in pixels (256) or HEIGHTxWIDTH (256x384)") from None
    return fitted("--image-size", sides[0], Side), fitted("--image-size", sides[1], Side)


def _options(texts: Sequence[str]) -> dict[str, Any]:
    """`padim.channels=350` and the like; values are read as TOML, or else taken as text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            raise ContinuadError(f"--set {text}: write NAME.OPTION=VALUE, e.g. padim.channels=350")
        if name in found:
            raise ContinuadError(f"--set {text}: {name} is given twice")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):  # no TOML, or a number or list that Python cannot hold
            found[name] = _whole_path(value)
    return found


def _whole_path(text: str) -> str:
    """A file or folder here is named in full: the model may be loaded from another folder."""
    path = Path(text).expanduser()
    return str(path.absolute()) if (path.suffix and path.is_file()) or path.is_dir() else text
