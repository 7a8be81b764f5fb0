"""The order in which images reach a detector, and how many steps it gets."""

import pytest
import torch
from torch import Tensor
from toys import ToyAutoencoder, images_of

from continuad.batches import one_pass, steps_of
from continuad.fit import fit
from continuad.strategies.naive import Naive


def sizes(new: int, old: int, batch: int, steps: int) -> list[int]:
    sets = [images_of(0, n, defects=False, seed=0, size=32) if n else None for n in (new, old)]
    assert sets[0] is not None
    generator = torch.Generator().manual_seed(0)
    return [len(x) for x in steps_of(sets[0], sets[1], batch, steps, generator)]


def test_bl_109_a_large_buffer_adds_as_many_images_a_step_as_are_new() -> None:
    assert sizes(new=10, old=200, batch=10, steps=3) == [20, 20, 20]


def test_bl_114_fewer_images_than_a_batch_give_one_short_batch_an_epoch() -> None:
    assert sizes(new=3, old=0, batch=8, steps=2) == [3, 3]


def test_statistics_see_every_image_once() -> None:
    new, old = (images_of(k, n, defects=False, seed=0, size=32) for k, n in ((0, 5), (1, 3)))
    assert [len(x) for x in one_pass(new, old, 4)] == [4, 1, 3]


@pytest.mark.parametrize("images", [2, 30])
def test_budget_counts_optimiser_steps_whatever_the_amount_of_data(images: int) -> None:
    detector = ToyAutoencoder(image_size=32)
    taken = 0

    class Counting(Naive):
        def on_step(self) -> None:
            nonlocal taken
            taken += 1

        def penalty(self, images: Tensor) -> Tensor | float:
            return 0.0

    data = images_of(0, images, defects=False, seed=0, size=32)
    generator = torch.Generator().manual_seed(0)
    steps = fit(detector, data, None, data, Counting(detector), statistics="restart", generator=generator, steps=7)
    assert steps == taken == 7


def test_learning_lowers_the_reconstruction_error() -> None:
    data = images_of(0, 12, defects=False, seed=0)
    detector = ToyAutoencoder()
    x = torch.from_numpy(data.images)
    before = float(detector.predict(x).map.detach().mean())
    fit(
        detector,
        data,
        None,
        data,
        Naive(detector),
        statistics="restart",
        generator=torch.Generator().manual_seed(0),
        steps=150,
    )
    assert float(detector.predict(x).map.detach().mean()) < 0.5 * before
