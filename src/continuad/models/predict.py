"""Ask a learned strategy about image files: score, verdict, map and mask in the picture's own size."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from continuad.core.strategy import Strategy
from continuad.data.decode import MAX_PIXELS, read_picture, to_array
from continuad.data.product import images_in
from continuad.data.wide import is_above_8_bits
from continuad.errors import ContinuadError


class Verdict(NamedTuple):
    """What a strategy says of one file.

    Attributes:
        path: the file.
        score: on the scale of `threshold`; higher is more anomalous.
        threshold: the score above which an image is anomalous: the one that was given, else that of the task that was
            given or inferred, else the one for everything.
        anomalous: whether the score exceeds the threshold.
        map: (H, W) float32 anomaly map in the size of the original picture.
        mask: (H, W) bool predicted defect, in the same size.
        task: name of the task it was taken for, or that was given; "" for none of the known ones; None where the
            strategy neither was given nor infers one.
    """

    path: Path
    score: float
    threshold: float
    anomalous: bool
    map: np.ndarray
    mask: np.ndarray
    task: str | None

    @property
    def verdict(self) -> str:
        """ "good" or "defective"; "unknown" for a picture of none of the known tasks, whose score means nothing."""
        if self.task == "":
            return "unknown"
        return "defective" if self.anomalous else "good"


def predict_files(
    strategy: Strategy,
    paths: str | Path | Iterable[str | Path],
    *,
    task: int | str | None = None,
    bits: int | None = None,
    threshold: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Verdict]:
    """Predict files one by one, decoded exactly as for learning.

    Args:
        paths: files, or folders whose images are meant; one or several.
        task: the true task, if it is known, by name or number; needed by strategies that do not infer it.
        bits: white level of pictures above 8 bits; None: the one that the task was learned with.
        threshold: in place of the model's own, a finite number on the scale of `Verdict.score`.
        max_pixels: pictures with more are refused.

    Raises:
        ContinuadError: a file cannot be read, there is none, no such task, or the strategy has learned nothing yet; the
            threshold is no finite number; a picture above 8 bits where the task had none and `bits` is not given.
    """
    if threshold is not None and not _is_finite(threshold):
        raise ContinuadError(f"threshold={threshold!r} must be a finite number on the scale of the scores")
    for path in _files(paths):
        yield _verdict(strategy, path, task, bits, threshold, max_pixels)


def _is_finite(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _files(paths: str | Path | Iterable[str | Path]) -> Iterator[Path]:
    several = [paths] if isinstance(paths, str | Path) else paths
    for path in map(Path, several):
        if not path.exists():
            part = next(part for part in (*reversed(path.parents), path) if not part.exists())
            raise ContinuadError(f"{path}: there is no {part}. Name an image or a folder of images.")
        if not path.is_dir():
            yield path
            continue
        found = images_in(path)
        if not found:
            raise ContinuadError(f"{path}: no images in this folder or below it. Name a folder of images.")
        yield from found


def _verdict(
    strategy: Strategy,
    path: Path,
    task: int | str | None,
    bits: int | None,
    threshold: float | None,
    max_pixels: int,
) -> Verdict:
    detector, level = strategy.detector, _white_level(strategy, task) if bits is None else bits
    picture = read_picture(path, level or 16, max_pixels)
    if bits is None and level == 8 and picture.clipped:
        raise ContinuadError(
            f"{path}: above 8 bits, and the model learned pictures of 8 bits alone. If they look alike otherwise, "
            "set the option bits to those of the camera, such as 12"
        )
    if level is None and is_above_8_bits(picture.mode):
        levels = ", ".join(f"{known.name} {known.bits or 'several'}" for known in strategy.tasks)
        raise ContinuadError(
            f"{path}: above 8 bits, and the tasks were learned with different white levels ({levels} bits). "
            "Name the task of the picture, or set the option bits"
        )
    image = torch.from_numpy(to_array(picture.rgb, detector.image_size))[None]
    found = strategy.predict(image.to(detector.device), task)
    names = {known.index: known.name for known in strategy.tasks}
    given = next((known.index for known in strategy.tasks if task in (known.index, known.name)), None)
    known = int(found.task[0]) if found.task is not None else given
    thresholds = strategy.thresholds(known if known in names else None)
    if threshold is not None:
        thresholds = thresholds._replace(image=float(threshold))
    scores, maps = found.score.cpu().numpy(), found.map.cpu().numpy()
    flagged, masks = strategy.calibration.rule.decide(scores, maps, thresholds)
    size = picture.rgb.size
    return Verdict(
        path,
        float(scores[0]),
        thresholds.image,
        bool(flagged[0]),
        np.asarray(Image.fromarray(maps[0]).resize(size, Image.Resampling.BILINEAR)),
        np.asarray(Image.fromarray(masks[0]).resize(size, Image.Resampling.NEAREST)),
        None if known is None else names.get(known, ""),
    )


def _white_level(strategy: Strategy, task: int | str | None) -> int | None:
    """The white level of the task, or the one that all tasks share; None if neither is known."""
    levels = {known.bits for known in strategy.tasks if task is None or task in (known.index, known.name)}
    return levels.pop() if len(levels) == 1 else None
