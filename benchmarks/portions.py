"""What is lost when a product is taught in portions? PatchCore's bank in one go, merged, and in equal shares.

    python benchmarks/portions.py FOLDER/screw [--bank 1MB] [--first 60] [--portions 10] [--size 6]

The first pictures and then some small portions of a product's good training pictures (256 pixels): all at once; as a
station's `update` does it, each portion's bank merged with the one before; and as the strategy `accumulate` does it for
tasks, an equal share of the bank for each. A row each: vectors, the mean distance of a picture's farthest patch from
the bank (pictures of the first portion, and fresh ones), and image AUROC on the product's test pictures.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import continuad
from continuad.core.batches import in_order
from continuad.core.types import Chosen, ImageSet, Joined, Task
from continuad.metrics.image import image_auroc
from continuad.models.registry import make_detector, make_strategy


def main() -> None:
    """Teach three times and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--bank", default="1MB")
    options.add_argument("--first", type=int, default=60)
    options.add_argument("--portions", type=int, default=10)
    options.add_argument("--size", type=int, default=6)
    asked = options.parse_args()
    (task,) = continuad.open_stream([asked.folder], image_size=256)
    every = Joined((task.train, task.val))
    cuts = [0, asked.first, *(asked.first + asked.size * k for k in range(1, asked.portions + 1))]

    def part(first: int, last: int, number: int = 0) -> Task:
        some = Chosen(every, range(first, last))  # type: ignore[arg-type]
        return Task(number, f"{number}", some, some, task.test.subset([]), task.bits)  # type: ignore[arg-type]

    def taught(strategy: str, *parts: Task) -> Any:
        made = make_strategy(strategy, make_detector("patchcore", image_size=256, bank=asked.bank))
        for one in parts:
            made.learn(one)
        return made.detector

    portions = [part(first, last, number) for number, (first, last) in enumerate(pairwise(cuts))]
    merged = taught("naive", portions[0])
    for portion in portions[1:]:
        merged.merge(taught("naive", portion).learned())
    made = {"one go": taught("naive", part(0, cuts[-1])), "merged": merged, "shares": taught("accumulate", *portions)}
    rows = []
    for name, detector in made.items():
        far = [_mean(detector.covering, part(*some).train) for some in ((0, cuts[1]), (cuts[-1], len(every)))]
        score = np.concatenate([detector.predict(batch.image).score.numpy() for batch in in_order(task.test, 16)])
        rows.append({"bank": name, "vectors": len(detector.stats["bank"]), "first": far[0], "fresh": far[1]})
        rows[-1]["image_auroc"] = image_auroc(score, task.test.labels)
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.3f"))


def _mean(covering: Any, images: ImageSet) -> float:
    found: list[Tensor] = [covering(batch.image) for batch in in_order(images, 16)]
    return float(torch.cat(found).mean())


if __name__ == "__main__":
    main()
