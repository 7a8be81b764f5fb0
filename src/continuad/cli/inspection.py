"""`continuad inspect`, and what every command of the station takes: a line, a heat map and a mask for each picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continuad.cli.console import out_console, say
from continuad.cli.folders import HELP
from continuad.data.decode import MAX_PIXELS, UnreadableImage
from continuad.errors import ContinuadError

if TYPE_CHECKING:
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
    from continuad.station.heat import UNREADABLE, line_of, unreadable_line

    made, seen = open_station(station, database), set()
    refuse_within(out, pictures)
    with table(csv_file) as write:

        def unreadable(error: UnreadableImage) -> None:
            seen.add(UNREADABLE)
            line = unreadable_line(error)
            write(line)
            show(line, as_json)

        for found in made.inspect(pictures, product or None, max_pixels=max_pixels, unreadable=unreadable):
            seen.add(found.verdict)
            line = line_of(found, out)
            write(line)
            show(line, as_json)
    raise typer.Exit(exit_code(seen))


def exit_code(seen: Collection[str]) -> int:
    """What the verdicts that occurred come to."""
    return next((EXIT[verdict] for verdict in EXIT if verdict in seen), 0)


def show(line: dict[str, Any], as_json: bool) -> None:
    """Print a verdict, or why there is none."""
    if as_json:
        print(json.dumps(line), flush=True)
    elif "reason" in line:
        say(f"{line['file']}: {line['verdict']}, {line['reason']}", out_console)
    else:
        say(
            f"{line['file']}: {line['product']} {line['verdict']}, score {line['score']:.4g} (threshold "
            f"{line['threshold']:.4g}), confidence {line['confidence']:.2f}, {line['seconds']:.3f} s",
            out_console,
        )


def refuse_within(out: Path | None, pictures: Sequence[Path]) -> None:
    """Heat maps in a folder that is inspected would be inspected themselves the next time."""
    for folder in pictures if out is not None else ():
        if out is not None and folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise ContinuadError(f"--out {out}: it lies in {folder}, which is inspected; give a folder elsewhere")


@contextmanager
def table(path: Path | None, go_on: bool = False) -> Iterator[Any]:
    """Something that writes a line into a CSV file, or nowhere.

    Args:
        go_on: lines that are there stay.
    """
    if path is None:
        yield lambda line: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if go_on else "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.DictWriter(file, CSV, extrasaction="ignore")
        if not file.tell():
            rows.writeheader()

        def write(line: dict[str, Any]) -> None:
            rows.writerow(line)
            file.flush()

        yield write
