"""The station's commands: teach, update, inspect, correct, undo. Each gathers what it is given and shows what came."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from continuad.cli.console import Bars, out_console, print_place, say
from continuad.cli.inspection import AsJson, Database, MaxPixels, Where, inspect, open_station
from continuad.cli.watch import watch
from continuad.data.decode import MAX_PIXELS
from continuad.data.product import IMAGE_SUFFIXES
from continuad.errors import ContinuadError

if TYPE_CHECKING:
    from continuad.station.station import Station
    from continuad.station.taught import Taught

Force = Annotated[bool, typer.Option("--force", help="Put it in service even if a product gets worse.")]
Tolerance = Annotated[
    int, typer.Option(min=0, help="New false alarms, lost defects and strayed pictures that a product may get.")
]
ProductName = Annotated[str, typer.Argument(metavar="PRODUCT", help="Name of a product in the station.")]


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
        str, typer.Option(help="What counts: left, top, right, bottom in shares (0.1,0,0.9,1), or a mask picture.")
    ] = "",
    align: Annotated[bool, typer.Option("--align", help="Turn and move each part as the first ones lie.")] = False,
    tolerance: Tolerance = 0,
    force: Force = False,
    database: Database = "",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: AsJson = False,
) -> None:
    """Teach a product from good pictures, after check-data; makes the station if there is none.

    Example: `continuad learn line1 parts/bottle`
    """
    from continuad.station.geometry import Geometry, mask_from

    size = (image_size, image_size)
    if Path(region).suffix.lower() in IMAGE_SUFFIXES:
        geometry = Geometry(size, fit, mask=mask_from(Path(region)), align=align)  # type: ignore[arg-type]
    else:
        geometry = Geometry(size, fit, _region(region), align=align)  # type: ignore[arg-type]
    options = _options(set_ or [])
    with _made_or_nothing(station, database) as made, Bars() as bars:
        taught = made.learn(
            *(folder, name or None),
            detector=detector,
            options=options,
            geometry=geometry,
            max_pixels=max_pixels,
            tolerance=None if force else tolerance,
            progress=bars.step,
        )
    _changed(made, f"learned {taught.name} from {taught.record.images} pictures", as_json, taught)


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
    made = open_station(station, database)
    with Bars() as bars:
        taught = made.update(
            *(product, folder),
            max_pixels=max_pixels,
            tolerance=None if force else tolerance,
            progress=bars.step,
        )
    _changed(made, f"updated {product}: {taught.record.images} pictures in all", as_json, taught)


def products(station: Where, database: Database = "", as_json: AsJson = False) -> None:
    """List the products in service.

    Example: `continuad products line1`
    """
    made = open_station(station, database)
    lines: list[dict[str, Any]] = []
    for taught in made.products(damaged=False):
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
    damaged = made.damaged()
    if as_json:
        print(json.dumps([*lines, *({"product": name, "damaged": why} for name, why in damaged.items())]))
        return
    for line in lines:
        promised = line["false_alarms_promised"]
        rate = "set by value" if promised is None else f"promises {_rate(promised)} false alarms"
        say(
            f"{line['product']}: {line['detector']}, {line['pictures']} pictures, threshold {line['threshold']:.4g} "
            f"({rate})",
            out_console,
        )
    for name, why in damaged.items():
        say(f"{name}: DAMAGED, {why}", out_console)
    if not lines and not damaged:
        say("no products yet; teach one with `continuad learn`", out_console)


def history(station: Where, database: Database = "", as_json: AsJson = False) -> None:
    """Show what was asked of the station, and what came of it.

    Example: `continuad history line1`
    """
    rows = open_station(station, database).history()
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
    made = open_station(station, database)
    made.undo(to)
    _changed(made, "went back", as_json)


def forget(station: Where, product: ProductName, database: Database = "", as_json: AsJson = False) -> None:
    """Take a product out of service and erase its pictures; the others answer as before.

    Example: `continuad forget line1 bottle`
    """
    made = open_station(station, database)
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
    made = open_station(station, database)
    found = made.set_threshold(product, false_alarms=false_alarms, value=value).thresholds()
    text = f"{product}: threshold {found.image:.4g}"
    if false_alarms is not None and found.rate > false_alarms:
        images = made.product(product).record.images
        text += f"; {images} pictures can promise {_rate(found.rate)} false alarms at best"
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
    made = open_station(station, database)
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
    found = open_station(station, database).drift()
    if as_json:
        print(json.dumps(found))
    for one in [] if as_json else found:
        alert = one["alert"]
        text = "no drift" if alert is None else f"ALERT since picture {alert['at']}, in their {alert['in']}"
        say(f"{one['product']}: {one['seen']} pictures seen, {text}", out_console)
    raise typer.Exit(3 if any(one["alert"] for one in found) else 0)


@contextmanager
def _made_or_nothing(where: Path, database: str) -> Iterator[Station]:
    """A station, new if there is none; a new one whose first product was refused is taken away again."""
    from continuad.station.guards import is_station

    new = not is_station(where)
    there = where.exists()
    made = open_station(where, database, create=True)
    try:
        yield made
    except BaseException:
        if new and not made.version and not database:
            made.close()
            for path in list(where.iterdir()) if there else [where]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _changed(station: Station, text: str, as_json: bool, taught: Taught | None = None) -> None:
    """What a change came to, and what it did to the check pictures of every product."""
    last = station.history()[-1]
    if as_json:
        print(json.dumps(last))
        return
    say(f"{text}; version {last['after']}", out_console)
    if taught is not None and taught.record.value is None:
        say(f"  its threshold promises {_rate(taught.thresholds().rate)} false alarms", out_console)
    for change in last["report"].get("changes", []):
        then, now = change["false_alarms"]
        alarms = f"{now} of {change['good']} good check pictures are false alarms"
        alarms += "" if then is None else f" ({then} before)"
        if change["defective"]:
            caught = change["caught"]
            alarms += f", {caught[1]} of {change['defective']} confirmed defects caught"
            alarms += "" if caught[0] is None else f" ({caught[0]} before)"
        say(f"  {change['product']}: {alarms}", out_console)
    if "promise" in last["report"]:
        say(f"  {last['report']['promise']}", out_console)
    if "page" in last["report"]:
        print_place("  before and after", last["report"]["page"])


def _rate(rate: float) -> str:
    """A rate of false alarms as people say it: "2.4 % (1 in 41)"."""
    return f"{100 * rate:.2g} % (1 in {1 / rate:.0f})" if rate > 0 else "no"


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
        raise ContinuadError(
            f"--region {text}: give four shares with commas between, such as 0.1,0,0.9,1, or a picture"
        ) from None
    return left, top, right, bottom


COMMANDS = (learn, update, inspect, watch, products, history, undo, forget, threshold, feedback, drift)
