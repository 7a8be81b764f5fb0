"""The report before and after a change, as one HTML file without network: numbers, scores, heat maps."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from continuad.files import replace_file, safe_name
from continuad.station.checks import Checks
from continuad.station.compare import Change, worse_lines
from continuad.station.heat import heat_map
from continuad.station.judge import mask_of
from continuad.station.taught import Taught

MOST = 6  # pictures with heat maps
KEPT = 20  # reports on a product
WIDTH, LEFT, RIGHT = 640, 60, 20  # of a drawing, in its own units


@dataclass(frozen=True)
class Event:
    """What was asked, and what came of it.

    Attributes:
        verb, product, at: as in the history. before: the version it was asked of.
        promoted: it was put in service.
    """

    verb: str
    product: str
    at: str
    before: int
    promoted: bool


class Pages:
    """The reports of a station: a folder for what was taught at one time, since they show its pictures.

    Args:
        folder: of the reports.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def keep(self, event: Event, origin: str, whole: str) -> Path:
        """Write a report; the oldest make room for the newest `KEPT`."""
        folder = self.folder / safe_name(origin)
        name = f"{event.at.replace(':', '').replace('+0000', '')}-{event.before}-{event.verb}.html"
        path = replace_file(folder / name, lambda new: new.write_text(whole, encoding="utf-8"))
        for old in sorted(folder.glob("*.html"))[:-KEPT]:
            old.unlink(missing_ok=True)
        return path

    def sweep(self, origins: Iterable[str]) -> None:
        """Remove the reports on all but these."""
        kept = {safe_name(origin) for origin in origins}
        for folder in [path for path in self.folder.glob("*") if path.name not in kept]:
            shutil.rmtree(folder, ignore_errors=True)


def page(event: Event, changes: Sequence[Change], checks: Checks, before: Taught | None, after: Taught) -> str:
    """The report as HTML.

    Args:
        before, after: the product that was changed; None where it is new.
    """
    environment = Environment(
        loader=PackageLoader("continuad.station"), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    own = next((change for change in changes if change.product == event.product), None)
    return environment.get_template("change.html.j2").render(
        **vars(event) | {"at": f"{event.at[:16].replace('T', ' ')} UTC"},
        worse=worse_lines(changes),
        changes=changes,
        moved=[one for one in changes if one.product == event.product or one.scores[0] != one.scores[1]],
        shown=[] if own is None else _moved(own, checks, before, after),
        pair=_pair,
        drawing=_drawing,
    )


def _pair(values: tuple[Any, Any], form: str = "%d") -> str:
    """Before and after as "3 → 4"; one number where there was nothing before."""
    then, now = ("–" if value is None else form % value for value in values)
    return now if values[0] is None else f"{then} → {now}"


def _moved(change: Change, checks: Checks, before: Taught | None, after: Taught) -> list[dict[str, Any]]:
    """The check pictures whose verdict changed, then those with the highest scores; each before and after."""
    then, now = change.scores
    old = np.array(now if then is None else then)
    new = np.array(now)
    order = np.lexsort([-np.maximum(old, new), (old > 1) == (new > 1)])[:MOST]
    shown = []
    for place in order.tolist():
        image = checks.image(after.record.origin, change.pictures[place])
        what = "confirmed defect" if place >= change.good else "good"
        states = [("before", before, old)] if before is not None and then is not None else []
        pictures = [
            {"data": _heat(taught, image), "caption": f"{what}, {when}: score {values[place]:.2f}"}
            for when, taught, values in [*states, ("after", after, new)]
        ]
        shown.append({"pictures": pictures})
    return shown


def _heat(taught: Taught, image: torch.Tensor) -> str:
    """A working image with its heat map, as JPEG in base64."""
    thresholds = taught.thresholds()
    with torch.no_grad():
        found = taught.detector().predict(image[None])
    values = found.map[0].numpy()
    flagged = float(found.score[0]) > thresholds.image
    mask = mask_of(values, thresholds) if flagged else np.zeros(values.shape, bool)
    rgb = Image.fromarray(image.permute(1, 2, 0).numpy())
    out = io.BytesIO()
    heat_map(rgb, values, mask, thresholds.centre, thresholds.pixel).save(out, "jpeg", quality=85)
    return base64.b64encode(out.getvalue()).decode("ascii")


def _drawing(change: Change) -> Markup:
    """Scores before (upper row) and after (lower row), a line from each to each; the threshold is the upright at 1."""
    then, now = change.scores
    rows = [values for values in (then, now) if values is not None]
    low, high = min(0.0, *map(min, rows)), max(1.2, *map(max, rows))

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low), 1)

    heights = [18 + 34 * place for place in range(len(rows))]
    bottom = heights[-1] + 16
    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + 18}" role="img" aria-label="scores of {len(now)} check pictures">']
    parts.append(f'<line x1="{x(1)}" x2="{x(1)}" y1="6" y2="{bottom}" stroke="var(--ink)" stroke-dasharray="3 3"/>')
    parts += [
        f'<text x="{x(value)}" y="{bottom + 13}" text-anchor="middle">{name}</text>'
        for value, name in ((0.0, "ordinary"), (1.0, "threshold"))
    ]
    for height, name in zip(heights, ("before", "after") if len(rows) == 2 else ("now",), strict=True):
        parts.append(f'<text x="0" y="{height + 4}">{name}</text>')
    for place in range(len(now)):
        colour = "var(--bad)" if place >= change.good else "var(--good)"
        ends = [(x(values[place]), height) for values, height in zip(rows, heights, strict=True)]
        if len(ends) == 2:
            (x1, y1), (x2, y2) = ends
            parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-opacity=".25"/>')
        parts += [f'<circle cx="{at}" cy="{height}" r="4" fill="{colour}" fill-opacity=".6"/>' for at, height in ends]
    return Markup("".join([*parts, "</svg>"]))
