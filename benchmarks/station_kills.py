"""Is anything lost when a station's process is killed? Learn, update, feedback and undo, killed at random moments.

    python benchmarks/station_kills.py [--kills 50] [--seed 0]

A small station is taught two textures. Then, again and again, a process of its own begins one of the four verbs and is
killed (SIGKILL) after a random share of the time that the verb takes. Afterwards the station must open, be in the
version before or in the one after, answer as that version does, bit for bit, hold no half file, and take the next
change. A row a verb is printed: how often it was killed before and after the new version was in service, and how often
anything was wrong. The last of these must be 0.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from continuad.station import Station
from continuad.station.geometry import Geometry

GEOMETRY, OPTIONS = Geometry((96, 96)), {"bank": "25%"}
CHILD = """
import sys
from continuad.station import Station
from continuad.station.geometry import Geometry
from continuad.station.teach import look_backbone
verb, line, parts = sys.argv[1:]
station = Station.open(line)
look_backbone()
print("go", flush=True)
if verb == "learn":
    station.learn(f"{parts}/rings", geometry=Geometry((96, 96)), options={"bank": "25%"}, tolerance=None)
elif verb == "update":
    station.update("stripes", f"{parts}/more", tolerance=None)
elif verb == "feedback":
    station.feedback(f"{parts}/odd.png", good=True, product="stripes", tolerance=None)
else:
    station.undo()
print("done", flush=True)
"""


def picture(kind: str, number: int, odd: bool = False) -> Image.Image:
    """A noisy texture of 128 x 96 pixels."""
    draw = np.random.default_rng([number, len(kind)])
    y, x = np.mgrid[:96, :128]
    pattern = {"stripes": x // 12 % 2, "squares": (x // 16 + y // 16) % 2, "rings": np.hypot(x - 64, y - 48) // 9 % 2}
    grey = 60 + 90 * pattern[kind] + draw.normal(0, 6, (96, 128))
    if odd:
        grey[30:44, 50:70] = 250
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


def prepare(root: Path) -> None:
    """Pictures, and a station in a version that every verb can begin from."""
    for name, kind, numbers in (
        ("stripes", "stripes", range(16)),
        ("squares", "squares", range(16)),
        ("rings", "rings", range(16)),
        ("more", "stripes", range(50, 58)),
    ):
        (root / name).mkdir(parents=True)
        for number in numbers:
            picture(kind, number).save(root / name / f"{number}.png")
    picture("stripes", 90, odd=True).save(root / "odd.png")
    station = Station.open(root / "line", create=True)
    for name in ("stripes", "squares"):
        station.learn(root / name, geometry=GEOMETRY, options=OPTIONS)
    station.set_threshold("stripes", false_alarms=0.1)
    station.close()


def answers(line: Path, root: Path) -> tuple[object, ...]:
    """Everything that a station says of some pictures."""
    station = Station.open(line)
    shown = [root / "more", root / "odd.png", root / "squares" / "0.png"]
    found = [(one.product, one.verdict, one.score, one.map.tobytes()) for one in station.inspect(shown, log=False)]
    names = tuple(taught.name for taught in station.products())
    station.close()
    return (names, *found)


def run(verb: str, line: Path, root: Path, after: float | None) -> float:
    """Begin a verb in a process of its own; kill it after some seconds, or let it finish. The seconds that it had."""
    command = [sys.executable, "-c", CHILD, verb, str(line), str(root)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    began = time.perf_counter()
    if after is not None:
        time.sleep(after)
        child.send_signal(signal.SIGKILL)
    child.stdout.readline()  # "done", or the end
    seconds = time.perf_counter() - began
    child.wait()
    return seconds


def main() -> None:
    """Kill, look, count."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root)
        start, finished, seconds = root / "line", {}, {}
        before = answers(start, root)
        for verb in ("learn", "update", "feedback", "undo"):
            done = Path(shutil.copytree(start, root / f"done {verb}"))
            seconds[verb] = run(verb, done, root, None)
            finished[verb] = answers(done, root)
        counts = {verb: [0, 0, 0] for verb in seconds}
        for number in range(asked.kills):
            verb = list(seconds)[number % len(seconds)]
            line = Path(shutil.copytree(start, root / f"killed {number}"))
            run(verb, line, root, draw.uniform(0, 1.05 * seconds[verb]))
            now = answers(line, root)
            which = 1 if now == finished[verb] else 0 if now == before else 2
            station = Station.open(line)
            station.set_threshold("squares", false_alarms=0.2)  # the next change goes through, and sweeps
            blobs = {row["blob"] for version in range(station.version + 1) for row in station.versions.members(version)}
            left = {file.name for file in station.blobs.folder.iterdir()} ^ {f"{blob}.safetensors" for blob in blobs}
            counts[verb][2 if left else which] += 1
            station.close()
            shutil.rmtree(line)
        print("verb      seconds  killed before  killed after  wrong")
        for verb, (early, late, wrong) in counts.items():
            print(f"{verb:<9} {seconds[verb]:7.2f} {early:14d} {late:13d} {wrong:6d}")


if __name__ == "__main__":
    main()
