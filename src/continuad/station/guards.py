"""What is looked at before a change: folders, names, pictures of another product, what a threshold would cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from continuad.data.names import printable
from continuad.errors import ContinuadError
from continuad.station.judge import Judge, View
from continuad.station.taught import Taught
from continuad.station.teach import Good, look_features

LONGEST = 100  # characters of a product's name
OTHERS = 0.5  # share of an update's pictures that may look like another product, or like none


def is_station(folder: Path) -> bool:
    """Whether a folder is a station."""
    return (folder / "station.db").is_file() or (folder / "station.id").is_file() or (folder / "blobs").is_dir()


def outside(folder: str | Path, station: Path) -> Path:
    """A folder of pictures by its full path.

    Raises:
        ContinuadError: the station lies in it, so that its own pictures would be taken for the product's.
    """
    found = Path(folder).expanduser().absolute()
    whole = found.resolve()
    if found.is_dir() and station.resolve().is_relative_to(whole):
        raise ContinuadError(
            f"{folder}: the station {station} lies in this folder, and its own pictures would be taken for the "
            "product's; move the station elsewhere"
        )
    return whole if found.name == ".." else found


def usable_name(name: str) -> str:
    """A product's name as it is.

    Raises:
        ContinuadError: it is empty, too long, or holds what tables and terminals do not show.
    """
    if not name.strip() or name in (".", ".."):
        raise ContinuadError(f"'{name}' is no name for a product; give one with --name")
    if printable(name) != name or "\ufffd" in name:
        raise ContinuadError(f"'{printable(name)}' holds characters that cannot be shown; give a --name without them")
    if len(name) > LONGEST:
        raise ContinuadError(f"'{name[:40]}…' has {len(name)} characters; give a --name of at most {LONGEST}")
    return name


def refuse_others(judge: Judge, known: Taught, good: Good) -> None:
    """Most pictures of an update must look like the product.

    Raises:
        ContinuadError: they look like another one, or like none.
    """
    images = torch.from_numpy(good.images)
    own = View.of(known.record)
    features = {own: look_features(images)}
    nearest = judge.inferences[own].nearest(features[own])
    other = [near[0] for near in nearest if near[0].product != known.name or near[0].distance > 1]
    if len(other) > OTHERS * len(nearest):
        taken = sorted({near.product for near in other if near.distance <= 1}) or ["no product"]
        raise ContinuadError(
            f"{len(other)} of {len(nearest)} pictures do not look like {known.name} but like {', '.join(taken)}. Use "
            f"--force if they show {known.name} all the same, or teach them as a product of their own with "
            "`continuad learn`"
        )


def to_catch(taught: Taught, score: float) -> dict[str, Any]:
    """What it would cost to catch a picture with this score; nothing where it is caught."""
    if score > taught.thresholds().image:
        return {}
    catching = score - 1e-3 * abs(score)  # in other company the same picture's score differs in the last digits
    return {"threshold": catching, "false_alarms": float((taught.good_scores() > catching).float().mean())}
