"""Do thresholds keep what they promise? False alarms promised and realised, over random splits of good images.

    python benchmarks/guarantee.py --root FOLDER [--splits 50] [--into docs/results/guarantee]

FOLDER holds the products of `realset`. For every product, detector and split, half of the good training images (80 at
most) are learned from and set the thresholds, and the other half (80 at most) are fresh: images of the same kind that
the model has not seen. Shares of fresh images above the thresholds are what was realised; those of test/good are
noted beside them, where light or lot may differ. Thresholds come from all learned images, each predicted as if it had
not been learned ("train"), or from a tenth of them that is kept back ("val").

A row is written after each split, and a second call goes on where the first was stopped. In the end tables are
written and a figure is drawn. Backbone features are computed once an image.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import betabinom
from torch import Tensor

import continuad
from continuad.core.batches import in_order
from continuad.core.detector import owners_of
from continuad.core.thresholds import conformal_place
from continuad.core.types import Chosen, ImageSet, Joined, Task
from continuad.data.known import named_stream
from continuad.data.splits import val_split
from continuad.detectors._frozen_features import FeatureStatistics
from continuad.models.registry import make_detector, make_strategy

RATES = (0.01, 0.05, 0.1)
DETECTORS = ("padim", "patchcore", "spade")
MOST = 80
COLUMNS = [
    *("detector", "product", "split", "thresholds_from", "images", "rate", "promised"),
    *("fresh", "realised", "test_good", "realised_test"),
]


class Remembered:
    """Levels of images that were embedded before, by their pixels."""

    def __init__(self, detector: FeatureStatistics, images: ImageSet):
        self.rows: dict[int, list[Tensor]] = {}
        with torch.no_grad():
            for batch in in_order(images, detector.batch_size):
                levels = detector.embed(batch.image)
                for i, owner in enumerate(owners_of(batch.image).tolist()):
                    self.rows[owner] = [level[i] for level in levels]

    def __call__(self, images: Tensor) -> list[Tensor]:
        found = [self.rows[owner] for owner in owners_of(images).tolist()]
        return [torch.stack(level) for level in zip(*found, strict=True)]


def realised(
    detector: FeatureStatistics, task: Task, split: int, source: str, good: list[int]
) -> Iterator[dict[str, object]]:
    """A row for each rate."""
    order = np.random.default_rng([split, len(good)]).permutation(good)
    half = min(MOST, len(good) // 2)
    every: ImageSet = Joined((task.train, task.val))  # type: ignore[assignment]
    learn, fresh = (Chosen(every, order[at].tolist()) for at in (slice(half), slice(half, half + MOST)))
    train, val = val_split(half, 0.1, split, task.name)
    strategy = make_strategy("naive", detector)
    strategy.thresholds_from = source
    strategy.learn(Task(0, task.name, Chosen(learn, train), Chosen(learn, val), task.test))  # type: ignore[arg-type]
    known = Chosen(task.test, np.flatnonzero(~task.test.labels).tolist())
    scores = [
        np.concatenate([strategy.predict(batch.image).score.numpy() for batch in in_order(part, 16)])
        for part in (fresh, known)
    ]
    for rate in RATES:
        found = strategy.thresholds(0, rate)
        shares = [float((part > found.image).mean()) for part in scores]
        yield {
            "product": task.name,
            "split": split,
            "thresholds_from": source,
            "images": half,
            "rate": rate,
            "promised": found.rate,
            "fresh": len(scores[0]),
            "realised": shares[0],
            "test_good": len(scores[1]),
            "realised_test": shares[1],
        }


def measure(asked: argparse.Namespace, path: Path) -> None:
    """Write the rows that are not there yet."""
    done = set()
    if path.is_file():
        there = pd.read_csv(path)
        done = set(there[["detector", "product", "split", "thresholds_from"]].itertuples(index=False, name=None))
    tasks = continuad.open_stream(named_stream("realset", asked.root), image_size=asked.image_size)
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        if not done:
            table.writeheader()
        for name in asked.detector.split(","):
            for task in tasks:
                plain = make_detector(name, image_size=asked.image_size)
                seen = Remembered(plain, Joined((task.train, task.val, task.test)))  # type: ignore[arg-type]
                for split in range(asked.splits):
                    for source in ("train", "val"):
                        if (name, task.name, split, source) in done:
                            continue
                        detector = make_detector(name, image_size=asked.image_size)
                        detector.embed = seen  # type: ignore[method-assign, assignment]
                        good = list(range(len(task.train) + len(task.val)))
                        for row in realised(detector, task, split, source, good):  # type: ignore[arg-type]
                            table.writerow({"detector": name, **row})
                        file.flush()
                print(name, task.name, flush=True)


def report(rows: pd.DataFrame, into: Path) -> None:
    """Write the tables and draw the figure."""
    low, high = band(rows)
    rows = rows.assign(above=rows["realised"] > high, below=rows["realised"] < low)
    every = ["thresholds_from", "detector", "rate"]
    what = {"promised": "mean", "realised": "mean", "above": "mean", "below": "mean", "realised_test": "mean"}
    table = rows.groupby([*every, "product"], sort=False).agg(what)
    means = table.groupby(every, sort=False).mean()
    for name, one in (("means", means), ("products", table)):
        one.round(4).to_csv(into / f"{name}.csv")
        print(one.round(4).to_string())
    draw(rows).savefig(into / "guarantee.svg", bbox_inches="tight")


def band(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The shares of fresh images between which realised false alarms lie in nine splits of ten at least, if calibrated
    and fresh images are alike: the k-th of n scores is exceeded by Beta-binomial(m; n + 1 - k, k) of m fresh ones. At
    most one split of twenty lies above, and one below."""
    n, m = rows["images"].to_numpy(), rows["fresh"].to_numpy()
    n = np.where(rows["thresholds_from"] == "val", np.maximum(1, np.round(n * 0.1)), n)
    k = np.array([conformal_place(int(count), rate) for count, rate in zip(n, rows["rate"], strict=True)])
    low, high = (betabinom.ppf(share, m, n + 1 - k, k) / m for share in (0.05, 0.95))
    return np.asarray(low), np.asarray(high)


def draw(rows: pd.DataFrame) -> Figure:
    """Promised and realised rates, a point for each product and rate, bars from the 5th to the 95th split of 100."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharey=True, sharex=True)
    for axis, source in zip(axes, ("train", "val"), strict=True):
        part = rows[rows["thresholds_from"] == source]
        for place, (name, one) in enumerate(part.groupby("detector", sort=False)):
            groups = one.groupby(["product", "rate"])
            promised, mean = groups["promised"].mean() * 1.04**place, groups["realised"].mean()
            low, high = (groups["realised"].quantile(q) for q in (0.05, 0.95))
            axis.errorbar(
                promised, mean, [(mean - low).clip(0), (high - mean).clip(0)], fmt="o", ms=4, lw=0.7, label=name
            )
        axis.axline((0, 0), slope=1, color="black", lw=0.8, ls=":")
        axis.set(xlabel="promised rate of false alarms", xlim=(0, 0.36), ylim=(0, 0.8))
        axis.set_title("all images, out of fold" if source == "train" else "a tenth of the images kept back")
    axes[0].set_ylabel("realised on fresh good images")
    axes[0].legend(frameon=False)
    return figure


def main() -> None:
    """Measure what is missing, then report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", required=True, help="folder that holds realset's products")
    options.add_argument("--into", default="docs/results/guarantee", help="folder for rows and figure")
    options.add_argument("--splits", type=int, default=50)
    options.add_argument("--image-size", type=int, default=128)
    options.add_argument("--detector", default=",".join(DETECTORS))
    asked = options.parse_args()
    into = Path(asked.into)
    into.mkdir(parents=True, exist_ok=True)
    measure(asked, into / "rows.csv")
    report(pd.read_csv(into / "rows.csv"), into)


if __name__ == "__main__":
    main()
