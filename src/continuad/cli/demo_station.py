"""The demo's second half: a station that is taught drawn products, inspects, is corrected, and goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from continuad.cli import station as commands
from continuad.cli.console import out_console, say
from continuad.data.names import printable

SHOWN = 2  # pictures of each kind and product
STRICTER = 0.2  # rate of false alarms to ask for where none came by itself


def tell(out: Path, products: Sequence[Path], other: Path) -> None:
    """Run the story in `out / "station"`, and print each command with what it says.

    Args:
        products: folders in MVTec layout to teach. other: a product that is shown and was not taught.
    """
    from continuad.station import Station

    where = _fresh(out / "station")
    for folder in products:
        _command("learn", where, folder)
    pictures = [path for folder in products for path in _some(folder)]
    _command("inspect", where, pictures, out=out / "heat")
    _command("inspect", where, _some(other)[:SHOWN])
    station = Station.open(where)
    for asked in (None, STRICTER):
        if asked is not None:
            _command("threshold", where, products[0].name, false_alarms=asked)
        good = [path for folder in products for path in sorted((folder / "test" / "good").iterdir())]
        alarms = [one for one in station.inspect(good, log=False) if one.verdict == "defective"]
        if alarms:
            break
    for alarm in alarms[:1]:
        picture = Path(alarm.file)
        _command("feedback", where, picture, good=True, product=alarm.product)
        _command("inspect", where, [picture])
        _command("undo", where)
        _command("inspect", where, [picture])
    _command("history", where)
    _command("drift", where)


def _fresh(where: Path) -> Path:
    """The story begins anew each time: what an earlier demo taught is taken away first."""
    import shutil

    if (where / "station.id").is_file():
        shutil.rmtree(where)
    return where


def _some(folder: Path) -> list[Path]:
    """The first good test pictures of a product, and as many of its first kinds of defect."""
    test = folder / "test"
    kinds = sorted(path for path in test.iterdir() if path.name != "good")[:SHOWN]
    return [*sorted((test / "good").iterdir())[:SHOWN], *(sorted(kind.iterdir())[0] for kind in kinds)]


def _command(command: str, where: Path, /, *given: Any, **options: Any) -> None:
    """Show a command as a user would type it, and run it."""
    words = ["continuad", command, str(where)]
    for value in given:
        words += [str(path) for path in value] if isinstance(value, list) else [str(value)]
    for option, value in options.items():
        words += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
    shown = words if len(words) < 8 else [*words[:6], "…", *words[-2:]]
    say(f"\n$ {printable(' '.join(shown))}", out_console)
    run: Callable[..., None] = getattr(commands, command)
    try:
        run(where, *given, **options)
    except typer.Exit as end:
        say(f"(exit code {end.exit_code})", out_console)
