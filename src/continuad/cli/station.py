"""The station's commands: teach, update, inspect, correct, undo. Each gathers what it is given and shows what came."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continuad.cli.console import Bars, out_console, say
from continuad.cli.folders import HELP
from continuad.data.decode import MAX_PIXELS
from continuad.errors import ContinuadError

if TYPE_CHECKING:
    from continuad.station.judge import Inspection
    from continuad.station.station import Station

Where = Annotated[Path, typer.Argument(metavar="STATION", help="The station's folder.")]
Database = Annotated[
    str, typer.Option("--database", help="URL of a database for its tables, such as postgresql+psycopg://host/name.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Put it in service even if a product gets worse.")]
Tolerance = Annotated[
    int, typer.Option(min=0, help="New false alarms, lost defects and strayed pictures that a product may get.")
]
MaxPixels = Annotated[int, typer.Option(min=1, help=HELP["max_pixels"])]
ProductName = Annotated[str, typer.Argument(metavar="PRODUCT", help="Name of a product in the station.")]
CSV = ("file", "product", "verdict", "score", "threshold", "confidence", "seconds")
EXIT = {"good": 0, "defective": 3, "unknown": 4}


def _open(where: Path, database: str, create: bool = False) -> Station:
    from continuad.station import Station

    return Station.open(where, database or None, create=create)


def learn(
    station: Where,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Good pictures of the product.")],
    name: Annotated[str, typer.Option(help="The product's name; default: the folder's.", show_default=False)] = "",
    detector: Annotated[str, typer.Option(help="See `continuad list`.")] = "patchcore",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the detector, e.g. bank=5MB.", show_default=False)
    ] = None,
    image_size: Annotated[int, typer.Option(min=32, help="Side of the working images.")] = 256,
    fit: Annotated[str, typer.Option(help="stretch, pad or crop a picture to the working image.")] = "stretch",
    region: Annotated[
        str, typer.Option(help="Left, top, right, bottom of what counts, in shares: 0.1,0,0.9,1.", show_default=False)
    ] = "",
    tolerance: Tolerance = 0,
    force: Force = False,
    database: Database = "",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: AsJson = False,
) -> None:
    """Teach a product from good pictures, after check-data; makes the station if there is none.

    Example: `continuad learn line1 parts/bottle`
    """
    from continuad.station.geometry import Geometry

    geometry = Geometry((image_size, image_size), fit, _region(region))  # type: ignore[arg-type]
    options, made = _options(set_ or []), _open(station, database, create=True)
    with Bars() as bars:
        taught = made.learn(
            *(folder, name or None),
            detector=detector,
            options=options,
            geometry=geometry,
            max_pixels=max_pixels,
            tolerance=None if force else tolerance,
            progress=bars.step,
        )
    _changed(made, f"learned {taught.name} from {taught.record.images} pictures", as_json)


def update(
    station: Where,
    product: ProductName,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="More good pictures of it.")],
    tolerance: Tolerance = 0,
    force: Force = False,
    database: Database = "",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: AsJson = False,
) -> None:
    """Teach a product more good pictures, without the old ones.

    Example: `continuad update line1 bottle monday`
    """
    made = _open(station, database)
    with Bars() as bars:
        taught = made.update(
            *(product, folder),
            max_pixels=max_pixels,
            tolerance=None if force else tolerance,
            progress=bars.step,
        )
    _changed(made, f"updated {product}: {taught.record.images} pictures in all", as_json)


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

    Exit code 0: all good; 3: some defective; 4: some unknown (and none defective); 2: an error.

    Example: `continuad inspect line1 today --out heat --csv today.csv`
    """
    made, seen = _open(station, database), set()
    with _table(csv_file) as write:
        for found, line in _inspections(made, pictures, product or None, out, max_pixels):
            seen.add(found.verdict)
            write(line)
            if as_json:
                print(json.dumps(line), flush=True)
            else:
                say(
                    f"{found.file}: {found.product} {found.verdict}, score {found.score:.4g} (threshold "
                    f"{found.threshold:.4g}), confidence {found.confidence:.2f}, {found.seconds:.3f} s",
                    out_console,
                )
    raise typer.Exit(next((EXIT[verdict] for verdict in ("defective", "unknown") if verdict in seen), 0))


def _inspections(
    station: Station, pictures: list[Path], product: str | None, out: Path | None, max_pixels: int
) -> Iterator[tuple[Inspection, dict[str, Any]]]:
    from continuad.station.heat import save_pictures
    from continuad.station.pictures import each

    for path in each(pictures):
        (found,) = station.inspect(path, product, max_pixels=max_pixels)
        line = found.plain()
        if out is not None:
            scale = station.product(found.product).thresholds()
            line |= save_pictures(out, found, scale.centre, scale.pixel)
        yield found, line


@contextmanager
def _table(path: Path | None) -> Iterator[Any]:
    """Something that writes a line into a CSV file, or nowhere."""
    if path is None:
        yield lambda line: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.DictWriter(file, [*CSV, "heat_map", "mask"], extrasaction="ignore")
        table.writeheader()
        yield table.writerow


def products(station: Where, database: Database = "", as_json: AsJson = False) -> None:
    """List the products in service.

    Example: `continuad products line1`
    """
    made = _open(station, database)
    lines: list[dict[str, Any]] = []
    for taught in made.products():
        found, record = taught.thresholds(), taught.record
        promise = None if record.value is not None else found.rate
        lines.append(
            {
                "product": taught.name,
                "detector": record.detector,
                "pictures": record.images,
                "threshold": found.image,
                "false_alarms_promised": promise,
                "fit": record.geometry.fit,
            }
        )
    if as_json:
        print(json.dumps(lines))
        return
    for line in lines:
        promised = line["false_alarms_promised"]
        rate = "set by value" if promised is None else f"promises {100 * promised:.2g} % false alarms"
        say(
            f"{line['product']}: {line['detector']}, {line['pictures']} pictures, threshold {line['threshold']:.4g} "
            f"({rate})",
            out_console,
        )
    if not lines:
        say("no products yet; teach one with `continuad learn`", out_console)


def history(station: Where, database: Database = "", as_json: AsJson = False) -> None:
    """Show what was asked of the station, and what came of it.

    Example: `continuad history line1`
    """
    rows = _open(station, database).history()
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        came = f"version {row['after']}" if row["promoted"] else "not put in service"
        say(f"{row['at']}  {row['verb']} {row['product']}: {came}", out_console)


def undo(
    station: Where,
    to: Annotated[int | None, typer.Option(help="A version, see `history`; default: the one before.")] = None,
    database: Database = "",
    as_json: AsJson = False,
) -> None:
    """Go back to the version before, or to another one. Answers are those of then, bit for bit.

    Example: `continuad undo line1`
    """
    made = _open(station, database)
    made.undo(to)
    _changed(made, "went back", as_json)


def forget(station: Where, product: ProductName, database: Database = "", as_json: AsJson = False) -> None:
    """Take a product out of service and erase its pictures; the others answer as before.

    Example: `continuad forget line1 bottle`
    """
    made = _open(station, database)
    made.forget(product)
    _changed(made, f"forgot {product}", as_json)


def threshold(
    station: Where,
    product: ProductName,
    false_alarms: Annotated[float | None, typer.Option(help="Rate to promise, such as 0.01.")] = None,
    value: Annotated[float | None, typer.Option(help="A score.")] = None,
    database: Database = "",
    as_json: AsJson = False,
) -> None:
    """Move a product's threshold without teaching it again.

    Example: `continuad threshold line1 bottle --false-alarms 0.05`
    """
    made = _open(station, database)
    found = made.set_threshold(product, false_alarms=false_alarms, value=value).thresholds()
    text = f"{product}: threshold {found.image:.4g}"
    if false_alarms is not None and found.rate > false_alarms:
        images = made.product(product).record.images
        text += f"; {images} pictures can promise {100 * found.rate:.2g} % false alarms at best"
    _changed(made, text, as_json)


def feedback(
    station: Where,
    picture: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture that was inspected.")],
    good: Annotated[bool, typer.Option("--good", help="The part is good.")] = False,
    defect: Annotated[bool, typer.Option("--defect", help="The part is defective.")] = False,
    product: Annotated[str, typer.Option(help="The product it shows.", show_default=False)] = "",
    tolerance: Tolerance = 0,
    force: Force = False,
    database: Database = "",
    as_json: AsJson = False,
) -> None:
    """Correct a verdict: a false alarm is learned, a defect is kept for the checks.

    Example: `continuad feedback line1 today/0007.png --good`
    """
    if good == defect:
        raise ContinuadError("say what the picture shows: --good or --defect")
    made = _open(station, database)
    found = made.feedback(picture, good=good, product=product or None, tolerance=None if force else tolerance)
    if as_json:
        print(json.dumps(found))
        return
    say(
        f"{picture}: {found['product']}, was {found['before']}, is {found.get('after', 'kept as a defect')}",
        out_console,
    )
    if "threshold" in found:
        say(
            f"it passes; a threshold of {found['threshold']:.4g} would catch it and call "
            f"{100 * found['false_alarms']:.2g} % of the good pictures defective "
            f"(`continuad threshold {station} {found['product']} --value {found['threshold']:.6g}`)",
            out_console,
        )


def drift(station: Where, database: Database = "", as_json: AsJson = False) -> None:
    """Say whether the pictures of each product still look as they did when it was taught.

    Exit code 0: they do; 3: an alert.

    Example: `continuad drift line1`
    """
    found = _open(station, database).drift()
    if as_json:
        print(json.dumps(found))
    for one in [] if as_json else found:
        alert = one["alert"]
        text = "no drift" if alert is None else f"ALERT since picture {alert['at']}, in their {alert['in']}"
        say(f"{one['product']}: {one['seen']} pictures seen, {text}", out_console)
    raise typer.Exit(3 if any(one["alert"] for one in found) else 0)


def _changed(station: Station, text: str, as_json: bool) -> None:
    """What a change came to, and what it did to the check pictures of every product."""
    last = station.history()[-1]
    if as_json:
        print(json.dumps(last))
        return
    say(f"{text}; version {last['after']}", out_console)
    for change in last["report"].get("changes", []):
        then, now = change["false_alarms"]
        alarms = f"{now} of {change['good']} good check pictures are false alarms"
        alarms += "" if then is None else f" ({then} before)"
        if change["defective"]:
            caught = change["caught"]
            alarms += f", {caught[1]} of {change['defective']} confirmed defects caught"
            alarms += "" if caught[0] is None else f" ({caught[0]} before)"
        say(f"  {change['product']}: {alarms}", out_console)


def _options(texts: list[str]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ContinuadError(f"--set {wrong[0]}: write OPTION=VALUE, such as bank=5MB")
    return {name: value for name, _, value in pairs}


def _region(text: str) -> tuple[float, float, float, float] | None:
    if not text:
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise ContinuadError(f"--region {text}: give four shares with commas between, such as 0.1,0,0.9,1") from None
    return left, top, right, bottom


COMMANDS = (learn, update, inspect, products, history, undo, forget, threshold, feedback, drift)
