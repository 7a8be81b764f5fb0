"""Folders to tasks: nothing lost, nothing mixed, nothing silent."""

from __future__ import annotations

import errno
import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from continuad.data import stream as module
from continuad.data.audit import audit
from continuad.data.decode import decode_image, decode_mask
from continuad.data.known import STREAMS, named_stream, orders
from continuad.data.splits import val_split
from continuad.data.stream import open_stream
from continuad.errors import ContinuadError


def open_here(folders, **options):  # type: ignore[no-untyped-def]
    return open_stream(folders, **{"image_size": (6, 8), "cache": None} | options)


def test_a_stream_of_two(tmp_path, make_product) -> None:
    roots = [make_product(tmp_path / "nut", train=10, good=2, crack=3), make_product(tmp_path / "cap", train=5)]
    stream = open_here(roots)
    assert [(t.index, t.name, len(t.train), len(t.val), len(t.test)) for t in stream] == [
        (0, "nut", 9, 1, 5),
        (1, "cap", 4, 1, 2),
    ]
    nut = stream[0]
    assert nut.train.images.shape == (9, 3, 6, 8)
    assert nut.test.labels.tolist() == [False, False, True, True, True]
    assert nut.test.defects == ("good", "good", "crack", "crack", "crack")
    assert nut.test.mask_known.all()
    assert nut.test.sizes == ((10, 12),) * 5
    for task in stream:
        for part in (task.train, task.val, task.test):
            for image, path in zip(part.images, part.paths, strict=True):
                assert np.array_equal(image, decode_image(path, (6, 8)))
        assert not task.train.labels.any()
        assert not task.train.masks.any()
        assert task.train.masks.shape == (len(task.train), 6, 8)
    mask = decode_mask(nut.test.paths[2].parents[2] / "ground_truth" / "crack" / "000_mask.png", (6, 8))
    assert np.array_equal(nut.test.masks[2], mask)
    assert not nut.test.masks[:2].any()
    assert stream.notes == ()


def test_batches_of_a_task(tmp_path, make_product) -> None:
    test = open_here(make_product(tmp_path / "nut", crack=2))[0].test
    batch = test.__getitems__([3, 0])
    assert batch.image.shape == (2, 3, 6, 8)
    assert batch.label.tolist() == [True, False]


def test_cached_equals_uncached(tmp_path, make_product, is_mapped) -> None:
    root = make_product(tmp_path / "nut", train=6, crack=3)
    plain = open_here(root)[0]
    for _ in range(2):
        cached = open_here(root, cache=tmp_path / "cache")[0]
        for one, other in ((plain.train, cached.train), (plain.val, cached.val), (plain.test, cached.test)):
            assert is_mapped(other.images)
            for name in ("images", "labels", "masks", "mask_known"):
                assert np.array_equal(getattr(one, name), getattr(other, name)), name
            assert one.paths == other.paths


def test_cache_follows_content_and_size(tmp_path, make_product, save, monkeypatch) -> None:
    root = make_product(tmp_path / "nut", train=3, crack=1)
    open_here(root, cache=tmp_path / "cache")
    moved = root.rename(tmp_path / "moved")  # content stays, names and places change
    with monkeypatch.context() as patch:
        patch.setattr("continuad.data.reading.examine", None)
        assert len(open_here(moved, cache=tmp_path / "cache")[0].train) == 2
    path = save(moved / "train" / "good" / "000.png")
    task = open_here(moved, cache=tmp_path / "cache", image_size=7)[0]
    part = task.train if path in task.train.paths else task.val
    assert np.array_equal(part.images[part.paths.index(path)], decode_image(path, (7, 7)))


def test_progress_counts_every_image(tmp_path, make_product) -> None:
    root = make_product(tmp_path / "nut", train=3, good=1, crack=1)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        calls: list[tuple[str, int, int]] = []
        open_here(root, cache=cache, progress=lambda *now: calls.append(now))  # noqa: B023
        assert calls[-1] == ("nut", 5, 5)
        assert [done for _, done, _ in calls] == sorted({done for _, done, _ in calls})


def test_order_by_name(tmp_path, make_product) -> None:
    roots = [make_product(tmp_path / name) for name in "abc"]
    assert [(t.index, t.name) for t in open_here(roots, order=["c", "a", "b"])] == [(0, "c"), (1, "a"), (2, "b")]
    with pytest.raises(ContinuadError, match="name each of a, b, c once"):
        open_here(roots, order=["a", "b"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("image_size", 0), ("image_size", (1, 2, 3)), ("val_share", 0), ("val_share", 1.0), ("seed", -1)],
)
def test_wrong_options_are_named(tmp_path, make_product, option, value) -> None:
    with pytest.raises(ContinuadError, match=option):
        open_here(make_product(tmp_path / "a"), **{option: value})


@pytest.mark.parametrize("seed", [0, 1, 2, 17])
def test_subsets_are_disjoint_for_every_seed(tmp_path, make_product, seed) -> None:
    root = make_product(tmp_path / "nut", train=20, good=0, crack=4)  # no test/good
    task = open_here(root, seed=seed, val_share=0.2)[0]
    train, val, test = ({*part.paths} for part in (task.train, task.val, task.test))
    assert len(train) == 16
    assert len(val) == 4
    assert not train & val
    assert not (train | val) & test


def test_the_check_would_notice(tmp_path, make_product) -> None:
    task = open_here(make_product(tmp_path / "nut", crack=1))[0]
    for mixed in (
        module.Task(0, "nut", task.train, task.train, task.test),
        module.Task(0, "nut", task.test, task.val, task.test),
    ):
        with pytest.raises(RuntimeError, match="two subsets"):
            module._check_disjoint(mixed)


def test_validation_images_depend_on_seed_and_name_only(tmp_path, make_product) -> None:
    first = val_split(50, 0.1, 0, "nut")
    assert first == val_split(50, 0.1, 0, "nut")
    assert first != val_split(50, 0.1, 1, "nut")
    assert first != val_split(50, 0.1, 0, "cap")
    root = make_product(tmp_path / "nut", train=8, crack=3)
    before = open_here(root)[0]
    (root / "test" / "crack").rename(root / "test" / "good2")  # whatever happens to test data
    after = open_here(root)[0]
    assert before.train.paths == after.train.paths
    assert before.val.paths == after.val.paths


@pytest.mark.parametrize(
    ("number", "share", "validation"), [(2, 0.1, 1), (2, 0.9, 1), (8, 0.2, 2), (9, 0.1, 1), (3, 0.99, 2)]
)
def test_small_numbers_leave_both_sides_one(number, share, validation) -> None:
    learn, val = val_split(number, share, 0, "nut")
    assert len(val) == validation
    assert sorted(learn + val) == list(range(number))


def test_a_single_training_image(tmp_path, make_product, caplog, monkeypatch) -> None:
    monkeypatch.setattr(module, "_said", set())
    with caplog.at_level(logging.WARNING):
        stream = open_here(make_product(tmp_path / "nut", train=1, crack=1))
    assert stream[0].train.paths == stream[0].val.paths
    assert stream.notes == (
        "nut: only one training image: it is its own validation image too, so thresholds come out too low.",
    )
    assert stream.notes[0] in caplog.text


def spoil(root) -> None:  # type: ignore[no-untyped-def]
    (root / "train" / "good" / "000.png").write_bytes(b"")
    (root / "train" / "good" / "text.png").write_text("I was renamed.")
    half = (root / "test" / "crack" / "000.png").read_bytes()[:60]
    (root / "test" / "crack" / "000.png").write_bytes(half)


def test_all_bad_files_are_named_before_anything_is_learned(tmp_path, make_product) -> None:
    roots = [make_product(tmp_path / name, train=4, crack=2) for name in "ab"]
    for root in roots:
        spoil(root)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        with pytest.raises(ContinuadError) as error:
            open_here(roots, cache=cache)
        text = str(error.value)
        assert "6 files cannot be read" in text
        for root in roots:
            for name in ("train/good/000.png", "train/good/text.png", "test/crack/000.png"):
                assert str(root / name) in text
        assert "skip_unreadable" in text


def test_skipping_is_an_option_and_never_silent(tmp_path, make_product, caplog, monkeypatch) -> None:
    monkeypatch.setattr(module, "_said", set())
    root = make_product(tmp_path / "a", train=4, good=1, crack=2)
    spoil(root)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        with caplog.at_level(logging.WARNING):
            stream = open_here(root, skip_unreadable=True, cache=cache)
        task = stream[0]
        assert (len(task.train) + len(task.val), len(task.test)) == (3, 2)
        assert [path.name for path in task.test.paths] == ["000.png", "001.png"]
        assert len(stream.notes) == 3
        for name in ("train/good/000.png", "train/good/text.png", "test/crack/000.png"):
            assert caplog.text.count(f"skipped {root / name}: is ") == 1  # not again for every seed
        assert np.array_equal(task.test.images[1], decode_image(root / "test" / "crack" / "001.png", (6, 8)))


def test_nothing_left_to_learn_from(tmp_path, make_product) -> None:
    root = make_product(tmp_path / "a", train=1)
    (root / "train" / "good" / "000.png").write_bytes(b"")
    with pytest.raises(ContinuadError, match="none of its 1 training images can be read"):
        open_here(root, skip_unreadable=True)


def test_no_masks_at_all(tmp_path, make_product) -> None:
    stream = open_here(make_product(tmp_path / "a", good=1, crack=2, masks=False))
    assert stream[0].test.mask_known.tolist() == [True, False, False]
    assert not stream[0].test.masks.any()
    assert "no ground_truth folder" in stream.notes[0]


def test_empty_and_vanishing_masks_are_noted_and_not_used(tmp_path, make_product, save) -> None:
    root = make_product(tmp_path / "a", good=0, crack=3)
    save(root / "ground_truth" / "crack" / "000_mask.png", 0)
    dot = np.zeros((40, 48))
    dot[0, 0] = 1
    save(root / "test" / "crack" / "001.png", np.zeros((40, 48, 3)))
    save(root / "ground_truth" / "crack" / "001_mask.png", dot)
    stream = open_here(root, image_size=(5, 6))
    assert stream[0].test.mask_known.tolist() == [False, False, True]
    notes = "\n".join(stream.notes)
    assert "empty masks of defect images (1)" in notes
    assert "crack/000_mask.png" in notes
    assert "no defective pixel left at 6 x 5 (1)" in notes
    assert "crack/001_mask.png" in notes


def test_many_files_are_counted_in_a_note_that_says_where_all_are_named(tmp_path, make_product, save) -> None:
    root = make_product(tmp_path / "a", crack=12)
    for i in range(12):
        save(root / "ground_truth" / "crack" / f"{i:03}_mask.png", 0)
    (note,) = open_here(root).notes
    assert "empty masks of defect images (12): crack/000_mask.png, " in note
    assert note.endswith("and 2 more; pixel metrics leave their images out. `continuad check-data` names them all.")


def test_mask_of_another_size_names_both(tmp_path, make_product, save) -> None:
    root = make_product(tmp_path / "a", crack=1)
    mask = save(root / "ground_truth" / "crack" / "000_mask.png", np.ones((5, 6)))
    with pytest.raises(ContinuadError) as error:
        open_here(root, skip_unreadable=True)
    for part in (str(mask), "6 x 5, the image 12 x 10", str(root / "test" / "crack" / "000.png")):
        assert part in str(error.value)


def test_unreadable_mask_leaves_the_image_in(tmp_path, make_product) -> None:
    root = make_product(tmp_path / "a", good=0, crack=2)
    (root / "ground_truth" / "crack" / "000_mask.png").write_bytes(b"x")
    stream = open_here(root)
    assert stream[0].test.mask_known.tolist() == [False, True]
    assert "000_mask.png is not an image" in stream.notes[0]


def test_sixteen_bit_product_has_one_white_level(tmp_path) -> None:
    root = tmp_path / "a"
    for where, value in (("train/1", 4000), ("train/2", 1000), ("test/good/1", 2000), ("test/hot/1", 6000)):
        (root / where).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), value, np.uint16)).save(root / f"{where}.png")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        stream = open_here(root, cache=cache)
        assert stream.bits == (12,)
        assert stream[0].test.images[:, 0, 0, 0].tolist() == [round(2000 / 4095 * 255), 255]
        assert "images brighter than all training images, clipped (1): test/hot/1.png" in "\n".join(stream.notes)


def test_same_names_in_a_stream(tmp_path, make_product) -> None:
    stream = open_here([make_product(tmp_path / where, crack=1) for where in ("x/screw", "y/screw")])
    assert [task.name for task in stream] == ["x/screw", "y/screw"]


def test_known_streams() -> None:
    assert STREAMS["thesis10"][:4] == ("bottle", "cable", "capsule", "hazelnut")
    assert len(STREAMS["thesis10"]) == 10
    assert list(STREAMS["mvtec15"]) == sorted(STREAMS["mvtec15"])
    assert set(STREAMS["thesis10"]) < set(STREAMS["mvtec15"])
    assert (len(STREAMS["mvtec15"]), len(STREAMS["visa"]), len(STREAMS["mpdd"])) == (15, 12, 6)


def test_named_stream_looks_one_level_down_and_names_what_is_missing(tmp_path) -> None:
    for where in ("01", "set/02"):
        (tmp_path / where / "train" / "ok").mkdir(parents=True)
    with pytest.raises(ContinuadError, match=r"1 of the 3 products of btad are missing: 03\. Looked for .*03 and "):
        named_stream("btad", tmp_path)
    (tmp_path / "03" / "train").mkdir(parents=True)
    assert named_stream("btad", tmp_path) == [tmp_path / "01", tmp_path / "set" / "02", tmp_path / "03"]
    (tmp_path / "other" / "02" / "train").mkdir(parents=True)
    with pytest.raises(ContinuadError, match="there twice"):
        named_stream("btad", tmp_path)
    with pytest.raises(ContinuadError, match=r"no such stream\. Known are thesis10"):
        named_stream("nonsense", tmp_path)
    with pytest.raises(ContinuadError, match="does not exist"):
        named_stream("btad", tmp_path / "gone")


def test_orders() -> None:
    five = orders(4, 5, seed=3)
    assert five[0] == (0, 1, 2, 3)
    assert five == orders(4, 5, seed=3)
    assert five[:3] == orders(4, 3, seed=3)
    assert five != orders(4, 5, seed=4)
    assert len(set(orders(3, math.factorial(3)))) == 6
    with pytest.raises(ContinuadError, match="7 orders"):
        orders(3, 7)


def test_realset(real_data) -> None:
    folders = named_stream("realset", real_data)
    assert [folder.name for folder in folders] == [
        "screw", "magnetic_tile", "fabric_03", "hazelnut", "transistor", "pcb", "ballscrew",
    ]  # fmt: skip
    stream = open_stream(folders[3:6], image_size=64, cache=None)
    assert [(t.name, len(t.train), len(t.val), len(t.test), int(t.test.labels.sum())) for t in stream] == [
        ("hazelnut", 34, 4, 22, 8),
        ("transistor", 34, 4, 22, 8),
        ("pcb", 65, 7, 96, 48),
    ]
    assert all(task.test.mask_known.all() for task in stream)
    assert stream.notes == ()


def test_looking_at_data_loads_neither_torch_nor_the_terminal() -> None:
    slow = ("torch", "timm", "torchvision", "rich", "scipy.stats")
    code = f"import sys, continuad.data.audit, continuad.data.known; print([m for m in {slow} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on open files to set")
def test_twelve_products_fit_a_limit_of_forty_open_files(tmp_path, make_product) -> None:
    for i in range(12):
        make_product(tmp_path / "set" / f"p{i}", train=3, crack=1)
    code = (
        "import glob; from continuad.data.stream import open_stream\n"
        f"stream = open_stream(sorted(glob.glob({str(tmp_path / 'set' / '*')!r})), image_size=8, "
        f"cache={str(tmp_path / 'cache')!r})\n"
        "print(sum(len(part) for task in stream for part in (task.train, task.val, task.test)))"
    )
    entries = None
    for _ in range(2):
        command = ["bash", "-c", 'ulimit -n 40 && exec "$0" -c "$1"', sys.executable, code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{12 * 6}\n"
        assert done.stderr == ""
        found = {path: path.stat().st_ino for path in (tmp_path / "cache").rglob("*.raw")}
        assert entries in (None, found)  # nothing is removed or written anew
        entries = found


def test_a_limit_of_the_machine_is_never_taken_for_a_damaged_image(tmp_path, make_product, monkeypatch) -> None:
    root = make_product(tmp_path / "a", train=4, crack=1)

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", refuse)
        with pytest.raises(ContinuadError, match="too many files are open"):
            open_here(root, skip_unreadable=True, cache=tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr("continuad.data.decode._rgb", lambda *_: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(ContinuadError, match="not enough memory to decode"):
            open_here(root, skip_unreadable=True, cache=tmp_path / "cache")
    assert len(open_here(root, cache=tmp_path / "cache")[0].train) == 3


def test_larger_pictures_are_read_where_that_is_allowed(tmp_path, make_product) -> None:
    root = make_product(tmp_path / "a", train=3)
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(ContinuadError, match=r"(?s)5 files cannot be read.*too many pixels: 12 x 10; at most 119"):
            open_here(root, max_pixels=119, cache=cache)
        assert len(open_here(root, max_pixels=120, cache=cache)[0].train) == 2
    (found,) = audit(root, image_size=8, max_pixels=119)
    assert len(found.unreadable) == 5
    assert audit(root, image_size=8, max_pixels=120)[0].usable
    with pytest.raises(ContinuadError, match="max_pixels is 0"):
        open_here(root, max_pixels=0)


def test_numbers_of_images_are_counted_and_logged(tmp_path, make_product, caplog) -> None:
    roots = [make_product(tmp_path / "nut", train=10, good=2, crack=3), make_product(tmp_path / "cap", train=1, good=0)]
    (roots[0] / "train" / "good" / "000.png").write_bytes(b"")
    with caplog.at_level(logging.INFO):
        stream = open_here(roots, skip_unreadable=True, val_share=0.2)
    assert stream.counts == (("nut", 7, 2, 2, 3, 1), ("cap", 1, 1, 0, 0, 0))
    words = (
        "nut: 7 images to learn from, 2 for validation, 5 to test on (2 good, 3 defective); 1 left out, which cannot"
    )
    assert words in caplog.text
    assert "cap: 1 image to learn from, 1 for validation, 0 to test on (0 good, 0 defective)\n" in caplog.text


def test_a_changed_file_is_decoded_anew_and_a_mask_counts_as_content(tmp_path, make_product, save) -> None:
    root = make_product(tmp_path / "nut", train=3, crack=1)
    before = open_here(root, cache=tmp_path / "cache")[0].test.masks.sum()
    whole = np.full((10, 12), 255)
    whole[0] = 0
    save(root / "ground_truth" / "crack" / "000_mask.png", whole)
    assert open_here(root, cache=tmp_path / "cache")[0].test.masks.sum() > before
