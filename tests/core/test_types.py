"""Images and their truth keep together, however they are picked out and joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from continuad.core.types import Batch, ImageSet, Joined


def numbered(*values: int) -> ImageSet:
    """Images of 4 x 5 pixels that hold their number. Odd ones are anomalous, at pixel (0, number)."""
    n = np.array(values, np.int64)
    masks = np.zeros((len(n), 4, 5), bool)
    masks[np.flatnonzero(n % 2), 0, n[n % 2 == 1]] = True
    return ImageSet(
        np.broadcast_to(n[:, None, None, None], (len(n), 3, 4, 5)).astype(np.uint8),
        n % 2 == 1,
        masks,
        n != 3,
        tuple("spot" if v % 2 else "good" for v in values),
        tuple(Path(f"{v}.png") for v in values),
        tuple((10 + v, 20 + v) for v in values),
    )


def numbers(batch: Batch) -> list[int]:
    assert batch.image.dtype == torch.uint8
    assert batch.mask.dtype == batch.label.dtype == torch.bool
    assert batch.label.tolist() == [v % 2 == 1 for v in batch.image[:, 0, 0, 0].tolist()]
    assert batch.mask.flatten(1).any(1).tolist() == batch.label.tolist()
    return batch.image[:, 2, 3, 4].tolist()


def test_good_images_have_an_empty_mask_each() -> None:
    images = torch.ones(2, 3, 4, 5, dtype=torch.uint8)
    batch = Batch.good(images)
    assert batch.image is images
    assert batch.mask.tolist() == [[[False] * 5] * 4] * 2
    assert batch.label.tolist() == [False, False]
    assert batch.mask.dtype == batch.label.dtype == torch.bool


def test_images_come_in_the_order_asked_for() -> None:
    images = numbered(0, 1, 2, 3)
    assert len(images) == 4
    assert numbers(images.__getitems__([3, 0, 0])) == [3, 0, 0]
    one = images[1]
    assert (one.image.shape, one.mask.shape, one.label.shape) == ((3, 4, 5), (4, 5), ())
    assert numbers(Batch(one.image[None], one.mask[None], one.label[None])) == [1]
    assert len(images.__getitems__([]).image) == 0


def test_a_subset_takes_everything_along() -> None:
    some = numbered(0, 1, 2, 3).subset([3, 0])
    assert numbers(some.__getitems__([0, 1])) == [3, 0]
    assert some.mask_known.tolist() == [False, True]
    assert some.defects == ("spot", "good")
    assert some.paths == (Path("3.png"), Path("0.png"))
    assert some.sizes == ((13, 23), (10, 20))
    none = some.subset([])
    assert (len(none), none.paths, none.sizes) == (0, (), ())


def test_joined_sets_are_counted_through() -> None:
    joined = Joined((numbered(0, 1), numbered(), numbered(2, 3, 4)))
    assert len(joined) == 5
    assert numbers(joined.__getitems__([4, 1, 2, 0])) == [4, 1, 2, 0]
    for index in (1, 3):
        one = joined[index]
        assert numbers(Batch(one.image[None], one.mask[None], one.label[None])) == [index]
    with pytest.raises(IndexError):
        joined[5]
