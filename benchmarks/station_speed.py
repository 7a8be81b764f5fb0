"""How fast does a station inspect with 1, 10 and 100 products, and how large is it?

    python benchmarks/station_speed.py [--products 1,10,100] [--into FOLDER]

Products are the ten drawn ones, each in ten colours, 16 good pictures of 256 pixels, taught with the station's default
detector. The same 64 pictures of the first product are inspected by every station: one at a time, each a call of its
own, and as a folder; product and verdict are inferred, verdicts are logged. Medians of five rounds, taken in turns, so
that a slow moment of the machine meets all of them:

one, folder      images a second
process          megabytes that the process holds (resident), after the station was asked
blobs, checks, pages  kilobytes on disk a product: what was learned, check pictures, reports on changes
"""

from __future__ import annotations

import argparse
import colorsys
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from continuad.cli import environment
from continuad.demo.line import PRODUCTS, write_line
from continuad.station import Station

TAUGHT, SHOWN, ROUNDS = 16, 64, 5


def turned(image: Image.Image, share: float) -> Image.Image:
    """The same picture with its colours mixed otherwise."""
    mix = np.array([colorsys.hsv_to_rgb((share + third / 3) % 1, 0.6, 1) for third in range(3)])
    mix /= mix.sum(1, keepdims=True)
    return Image.fromarray((np.asarray(image, float) @ mix.T).clip(0, 255).astype(np.uint8))


def prepare(root: Path, number: int) -> list[Path]:
    """Folders of that many products, and `root/shown` with pictures of the first."""
    drawn = write_line(root / "drawn", size=256, train=TAUGHT, test_good=SHOWN, per_defect=0, products=PRODUCTS)
    folders = []
    for variant in range(-(-number // len(drawn))):
        for source in drawn[: number - len(folders)]:
            folder = root / "parts" / f"{source.name}_{variant}"
            folder.mkdir(parents=True)
            for file in sorted((source / "train" / "good").iterdir()):
                turned(Image.open(file), variant / 10).save(folder / file.name)
            folders.append(folder)
    (root / "shown").mkdir()
    for file in sorted((drawn[0] / "test" / "good").iterdir()):
        turned(Image.open(file), 0.0).save(root / "shown" / file.name)
    return folders


def ask(line: Path, shown: Path) -> tuple[float, float]:
    """Images a second, one at a time and as a folder."""
    station = Station.open(line)
    files = sorted(shown.iterdir())
    list(station.inspect(files[:2]))
    began = time.perf_counter()
    for file in files:
        list(station.inspect(file))
    between = time.perf_counter()
    found = list(station.inspect(shown))
    ended = time.perf_counter()
    assert len(found) == len(files)
    station.close()
    return len(files) / (between - began), len(files) / (ended - between)


def resident(line: Path, shown: Path) -> float:
    """Megabytes of a process of its own that has inspected a folder."""
    code = (
        "import resource, sys; from continuad.cli import environment; environment.prepare(); "
        "from continuad.station import Station; "
        "list(Station.open(sys.argv[1]).inspect(sys.argv[2])); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(line), str(shown)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def kilobytes(folder: Path) -> float:
    """What lies in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1000


def main() -> None:
    """Teach once, and copy the station on the way; ask the copies in turns."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--products", default="1,10,100")
    options.add_argument("--into", type=Path, default=None, help="folder for a table")
    asked = options.parse_args()
    counts = [int(part) for part in asked.products.split(",")]
    environment.prepare()
    with tempfile.TemporaryDirectory() as place:
        root, seconds = Path(place), []
        folders = prepare(root, max(counts))
        station = Station.open(root / "line", create=True)
        for done, folder in enumerate(folders, 1):
            began = time.perf_counter()
            station.learn(folder, tolerance=None)
            seconds.append(time.perf_counter() - began)
            if done in counts:
                station.close()
                shutil.copytree(station.folder, root / f"line {done}")
        rounds = [{count: ask(root / f"line {count}", root / "shown") for count in counts} for _ in range(ROUNDS)]
        rows = []
        for count in counts:
            line = root / f"line {count}"
            one, folder_rate = (float(np.median([each[count][kind] for each in rounds])) for kind in (0, 1))
            row = {"products": count, "one": one, "folder": folder_rate, "process": resident(line, root / "shown")}
            row |= {name: kilobytes(line / where) / count for name, where in PLACES.items()}
            rows.append(row | {"learning": float(np.median(seconds[max(0, count - 5) : count]))})
    table = pd.DataFrame(rows)
    print(f"{os.cpu_count()} cores; learning: seconds for the last products")
    print(table.to_string(index=False, float_format="%.2f"))
    if asked.into:
        asked.into.mkdir(parents=True, exist_ok=True)
        table.to_csv(asked.into / "station_speed.csv", index=False)


PLACES = {"blobs": "blobs", "checks": "checks", "pages": "reports"}

if __name__ == "__main__":
    main()
