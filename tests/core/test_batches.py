"""Which images reach a detector in which order, worked out by hand."""

from __future__ import annotations

from itertools import chain, islice

import pytest
import torch
from torch import Tensor
from toys import images_of

from continuad.core.batches import in_order, one_pass, shuffled, steps_of
from continuad.core.types import ImageSet


def numbered(count: int, first: int = 0) -> ImageSet:
    """Images whose every value is their number."""
    images = images_of(0, count, defects=False, seed=0, size=32)
    images.images[:] = torch.arange(first, first + count).view(count, 1, 1, 1).numpy()
    return images


def numbers(images: Tensor) -> list[int]:
    found: list[int] = images[:, 0, 0, 0].tolist()
    return found


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("count", "size", "batches"),
    [(5, 2, [[0, 1], [2, 3], [4]]), (4, 2, [[0, 1], [2, 3]]), (2, 3, [[0, 1]]), (0, 3, [])],
)
def test_in_order_every_image_comes_once_and_the_last_batch_may_be_short(
    count: int, size: int, batches: list[list[int]]
) -> None:
    assert [numbers(batch.image) for batch in in_order(numbered(count), size)] == batches


def test_every_epoch_has_each_image_once_in_an_order_of_its_own() -> None:
    """Five images in batches of two: an epoch is 2 + 2 + 1."""
    batches = list(islice(shuffled(5, 2, generator()), 6))
    assert [len(batch) for batch in batches] == [2, 2, 1, 2, 2, 1]
    first, second = ([*chain.from_iterable(batches[i : i + 3])] for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(5))
    assert first != second
    assert list(islice(shuffled(5, 2, generator()), 6)) == batches


def test_fewer_images_than_a_batch_are_a_short_batch_each_time() -> None:
    assert [sorted(batch) for batch in islice(shuffled(2, 8, generator()), 3)] == [[0, 1]] * 3


def test_one_pass_takes_new_images_and_then_replayed_ones() -> None:
    found = [numbers(images) for images in one_pass(numbered(3), numbered(3, 10), 2)]
    assert found == [[0, 1], [2], [10, 11], [12]]
    for none in (None, numbered(0)):
        assert [numbers(images) for images in one_pass(numbered(3), none, 2)] == [[0, 1], [2]]


def test_a_step_joins_new_images_with_as_many_replayed_ones() -> None:
    """Three new images are an epoch of two steps, four replayed ones one of two as well."""
    found = [numbers(images) for images in steps_of(numbered(3), numbered(4, 10), 2, range(4), generator())]
    assert [len(images) for images in found] == [4, 3, 4, 3]
    for a, b in (found[:2], found[2:]):
        assert sorted(a[:2] + b[:1]) == [0, 1, 2]
        assert sorted(a[2:] + b[1:]) == [10, 11, 12, 13]


@pytest.mark.parametrize("old", [None, numbered(0)])
def test_without_replayed_images_a_step_has_new_ones_alone(old: ImageSet | None) -> None:
    found = [numbers(images) for images in steps_of(numbered(4), old, 2, range(3), generator())]
    assert [len(images) for images in found] == [2, 2, 2]
    assert sorted(found[0] + found[1]) == [0, 1, 2, 3]


def test_steps_that_begin_in_the_middle_are_those_of_the_whole_and_load_nothing_before() -> None:
    class Counting(ImageSet):
        loaded = 0

        def __getitems__(self, indices):  # type: ignore[no-untyped-def]
            Counting.loaded += len(indices)
            return super().__getitems__(indices)

    new, old = (Counting(**vars(images)) for images in (numbered(3), numbered(4, 10)))
    whole = [numbers(images) for images in steps_of(new, old, 2, range(6), generator())]
    Counting.loaded = 0
    assert [numbers(images) for images in steps_of(new, old, 2, range(4, 6), generator())] == whole[4:]
    assert Counting.loaded == len(whole[4]) + len(whole[5])
