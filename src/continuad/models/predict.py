"""Ask a learned strategy about image files: score, verdict, map and mask in the picture's own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from continuad.core.strategy import Strategy
from continuad.data.decode import read_picture, to_array


class Verdict(NamedTuple):
    """What a strategy says of one file.

    Attributes:
        path: the file.
        score: raw score; higher is more anomalous.
        anomalous: whether the score exceeds the limit of the task that was given or inferred, else the one for
            everything.
        map: (H, W) float32 anomaly map in the size of the original picture.
        mask: (H, W) bool predicted defect, in the same size.
        task: the task it was taken for (-1: none of the known ones), or None.
    """

    path: Path
    score: float
    anomalous: bool
    map: np.ndarray
    mask: np.ndarray
    task: int | None


def predict_files(
    strategy: Strategy, paths: Iterable[str | Path], *, task: int | None = None, bits: int = 16
) -> Iterator[Verdict]:
    """Predict files one by one, decoded exactly as for learning.

    Args:
        task: the true task, if it is known; needed by strategies that do not infer it.
        bits: white level of grey pictures above 8 bits (`Stream.bits` of the product).

    Raises:
        ContinuadError: a file cannot be read, or the strategy has learned nothing yet.
    """
    detector = strategy.detector
    for path in map(Path, paths):
        picture = read_picture(path, bits).rgb
        image = torch.from_numpy(to_array(picture, detector.image_size))[None]
        found = strategy.predict(image.to(detector.device), task)
        known = int(found.task[0]) if found.task is not None else None
        thresholds = strategy.thresholds(known if task is None else task)
        scores, maps = found.score.cpu().numpy(), found.map.cpu().numpy()
        flagged, masks = detector.rule.decide(scores, maps, thresholds)
        anomaly_map = np.asarray(Image.fromarray(maps[0]).resize(picture.size, Image.Resampling.BILINEAR))
        mask = np.asarray(Image.fromarray(masks[0]).resize(picture.size, Image.Resampling.NEAREST))
        yield Verdict(path, float(scores[0]), bool(flagged[0]), anomaly_map, mask, known)
