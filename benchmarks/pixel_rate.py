"""Which share of good pixels should lie above the pixel threshold? Tried on the drawn products, none of them real.

    python benchmarks/pixel_rate.py FOLDER [--image-size 128]

Draws the product line into FOLDER if it is empty. For every product and detector: pixel F1 of the masks of flagged
images for several shares, and for the threshold from the peaks of good maps. A table of means over products is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import continuad
from continuad.core.batches import in_order
from continuad.core.types import Task
from continuad.demo.line import write_line
from continuad.metrics.image import f1_from_counts
from continuad.models.registry import make_detector, make_strategy

SHARES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)


def f1_by_share(name: str, task: Task, size: int) -> list[float]:
    """Pixel F1 for each share, then for the peaks."""
    strategy = make_strategy("naive", make_detector(name, image_size=size))
    strategy.learn(task)
    good = [strategy.predict(batch.image, out_of_fold=True).map.numpy() for batch in in_order(task.all_good(), 16)]
    found = [strategy.predict(batch.image) for batch in in_order(task.test, 16)]
    maps, values = np.concatenate([one.map.numpy() for one in found]), np.concatenate(good)
    flagged = np.concatenate([one.score.numpy() for one in found]) > strategy.thresholds(0).image
    peaks = values.reshape(len(values), -1).max(1)
    limits = [*(np.quantile(values, 1 - share) for share in SHARES), np.quantile(peaks, 0.99, method="higher")]
    masks = task.test.masks
    decided = [(maps > limit) & flagged[:, None, None] for limit in limits]
    return [f1_from_counts(int((d & masks).sum()), int(d.sum()), int(masks.sum()), masks.size) for d in decided]


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--image-size", type=int, default=128)
    options.add_argument("--detector", default="padim,patchcore,spade")
    asked = options.parse_args()
    roots = sorted(path for path in asked.folder.glob("*") if path.is_dir())
    roots = roots or write_line(asked.folder, size=asked.image_size)
    tasks = continuad.open_stream(roots, image_size=asked.image_size)
    print("share of good pixels", *SHARES, "peaks")
    for name in asked.detector.split(","):
        means = np.mean([f1_by_share(name, task, asked.image_size) for task in tasks], 0)
        print(name, *(f"{value:.3f}" for value in means))


if __name__ == "__main__":
    main()
