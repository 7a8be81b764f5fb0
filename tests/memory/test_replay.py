"""Replay memory: its budget, its shares, its held-out part."""

import pytest
import torch
from toys import images_of, stream

from continuad.core.footprint import footprint
from continuad.core.types import Task
from continuad.errors import ContinuadError
from continuad.memory.codec import Coding, decode, encode
from continuad.memory.replay import Memory, UniformMemory, equal_shares


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
    assert len(memory.part(val=True)) == 2  # a tenth of the first task's 20
    assert footprint(memory).additional == pytest.approx((23 * (3 * 32 * 32 + 8 + 8 + 1) + 16) / 1e6)


@pytest.mark.parametrize("exemplars", [0, -3, "0%", "120%", "ten%", "many", "10", "nan%"])
def test_what_is_neither_a_number_nor_a_share_is_refused(exemplars: int | str) -> None:
    with pytest.raises(ContinuadError, match=r"exemplar"):
        Memory(exemplars)


def test_exemplars_are_raw_bytes_of_their_own() -> None:
    """300 images of 256 x 256 are the thesis's 59.0 MB; here eight of 32 x 32."""
    memory, one = Memory(8), task(0, 20)
    memory.add(one)
    assert memory.store["files"].numel() == 8 * 3 * 32 * 32
    assert footprint(memory).additional == pytest.approx((8 * 3 * 32 * 32 + 8 * (8 + 8 + 1) + 16) / 1e6)
    before = memory.store["files"].clone()
    one.train.images[:] = 0
    assert (memory.store["files"] == before).all()
    assert round(300 * 3 * 256 * 256 / 1e6, 1) == 59.0
    assert round(800 * 3 * 256 * 256 / 1e6, 1) == 157.3


def test_held_out_exemplars_were_never_trained_on_and_stay_when_shares_shrink() -> None:
    memory = Memory(20)
    tasks = [task(t, 30) for t in range(2)]
    for one in tasks:
        memory.add(one)
    held = {file.numpy().tobytes() for file in memory.part(val=True).files}
    learned = {file.numpy().tobytes() for file in memory.part(val=False).files}
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
        kept.append(memory.store["files"])
    assert (kept[0] == kept[1]).all()
    assert (kept[0] != kept[2]).any()


@pytest.mark.parametrize("coding", ["raw", "png", "webp", "jpeg"])
def test_bytes_are_never_exceeded_and_shared_equally(coding: Coding) -> None:
    memory = Memory("0.02MB", coding=coding)
    for index in range(3):
        memory.add(task(index, 30))
    sizes = torch.stack([memory.store["sizes"][memory.store["task"] == t].sum() for t in range(3)])
    assert 20_000 * 0.8 < int(sizes.sum()) <= 20_000
    assert int(sizes.max() - sizes.min()) <= int(memory.store["sizes"].max())


def test_what_codings_keep_of_an_image() -> None:
    """PNG every pixel; WebP and JPEG nearly, in far fewer bytes, on what is smooth as photographs are."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = torch.stack([x * 4, y * 4, (x + y) * 2]).to(torch.uint8)
    sizes = {}
    for coding in ("raw", "png", "webp", "jpeg"):
        file = encode(image, coding)
        again = decode(file, coding, (64, 64))
        sizes[coding] = len(file)
        assert int((again.int() - image.int()).abs().max()) <= (8 if coding in ("webp", "jpeg") else 0)
    assert sizes["raw"] == 3 * 64 * 64
    assert max(sizes["webp"], sizes["jpeg"]) < sizes["raw"] / 5


def test_a_uniform_sample_by_hand() -> None:
    """Five images then twenty: whoever has one of the four smallest keys stays, wherever it came from."""
    memory = UniformMemory(4)
    memory.add(task(0, 4, 1))
    first = memory.store["key"]
    assert first.shape == (4,)
    memory.add(task(1, 18, 2))
    keys = torch.rand(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(memory.store["key"].sort().values, torch.cat([first, keys]).sort().values[:4])


def test_a_uniform_sample_holds_tasks_in_proportion() -> None:
    """Over 200 seeds, 10 of 40 images seen: a task of 30 has 7.5 of them on average."""
    counts = []
    for seed in range(200):
        memory = UniformMemory(10, seed=seed)
        for index, train in enumerate((29, 9)):
            memory.add(task(index, train, 1))
        counts.append(int((memory.store["task"] == 0).sum()))
    assert sum(counts) / len(counts) == pytest.approx(7.5, abs=0.3)
