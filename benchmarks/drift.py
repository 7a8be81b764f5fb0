"""Does the station's drift watch see a changed light, focus or position in time, and is it quiet otherwise?

    python benchmarks/drift.py FOLDER/hazelnut FOLDER/screw FOLDER/pcb

Of each product's good training pictures a random half is taught (256 pixels, the station's default detector); the
rest are fresh. (Not every other one: cameras that take two views in turn would be taught one of them.) Fresh pictures
are drawn at random, with a change that begins at a known picture, and given to the watch one after another. A row per
product and change, over `--runs` orders:

alert        share of runs with an alert within 50 pictures of the beginning
median, most pictures from the beginning to the alert
early        share of runs with an alert before false alarms doubled: before as many of the pictures since the beginning
             had been called defective as 50 pictures would have at twice the rate without a change
without, changed   share of fresh pictures called defective without and with the change
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

from continuad.data.discover import discover
from continuad.station import Station
from continuad.station.drift import Watch
from continuad.station.judge import Inspection
from continuad.station.taught import Taught

WITHIN, QUIET, TREND = 50, 2000, 200  # pictures: to alert in; without drift; over which a slow trend rises
Picture = Image.Image


def _moved(picture: Picture, pixels: int) -> Picture:
    """Shifted right and down; the border is repeated, as if the part lay elsewhere on the same table."""
    width, height = picture.size
    moved = ImageChops.offset(picture, pixels, pixels)
    moved.paste(picture.crop((0, 0, 1, height)).resize((pixels, height)), (0, 0))
    moved.paste(moved.crop((0, pixels, width, pixels + 1)).resize((width, pixels)), (0, 0))
    return moved


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "light +20 %": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "light -20 %": lambda picture: ImageEnhance.Brightness(picture).enhance(0.8),
    "focus, sigma 1.5": lambda picture: picture.filter(ImageFilter.GaussianBlur(1.5)),
    "position, 8 pixels": lambda picture: _moved(picture, 8),
}


def main() -> None:
    """Teach, simulate, print and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=None, help="a CSV file")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for folder in asked.folders:
            rows += one(folder, Path(place), asked.runs)
            print(pd.DataFrame(rows).to_string(index=False, float_format="%.3f"), flush=True)
    if asked.out:
        pd.DataFrame(rows).to_csv(asked.out, index=False)


def one(folder: Path, place: Path, runs: int) -> list[dict[str, object]]:
    """The rows of one product."""
    every = [item.path for item in discover(folder).train]
    files = [every[place] for place in np.random.default_rng(0).permutation(len(every))]
    learned = place / folder.name
    learned.mkdir(parents=True)
    for file in files[::2]:
        (learned / file.name).symlink_to(file.absolute())
    station = Station.open(place / f"{folder.name}-station", create=True)
    taught = station.learn(learned, folder.name)
    fresh = [_working(Image.open(file).convert("RGB"), taught) for file in files[1::2]]

    def seen(pictures: list[Picture]) -> list[Inspection]:
        return [found for picture in pictures for found in station.inspect(picture, folder.name, log=False)]

    plain, rng = seen(fresh), np.random.default_rng(0)
    usual = np.mean([found.verdict != "good" for found in plain])
    head = {"product": folder.name, "taught": len(files[::2]), "fresh": len(fresh)}
    rows = [head | {"change": "none"} | _quiet(taught, plain, rng, runs) | {"without": usual}]
    for name, change in CHANGES.items():
        changed = seen([change(picture) for picture in fresh])
        rows.append(head | {"change": name} | _alerts(taught, plain, lambda n, c=changed: c, rng, runs, usual))
    steps = [seen([ImageEnhance.Brightness(p).enhance(1 - 0.02 * k) for p in fresh]) for k in range(1, 11)]
    rising = lambda n: steps[min(9, 10 * n // TREND)]  # noqa: E731
    rows.append(head | {"change": "slow: light to -20 % in 200"} | _alerts(taught, plain, rising, rng, runs, usual))
    return rows


def _working(picture: Picture, taught: Taught) -> Picture:
    """As it is learned, so that pixels mean the same for every camera."""
    return Image.fromarray(taught.record.geometry.apply(picture).transpose(1, 2, 0))


def _quiet(taught: Taught, plain: list[Inspection], rng: np.random.Generator, runs: int) -> dict[str, object]:
    """False alerts in `QUIET` pictures without any change."""
    at = [_first(taught, plain, lambda n: plain, 0, QUIET, rng)[0] for _ in range(runs)]
    found = [n for n in at if n is not None]
    return {"alert": len(found) / runs, "median": float(np.median(found)) if found else np.nan}


def _alerts(
    taught: Taught,
    plain: list[Inspection],
    changed: Callable[[int], list[Inspection]],
    rng: np.random.Generator,
    runs: int,
    usual: float,
) -> dict[str, object]:
    """How soon a change is seen that begins after 100 pictures."""
    slow = len(changed(0)) and changed(0) is not changed(TREND - 1)
    most = TREND + WITHIN if slow else WITHIN
    found = [_first(taught, plain, changed, 100, most, rng) for _ in range(runs)]
    seen = [n for n, _ in found if n is not None]
    doubled = 2 * max(usual, 1 / len(plain)) * WITHIN
    early = [n is not None and defects <= doubled for n, defects in found]
    last = changed(TREND)
    return {
        "alert": len(seen) / runs,
        "median": float(np.median(seen)) if seen else np.nan,
        "most": max(seen, default=np.nan),
        "early": float(np.mean(early)),
        "without": usual,
        "changed": float(np.mean([one.verdict != "good" for one in last])),
    }


def _first(
    taught: Taught,
    plain: list[Inspection],
    changed: Callable[[int], list[Inspection]],
    before: int,
    after: int,
    rng: np.random.Generator,
) -> tuple[int | None, int]:
    """The picture, counted from the change, at which the watch alerts, and defects called until then."""
    watch, defects = Watch(taught.blob), 0
    for _ in range(before):
        watch.add(taught, plain[rng.integers(len(plain))])
    if watch.alert:  # counted under "none"
        watch = Watch(taught.blob)
    for n in range(after):
        among = changed(n)
        found = among[rng.integers(len(among))]
        defects += found.verdict != "good"
        watch.add(taught, found)
        if watch.alert:
            return n + 1, defects
    return None, defects


if __name__ == "__main__":
    main()
