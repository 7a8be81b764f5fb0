"""Replay memory: its budget, its shares, its held-out part."""

import pytest
from toys import images_of, stream

from continuad.cost import footprint
from continuad.errors import ContinuadError
from continuad.memory import Memory, equal_shares
from continuad.types import Task


def task(index: int, train: int, val: int = 4) -> Task:
    sets = [images_of(index, n, defects=False, seed=s, size=32) for s, n in enumerate((train, val))]
    return Task(index, f"t{index}", *sets, images_of(index, 4, defects=True, seed=9, size=32))


@pytest.mark.parametrize(
    ("available", "budget", "shares"),
    [
        ({0: 200, 1: 20, 2: 300}, 100, [40, 20, 40]),
        ({0: 5, 1: 5}, 100, [5, 5]),
        ({0: 9, 1: 9, 2: 9}, 10, [4, 3, 3]),
        ({0: 9, 1: 9, 2: 9}, 2, [1, 1, 0]),
    ],
)
def test_equal_shares_by_hand(available: dict[int, int], budget: int, shares: list[int]) -> None:
    assert [equal_shares(available, budget)[t] for t in sorted(available)] == shares


def test_bl_111_the_budget_is_used_fully_and_never_exceeded() -> None:
    memory = Memory(60)
    for index, train in enumerate((200, 20, 300)):
        memory.add(task(index, train))
        assert len(memory) <= 60
    counts = [int((memory.store["task"] == t).sum()) for t in range(3)]
    assert sum(counts) == 60
    assert max(counts) - min(counts) <= 1


def test_a_share_keeps_that_part_of_every_task_for_ever() -> None:
    memory = Memory("10%")
    for index, (train, val) in enumerate(((180, 20), (18, 2), (3, 1))):
        memory.add(task(index, train, val))
    assert [int((memory.store["task"] == t).sum()) for t in range(3)] == [20, 2, 1]
    assert len(memory.part(held_out=True)) == 2  # a tenth of the first task's 20
    assert footprint(memory).additional == pytest.approx(23 * (3 * 32 * 32 + 8 + 1) / 1e6)


@pytest.mark.parametrize("exemplars", [0, -3, "0%", "120%", "ten%", "many", "10", "nan%"])
def test_what_is_neither_a_number_nor_a_share_is_refused(exemplars: int | str) -> None:
    with pytest.raises(ContinuadError, match=r"exemplar"):
        Memory(exemplars)


def test_exemplars_are_raw_bytes_of_their_own() -> None:
    """300 images of 256 x 256 are the thesis's 59.0 MB; here eight of 32 x 32."""
    memory, one = Memory(8), task(0, 20)
    memory.add(one)
    assert memory.store["images"].numel() == 8 * 3 * 32 * 32
    assert footprint(memory).additional == pytest.approx((8 * 3 * 32 * 32 + 8 * 8 + 8) / 1e6)
    before = memory.store["images"].clone()
    one.train.images[:] = 0
    assert (memory.store["images"] == before).all()
    assert round(300 * 3 * 256 * 256 / 1e6, 1) == 59.0
    assert round(800 * 3 * 256 * 256 / 1e6, 1) == 157.3


def test_held_out_exemplars_were_never_trained_on_and_stay_when_shares_shrink() -> None:
    memory = Memory(20)
    tasks = [task(t, 30) for t in range(2)]
    for one in tasks:
        memory.add(one)
    held = {image.tobytes() for image in memory.part(held_out=True).images}
    learned = {image.tobytes() for image in memory.part(held_out=False).images}
    assert held
    assert not held & learned
    assert held <= {image.tobytes() for one in tasks for image in one.val.images}
    assert learned <= {image.tobytes() for one in tasks for image in one.train.images}


def test_the_same_seed_keeps_the_same_exemplars() -> None:
    kept = []
    for seed in (0, 0, 1):
        memory = Memory(6, seed=seed)
        for one in stream(2):
            memory.add(one)
        kept.append(memory.store["images"])
    assert (kept[0] == kept[1]).all()
    assert (kept[0] != kept[2]).any()
