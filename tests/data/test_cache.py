"""Decoded once, found by content, never trusted blindly."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from continuad.data import cache as module
from continuad.data.cache import Cache, default_cache, open_cache
from continuad.errors import ContinuadError

ROWS = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)


class Builder:
    """Counts how often it had to build."""

    def __init__(self, rows: np.ndarray = ROWS) -> None:
        self.rows, self.calls = rows, 0

    def __call__(self, writer: module.Writer) -> dict[str, int]:
        self.calls += 1
        for row in self.rows:
            writer.add("images", row)
            writer.add("masks", row > 7)
        return {"answer": 42}


@pytest.fixture
def build() -> Builder:
    return Builder()


def check(entry: module.Entry) -> None:
    assert np.array_equal(entry.arrays["images"], ROWS)
    assert np.array_equal(entry.arrays["masks"], ROWS > 7)
    assert entry.arrays["masks"].dtype == bool
    assert entry.facts == {"answer": 42}
    assert not entry.arrays["images"].flags.writeable


def test_built_once_then_memory_mapped(tmp_path, build, is_mapped) -> None:
    for _ in range(3):
        entry = Cache(tmp_path).get("key", build)
        check(entry)
        assert is_mapped(entry.arrays["images"])
    assert build.calls == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]  # nothing half-done is left


def test_without_a_folder_everything_stays_in_memory(build) -> None:
    check(open_cache(None).get("key", build))


def test_nothing_to_store(tmp_path) -> None:
    entry = Cache(tmp_path).get("key", Builder(ROWS[:0]))
    assert entry.arrays == {}


@pytest.mark.parametrize("damage", ["flip", "cut", "index", "gone"])
def test_damage_is_noticed_and_mended(tmp_path, build, damage) -> None:
    Cache(tmp_path).get("key", build)
    file = tmp_path / "key" / "images.raw"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[5] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "index":
        (tmp_path / "key" / "entry.json").write_text('{"arrays": {"im')
    else:
        file.unlink()
    check(Cache(tmp_path).get("key", build))
    check(Cache(tmp_path).get("key", build))
    assert build.calls == 2


def test_longest_unused_go_first(tmp_path, build) -> None:
    store = Cache(tmp_path)
    for age, key in enumerate("abc"):
        store.get(key, build)
        os.utime(tmp_path / key / "entry.json", (age + 1, age + 1))
    size = sum(file.stat().st_size for file in (tmp_path / "a").iterdir())
    store.limit = 3 * size
    store.get("a", build)  # used just now
    store.get("d", build)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "d"]
    assert build.calls == 4


def test_the_entry_just_written_stays_and_foreign_files_too(tmp_path, build) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    check(Cache(tmp_path, limit=0).get("a", build))
    check(Cache(tmp_path, limit=0).get("b", build))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "notes"]


def test_work_goes_on_without_a_cache_that_cannot_be_written_after_one_warning(
    tmp_path, build, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_warned", set())
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            check(Cache(tmp_path / "file" / "cache").get("key", build))
    assert caplog.text.count("cannot be used") == 1


def test_full_disk(tmp_path, build, caplog, monkeypatch) -> None:
    monkeypatch.setattr(module, "_warned", set())

    def full(self: module.Writer, name: str, row: np.ndarray) -> None:
        if not hasattr(self.files.get(name), "getbuffer") and len(self.files) == 2:
            raise OSError(28, "No space left on device")
        add(self, name, row)

    add = module.Writer.add
    monkeypatch.setattr(module.Writer, "add", full)
    with caplog.at_level(logging.WARNING):
        check(Cache(tmp_path).get("key", build))
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A file on a disk that takes no more; closing flushes, which fails too."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_names_the_folder_and_the_file(tmp_path, build, caplog, monkeypatch) -> None:
    monkeypatch.setattr(module, "_warned", set())
    opened = Path.open
    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *how: FullDisk() if self.suffix == ".raw" else opened(self, *how))
        for _ in range(2):
            check(Cache(tmp_path).get("key", build))
    words = f"cache {tmp_path} cannot be used (No space left on device; file images.raw); going on without it."
    assert caplog.text.count(words) == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_no_damage(tmp_path, build, monkeypatch, number) -> None:
    Cache(tmp_path).get("key", build)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.raw")}

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(module, "_map", refuse)
        with pytest.raises(ContinuadError, match=r"key: cannot be opened, because too many files are open.*ulimit -n"):
            Cache(tmp_path).get("key", build)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.raw")} == before
    check(Cache(tmp_path).get("key", build))
    assert build.calls == 1


def test_an_entry_of_somebody_else_is_left_as_it_is(tmp_path, build, monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "_warned", set())
    Cache(tmp_path).get("key", build)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "key" / "images.raw"))

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        patch.setattr(module, "_map", refuse)
        check(Cache(tmp_path).get("key", build))
    assert "(Permission denied; file images.raw)" in caplog.text
    assert build.calls == 2  # the second time into memory
    check(Cache(tmp_path).get("key", build))
    assert build.calls == 2


def test_damage_that_cannot_be_removed_is_moved_out_of_the_way(tmp_path, build, monkeypatch) -> None:
    Cache(tmp_path).get("key", build)
    (tmp_path / "key" / "images.raw").write_bytes(b"x")
    monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
    check(Cache(tmp_path).get("key", build))
    check(Cache(tmp_path).get("key", build))
    assert build.calls == 2


def test_whoever_is_slower_takes_the_entry_of_the_faster(tmp_path, build) -> None:
    def late(writer: module.Writer) -> dict[str, int]:
        Cache(tmp_path).get("key", build)
        return build(writer)

    check(Cache(tmp_path).get("key", late))
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted by Linux")
def test_mapped_arrays_keep_no_file_open(tmp_path, build) -> None:
    before = len(os.listdir("/proc/self/fd"))
    entries = [Cache(tmp_path).get(f"key{i}", build) for i in range(30)]
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    for entry in entries:
        check(entry)


def test_an_error_while_building_passes_and_leaves_nothing(tmp_path) -> None:
    def fail(writer: module.Writer) -> dict[str, int]:
        writer.add("images", ROWS[0])
        raise ContinuadError("bad data")

    with pytest.raises(ContinuadError, match="bad data"):
        Cache(tmp_path).get("key", fail)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path, build) -> None:
    for name, age in ((".new-old", 100_000), (".new-young", 10)):
        (tmp_path / name).mkdir()
        then = module.time.time() - age
        os.utime(tmp_path / name, (then, then))
    Cache(tmp_path).get("key", build)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-young", "key"]


def test_places(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CONTINUAD_CACHE", str(tmp_path / "own"))
    assert default_cache() == open_cache("default").folder == tmp_path / "own"
    monkeypatch.delenv("CONTINUAD_CACHE")
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "continuad"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "continuad"
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_cache() == tmp_path / "local" / "continuad"
    (tmp_path / "file").write_text("")
    with pytest.raises(ContinuadError, match="needs a folder"):
        open_cache(tmp_path / "file")
