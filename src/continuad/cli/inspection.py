"""`continuad inspect`, and what every command of the station takes: a line, a heat map and a mask for each picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continuad.cli.console import out_console, say
from continuad.cli.folders import HELP
from continuad.data.decode import MAX_PIXELS, UnreadableImage
from continuad.data.names import printable
from continuad.errors import ContinuadError

if TYPE_CHECKING:
    from continuad.station.judge import Inspection
    from continuad.station.station import Station

Where = Annotated[Path, typer.Argument(metavar="STATION", help="The station's folder.")]
Database = Annotated[
    str, typer.Option("--database", help="URL of a database for its tables, such as postgresql+psycopg://host/name.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MaxPixels = Annotated[int, typer.Option(min=1, help=HELP["max_pixels"])]
CSV = ("file", "product", "verdict", "score", "threshold", "confidence", "seconds", "heat_map", "mask", "reason")
EXIT = {"unreadable": 2, "defective": 3, "unknown": 4, "good": 0}  # the first that occurs


def open_station(where: Path, database: str, create: bool = False) -> Station:
    """The station that a command is about."""
    from continuad.station import Station

    return Station.open(where, database or None, create=create)


def inspect(
    station: Where,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURES…", help="Files or folders.")],
    product: Annotated[str, typer.Option(help="The product they show, if it is known.", show_default=False)] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for heat maps and masks.", show_default=False)] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write a table.", show_default=False)] = None,
    database: Database = "",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: AsJson = False,
) -> None:
    """Say of each picture whether the part is good: a line with product, verdict, score, confidence and seconds.

    Exit code 0: all good; 3: some defective; 4: some unknown (and none defective); 2: an error, such as a picture that
    cannot be read (the others are inspected all the same).

    Example: `continuad inspect line1 today --out heat --csv today.csv`
    """
    made, seen = open_station(station, database), set()
    _refuse_within(out, pictures)
    with _table(csv_file) as write:

        def unreadable(error: UnreadableImage) -> None:
            seen.add("unreadable")
            line = {"schema": 1, "file": printable(error.source), "verdict": "unreadable", "reason": error.reason}
            write(line)
            if as_json:
                print(json.dumps(line), flush=True)
            else:
                say(f"{error.source}: unreadable, {error.reason}", out_console)

        for found in made.inspect(pictures, product or None, max_pixels=max_pixels, unreadable=unreadable):
            seen.add(found.verdict)
            line = shown_line(made, found, out)
            write(line)
            show(found, line, as_json)
    raise typer.Exit(next((EXIT[verdict] for verdict in EXIT if verdict in seen), 0))


def shown_line(station: Station, found: Inspection, out: Path | None) -> dict[str, Any]:
    """What `--json` and `--csv` hold of a verdict; its heat map and mask are written where a folder is given."""
    from continuad.station.heat import save_pictures

    line = found.plain()
    if out is not None:
        scale = station.product(found.product).thresholds()
        line |= save_pictures(out, found, scale.centre, scale.pixel)
    return line


def show(found: Inspection, line: dict[str, Any], as_json: bool) -> None:
    """Print a verdict."""
    if as_json:
        print(json.dumps(line), flush=True)
        return
    say(
        f"{printable(found.file)}: {found.product} {found.verdict}, score {found.score:.4g} (threshold "
        f"{found.threshold:.4g}), confidence {found.confidence:.2f}, {found.seconds:.3f} s",
        out_console,
    )


def _refuse_within(out: Path | None, pictures: Sequence[Path]) -> None:
    """Heat maps in a folder that is inspected would be inspected themselves the next time."""
    for folder in pictures if out is not None else ():
        if out is not None and folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise ContinuadError(f"--out {out}: it lies in {folder}, which is inspected; give a folder elsewhere")


@contextmanager
def _table(path: Path | None) -> Iterator[Any]:
    """Something that writes a line into a CSV file, or nowhere."""
    if path is None:
        yield lambda line: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.DictWriter(file, CSV, extrasaction="ignore")
        table.writeheader()
        yield table.writerow
