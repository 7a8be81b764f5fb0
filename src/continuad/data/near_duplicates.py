"""Test images that were learned from: the same file, the same pixels, or nearly the same picture.

"Nearly the same" compares grey thumbnails of 64 x 64 by their correlation, which ignores brightness and contrast: a
re-saved, re-exposed or slightly noisier copy stays above `NEAR`, another part of the same kind does not. This threshold
was set on eight sets of real parts, where the best match of a test image among the training images was at most 0.9946
for new parts (screws, solar cells, boards, tiles, nuts ... photographed in one pose) and 0.9980 to 0.9986 for the
pictures of one spindle taken minutes apart. Where all parts look the same even at this scale, nothing is reported.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 64
NEAR = 0.997
_LEAST_CONTRAST = 1.0  # grey levels; below it a correlation compares noise


def thumbnail(rgb: Image.Image) -> np.ndarray:
    """(SIDE * SIDE,) float32 grey of mean 0 and length 1; all 0 for an even surface, which is like nothing."""
    grey = rgb.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float32).ravel()
    values = values - values.mean()
    if values.std() < _LEAST_CONTRAST:
        return np.zeros_like(values)
    return values / np.linalg.norm(values)


def all_alike(train: np.ndarray) -> bool:
    """Whether most of the (M, D) thumbnails are as like their mean as a copy is to its original."""
    mean = train.mean(axis=0)
    length = np.linalg.norm(mean)
    return bool(length > 0 and np.median(train @ (mean / length)) >= NEAR)


def closest(test: np.ndarray, train: np.ndarray, rows: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """For each of (N, D) thumbnails the position of the most similar of (M, D), and the correlation."""
    where = np.zeros(len(test), dtype=np.int64)
    best = np.zeros(len(test), dtype=np.float32)
    for start in range(0, len(test), rows):
        correlation = test[start : start + rows] @ train.T
        where[start : start + rows] = correlation.argmax(axis=1)
        best[start : start + rows] = correlation.max(axis=1)
    return where, best
