"""A few predictions of every task, kept for the report's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from continuad.benchmark.evaluate import Outcome
from continuad.core.thresholds import Thresholds
from continuad.core.types import ImageSet, Task
from continuad.files import replace_file

MOST = 6
LONGEST = 60  # characters of a task's name in a file's name; its place in the stream tells files apart


def choose(test: ImageSet) -> list[int]:
    """One good image and the first of every defect type, then second ones, up to `MOST`; never by score. Of good images
    alone the first ones."""
    by_defect: dict[str, list[int]] = {}
    for i, defect in enumerate(test.defects):
        by_defect.setdefault(defect, []).append(i)
    queues = sorted(by_defect.items(), key=lambda item: (item[0] != "good", item[0]))
    ranked = sorted((place, q) for q, (_, images) in enumerate(queues) for place in range(len(images)))
    alone = len(queues) == 1
    chosen = [queues[q][1][place] for place, q in ranked if alone or place == 0 or queues[q][0] != "good"]
    return chosen[:MOST]


def save_examples(folder: Path, task: Task, outcome: Outcome, thresholds: Thresholds) -> None:
    """Write `<index>_<task>.npz` (no pickle): images, masks, raw maps, verdicts and the task's thresholds."""
    at = choose(task.test)
    test = task.test.subset(at)
    folder.mkdir(parents=True, exist_ok=True)
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in task.name)
    path = folder / f"{task.index:02d}_{safe[:LONGEST]}.npz"
    replace_file(
        path,
        lambda new: np.savez_compressed(
            new,
            image=test.images.transpose(0, 2, 3, 1),
            mask=test.masks,
            mask_known=test.mask_known,
            map=outcome.maps[at],
            decision=outcome.decided[at],
            score=outcome.scores[at],
            label=test.labels,
            flagged=outcome.flagged[at],
            name=np.array([f"{d}/{p.name}" for d, p in zip(test.defects, test.paths, strict=True)]),
            centre=np.float32(thresholds.centre),
            threshold=np.float32(thresholds.pixel),
        ),
    )
