"""Tiny images on disk for the tests of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

Save = Callable[..., Path]


@pytest.fixture
def save() -> Save:
    """`save(path, values, **options)`: write an image, by default a noisy 12 x 10 one that no other equals."""
    made = 0

    def write(path: Path, values: np.ndarray | int | None = None, **options: object) -> Path:
        nonlocal made
        made += 1
        if values is None:
            values = np.random.default_rng(made).integers(40, 200, (10, 12, 3))
        elif isinstance(values, int):
            values = np.full((10, 12), values)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path, **options)
        return path

    return write


@pytest.fixture
def make_product(save: Save) -> Callable[..., Path]:
    """`make_product(root, train=4, good=2, crack=3)`: an MVTec folder; every defect image has a mask of four pixels."""

    def make(root: Path, *, train: int = 4, good: int = 2, masks: bool = True, **defects: int) -> Path:
        for i in range(train):
            save(root / "train" / "good" / f"{i:03}.png")
        for i in range(good):
            save(root / "test" / "good" / f"{i:03}.png")
        mask = np.zeros((10, 12))
        mask[4:6, 4:6] = 255
        for defect, number in defects.items():
            for i in range(number):
                save(root / "test" / defect / f"{i:03}.png")
                if masks:
                    save(root / "ground_truth" / defect / f"{i:03}_mask.png", mask)
        return root

    return make


@pytest.fixture
def is_mapped() -> Callable[[np.ndarray], bool]:
    """Whether an array's bytes lie in a file rather than in memory of its own."""

    def mapped(array: np.ndarray) -> bool:
        while isinstance(array.base, np.ndarray):
            array = array.base
        return isinstance(array.base, pa.Buffer)

    return mapped
