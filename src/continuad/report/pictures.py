"""The gallery as parts of a page: every panel a small data URI, sized so that the page stays light."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from continuad.report.files import Examples
from continuad.report.gallery import HEAT, PANELS, panels, scale, verdict

# Longer side of a panel by the number of examples in the page: about 3 to 4 MB whatever their number.
_SIZES = ((60, 224), (120, 176), (240, 128))
_SMALLEST, _MOST = 96, 240


@dataclass(frozen=True)
class Shot:
    """One example: five data URIs in the order of PANELS, its name, and what the model decided."""

    panels: tuple[str, ...]
    name: str
    said: str
    correct: bool
    score: str
    mask_known: bool


@dataclass(frozen=True)
class Product:
    """The examples of one product under one run, with the ends and the threshold of their colour scale."""

    name: str
    low: str
    threshold: str
    high: str
    shots: tuple[Shot, ...]


def shots(products: Sequence[tuple[str, Examples]], size: int, most: int) -> list[Product]:
    """Pictures for a page: at most `most` examples per product, panels with the longer side `size`."""
    found = []
    for name, examples in products:
        low, high = scale(examples.centre, examples.threshold, examples.map)
        inside = low < examples.threshold < high
        chosen = [_shot(examples, at, size) for at in pick(examples, most)]
        threshold = f"{examples.threshold:.3g}" if inside else ""
        found.append(Product(name, f"{low:.3g}", threshold, f"{high:.3g}", tuple(chosen)))
    return found


def budget(counts: Sequence[int]) -> tuple[int, int]:
    """Panel size and examples per product for `counts` examples in each product of each run shown."""
    most = max(1, _MOST // max(1, len(counts)))
    total = sum(min(count, most) for count in counts)
    return next((size for count, size in _SIZES if total <= count), _SMALLEST), most


def pick(examples: Examples, most: int) -> list[int]:
    """Which examples are shown of a product: a good one first, to compare the others with."""
    good = list(np.flatnonzero(~examples.label.astype(bool)))
    bad = list(np.flatnonzero(examples.label.astype(bool)))
    if len(examples) <= most:
        return sorted(range(len(examples)), key=lambda at: bool(examples.label[at]))
    chosen = bad[:1] if most == 1 and bad else [*good[:1], *bad[: most - len(good[:1])]]
    return [int(at) for at in chosen]


def gradient() -> str:
    """The heat colours as a CSS gradient from left to right."""
    stops = [HEAT(share, bytes=True)[:3] for share in np.linspace(0, 1, 41)]
    return "linear-gradient(90deg," + ",".join(f"rgb({r},{g},{b})" for r, g, b in stops) + ")"


def _shot(examples: Examples, at: int, size: int) -> Shot:
    said, correct = verdict(examples, at)
    # Masks have two tones: as PNG they are sharper and ten times smaller.
    formats = ("JPEG", "PNG", "JPEG", "PNG", "JPEG")
    assert len(formats) == len(PANELS)
    pictures = [_uri(panel, kind) for panel, kind in zip(panels(examples, at, size), formats, strict=True)]
    known = bool(examples.mask_known[at])
    return Shot(tuple(pictures), examples.name[at], said, correct, f"{examples.score[at]:.4g}", known)


def _uri(picture: np.ndarray, kind: str) -> str:
    out = io.BytesIO()
    image = Image.fromarray(picture)
    if kind == "PNG":
        image.convert("L").quantize(4).save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=82)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"
