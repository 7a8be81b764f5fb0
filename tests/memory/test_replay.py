"""Replay memory: its budget, its shares, its val part."""

import pytest
import torch
from toys import images_of, stream

from continuad.core.footprint import footprint
from continuad.core.types import ImageSet, Task
from continuad.errors import ContinuadError
from continuad.memory.codec import CodedImages, Coding
from continuad.memory.replay import Memory, UniformMemory, equal_shares


def task(index: int, train: int, val: int = 4) -> Task:
    sets = [images_of(index, n, defects=False, seed=s, size=32) for s, n in enumerate((train, val))]
    return Task(index, f"t{index}", *sets, images_of(index, 4, defects=True, seed=9, size=32))


def pixels(images: ImageSet | CodedImages) -> set[bytes]:
    """The images themselves, to compare collections by what they hold."""
    return {images[i].image.contiguous().numpy().tobytes() for i in range(len(images))}


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


def test_the_budget_is_used_fully_and_never_exceeded() -> None:
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
    assert footprint(memory).additional == pytest.approx((23 * (3 * 32 * 32 + 8 + 8 + 2) + 16) / 1e6)


@pytest.mark.parametrize(("share", "kept"), [("50%", 100), ("99.5%", 199), ("100%", 200), ("0.1%", 1)])
def test_a_share_by_hand(share: str, kept: int) -> None:
    memory = Memory(share)
    memory.add(task(0, 180, 20))
    assert len(memory) == kept


@pytest.mark.parametrize("exemplars", [0, -3, "0%", "100.5%", "120%", "ten%", "many", "10", "nan%"])
def test_what_is_neither_a_number_nor_a_share_is_refused(exemplars: int | str) -> None:
    with pytest.raises(ContinuadError, match=r"exemplar"):
        Memory(exemplars)


def test_exemplars_are_raw_bytes_of_their_own() -> None:
    memory, one = Memory(8), task(0, 20)
    memory.add(one)
    assert memory.store["files"].numel() == 8 * 3 * 32 * 32
    assert footprint(memory).additional == pytest.approx((8 * 3 * 32 * 32 + 8 * (8 + 8 + 2) + 16) / 1e6)
    before = memory.store["files"].clone()
    one.train.images[:] = 0
    assert (memory.store["files"] == before).all()


def test_an_unknown_coding_is_refused_with_those_there_are() -> None:
    with pytest.raises(ContinuadError, match=r"^coding 'gif' is not known; use one of raw, png, webp, jpeg$"):
        Memory(8, coding="gif")  # type: ignore[arg-type]


def test_val_exemplars_were_never_trained_on_and_stay_when_shares_shrink() -> None:
    memory = Memory(20)
    tasks = [task(t, 30) for t in range(2)]
    for one in tasks:
        memory.add(one)
    for t, one in enumerate(tasks):
        val, train = pixels(memory.part(val=True, task=t)), pixels(memory.part(val=False, task=t))
        assert (len(val), len(train)) == (1, 9), "each has ten, a tenth of them for val"
        assert val <= pixels(one.val)
        assert train <= pixels(one.train)
    assert pixels(memory.part(val=True)) == pixels(memory.part(True, 0)) | pixels(memory.part(True, 1))


@pytest.mark.parametrize("kind", [Memory, UniformMemory])
def test_of_a_task_that_is_all_in_one_every_exemplar_is_learned_from_and_sets_thresholds(kind: type[Memory]) -> None:
    memory, tasks = kind(20), [task(t, 26).with_all_in_one() for t in range(2)]
    for number, one in enumerate(tasks):
        memory.add(one)
        assert len(memory.part(val=False)) == len(memory.part(val=True)) == len(memory) == 20
        assert memory.known() == list(range(number + 1))
    for t, one in enumerate(tasks):
        mine = pixels(memory.part(val=False, task=t))
        assert mine == pixels(memory.part(val=True, task=t))
        assert 0 < len(mine) < 20
        assert mine <= pixels(one.train)
    assert pixels(memory.val_by_task(but=1)[0]) == pixels(memory.part(False, 0))


@pytest.mark.parametrize("kind", [Memory, UniformMemory])
def test_a_task_that_is_all_in_one_offers_each_image_once(kind: type[Memory]) -> None:
    memory, one = kind(100), task(0, 6, 4)
    memory.add(one.with_all_in_one())
    assert len(memory) == 10
    assert pixels(memory.part(val=False)) == pixels(one.train) | pixels(one.val)


@pytest.mark.parametrize(("share", "kept"), [("50%", 100), ("100%", 200)])
def test_a_share_of_a_task_that_is_all_in_one_is_of_its_images_counted_once(share: str, kept: int) -> None:
    memory = Memory(share)
    memory.add(task(0, 180, 20).with_all_in_one())
    assert len(memory) == len(memory.part(val=False)) == len(memory.part(val=True)) == kept


def test_both_kinds_of_task_live_in_one_memory() -> None:
    """The first gives up a val image for thresholds alone, the second does not."""
    memory, first, second = Memory(20), task(0, 30), task(1, 30).with_all_in_one()
    for one in (first, second):
        memory.add(one)
    assert [len(memory.part(val, 0)) for val in (False, True)] == [9, 1]
    assert pixels(memory.part(True, 0)) <= pixels(first.val)
    assert [len(memory.part(val, 1)) for val in (False, True)] == [10, 10]


def test_thresholds_are_calibrated_on_the_val_exemplars_of_the_other_tasks() -> None:
    memory = Memory(30)
    tasks = [task(0, 30), task(1, 30), task(2, 30, 0)]  # the last one has no images to spare
    for one in tasks:
        memory.add(one)
    by_task = memory.val_by_task(but=1)
    assert list(by_task) == [0]
    assert pixels(by_task[0]) == pixels(memory.part(val=True, task=0))
    assert pixels(by_task[0]) <= pixels(tasks[0].val)


def test_the_val_share_is_of_what_the_task_may_keep() -> None:
    memory = Memory(20, val=0.15)
    memory.add(task(0, 30))
    assert len(memory.part(val=True, task=0)) == 3
    memory.add(task(1, 30))
    assert len(memory.part(val=True, task=1)) == 2  # 1.5 of its ten, rounded


@pytest.mark.parametrize(("exemplars", "val", "kept"), [(1, 0.9, (1, 0)), (2, 0.5, (1, 1)), (3, 0.5, (1, 2))])
def test_the_very_first_exemplar_is_to_train_on(exemplars: int, val: float, kept: tuple[int, int]) -> None:
    memory = Memory(exemplars, val=val)
    memory.add(task(0, 10))
    assert (len(memory.part(val=False)), len(memory.part(val=True))) == kept


@pytest.mark.parametrize("kind", [Memory, UniformMemory])
def test_a_task_of_a_single_image_can_be_kept(kind: type[Memory]) -> None:
    memory, one = kind(5), task(0, 1, 0)
    memory.add(one)
    assert pixels(memory.part(val=False)) == pixels(one.train)


@pytest.mark.parametrize("kind", [Memory, UniformMemory])
def test_a_task_learned_again_takes_the_place_of_its_earlier_exemplars(kind: type[Memory]) -> None:
    memory, again = kind(10), task(0, 21)
    for one in (task(0, 20), task(1, 20), again):
        memory.add(one)
    assert len(memory) == 10
    kept = pixels(memory.part(val=False, task=0)) | pixels(memory.part(val=True, task=0))
    assert kept
    assert kept <= pixels(again.train) | pixels(again.val)
    assert len(memory.part(val=False, task=1)) > 0


def dtypes(memory: Memory) -> dict[str, torch.dtype]:
    return {name: column.dtype for name, column in memory.store.named_buffers()}


def test_a_budget_below_one_image_keeps_none() -> None:
    memory, filled = Memory("0.003MB"), Memory("0.1MB")  # an image has 3,072 bytes
    for index in range(2):
        memory.add(task(index, 5))
        filled.add(task(index, 5))
    assert len(memory) == 0
    assert memory.known() == []
    assert memory.replayed() is None
    assert memory.val_by_task(but=0) == {}
    assert memory.store["files"].shape == (0,)
    assert dtypes(memory) == dtypes(filled)


def test_a_budget_of_exactly_two_images_keeps_two() -> None:
    memory = Memory("0.006144MB")
    memory.add(task(0, 5))
    assert len(memory) == 2


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


def test_a_uniform_sample_by_hand() -> None:
    """Five images then twenty: whoever has one of the four smallest keys stays, wherever it came from."""
    memory = UniformMemory(4)
    memory.add(task(0, 4, 1))
    first = memory.store["key"]
    assert first.shape == (4,)
    memory.add(task(1, 18, 2))
    keys = torch.rand(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(memory.store["key"].sort().values, torch.cat([first, keys]).sort().values[:4])


@pytest.mark.parametrize("seed", range(10))
def test_a_uniform_sample_is_as_large_as_its_budget(seed: int) -> None:
    memory = UniformMemory(4, seed=seed)
    for index in range(3):
        memory.add(task(index, 4, 1))
        assert len(memory) == 4


def test_a_uniform_sample_with_room_for_all_keeps_all() -> None:
    memory, tasks = UniformMemory(100), [task(0, 6, 2), task(1, 5, 3)]
    for one in tasks:
        memory.add(one)
    for t, one in enumerate(tasks):
        assert pixels(memory.part(val=False, task=t)) == pixels(one.train)
        assert pixels(memory.part(val=True, task=t)) == pixels(one.val)


def test_a_uniform_sample_needs_a_number_of_images() -> None:
    with pytest.raises(ContinuadError, match=r"^exemplars '10%': a uniform sample needs a number of images \(300\)$"):
        UniformMemory("10%").add(task(0, 4))


def test_a_uniform_sample_holds_tasks_in_proportion() -> None:
    """Over 200 seeds, 10 of 40 images seen: a task of 30 has 7.5 of them on average."""
    tasks, counts = [task(0, 29, 1), task(1, 9, 1)], []
    for seed in range(200):
        memory = UniformMemory(10, seed=seed)
        for one in tasks:
            memory.add(one)
        counts.append(int((memory.store["task"] == 0).sum()))
    assert sum(counts) / len(counts) == pytest.approx(7.5, abs=0.3)
