"""Decoded arrays on disk, found again by the content they were decoded from.

An entry is a folder named by its key: one raw file for each array, and `entry.json` with shapes, checksums
and what else was found out while decoding. It is written under another name and renamed when complete, so
that a killed run leaves nothing half-done; it is checked whole when opened and built anew if a byte is
wrong. What cannot be opened for another reason (too many open files, no permission) is left as it is.

Arrays are mapped by pyarrow, which needs no open file once they are: Python's own `mmap` keeps one open for each.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from continuad.data.machine import refuse_exhausted
from continuad.data.names import printable
from continuad.errors import ContinuadError

LIMIT = 20 * 10**9
_INDEX = "entry.json"
_HALF_DONE = ".new-"
_DAY = 86_400
_log = logging.getLogger(__name__)
_warned: set[object] = set()


def default_cache() -> Path:
    """`CONTINUAD_CACHE` if set, else `continuad` in the platform's folder for caches."""
    if own := os.environ.get("CONTINUAD_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "continuad"


class Writer:
    """Takes arrays row by row; all rows of an array have one shape and type."""

    def __init__(self, open_file: Callable[[str], BinaryIO]) -> None:
        self._open_file = open_file
        self.files: dict[str, BinaryIO] = {}
        self.index: dict[str, dict[str, Any]] = {}

    def add(self, name: str, row: np.ndarray) -> None:
        """Append one row to the array of this name."""
        if name not in self.files:
            self.files[name] = self._open_file(name)
            self.index[name] = {"shape": [0, *row.shape], "dtype": row.dtype.str, "crc": 0}
        about = self.index[name]
        data = np.ascontiguousarray(row).view(np.uint8).data if row.size else b""
        try:
            self.files[name].write(data)
        except OSError as error:  # a full disk: Python does not say which file
            raise OSError(error.errno, error.strerror, f"{name}.raw") from error
        about["shape"][0] += 1
        about["crc"] = zlib.crc32(data, about["crc"])


Build = Callable[[Writer], dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """What was built: read-only arrays (memory-mapped when cached) and plain facts."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


@dataclass
class Cache:
    """Entries below one folder; beyond `limit` bytes the longest unused go, but never the one just written.

    Args:
        folder: where; None keeps everything in memory.
    """

    folder: Path | None
    limit: int = LIMIT

    def get(self, key: str, build: Build) -> Entry:
        """The entry of this key, built by `build` if it is not there or damaged.

        `build` adds rows to the writer and returns facts that JSON can hold. If the folder cannot be
        written, it is called a second time, into memory.
        """
        if self.folder is None:
            return _in_memory(build)
        try:
            entry = _open(self.folder / key)
            if entry is None:
                _write(self.folder, key, build)
                entry = _open(self.folder / key)
                self._shrink(self.folder, key)
        except OSError as error:
            refuse_exhausted(error, self.folder / key)
            self._warn(error)
            return _in_memory(build)
        return entry or _in_memory(build)

    def _warn(self, error: OSError) -> None:
        """Once for every kind of trouble with this folder."""
        if (self.folder, error.errno) not in _warned:
            _warned.add((self.folder, error.errno))
            file = f"; file {printable(Path(error.filename).name)}" if error.filename else ""
            why = f"{error.strerror or error}{file}"
            _log.warning("cache %s cannot be used (%s); going on without it.", printable(self.folder), why)

    def _shrink(self, folder: Path, keep: str) -> None:
        """Remove the longest unused entries beyond the limit, and what killed runs left half-done."""
        entries = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith(_HALF_DONE):
                if _used(path) < time.time() - _DAY:
                    shutil.rmtree(path, ignore_errors=True)
            elif (path / _INDEX).is_file():  # whatever else lies here is not ours to remove
                entries.append((_used(path / _INDEX), _bytes(path), path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total > self.limit and path.name != keep:
                shutil.rmtree(path, ignore_errors=True)
                total -= size


def open_cache(cache: Path | str | None) -> Cache:
    """ "default", a folder, or None for no cache."""
    if cache is None:
        return Cache(None)
    folder = default_cache() if cache == "default" else Path(cache).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ContinuadError(
            f"{printable(folder)}: is a file; the cache needs a folder. Name one with the option cache, or in the "
            "environment variable CONTINUAD_CACHE."
        )
    return Cache(Path(os.path.abspath(folder)))


def _write(folder: Path, key: str, build: Build) -> None:
    """Build into a folder of another name, then rename it; OSError if the disk refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=_HALF_DONE, dir=folder))
    writer = Writer(lambda name: (new / f"{name}.raw").open("wb"))
    try:
        facts = build(writer)
        for file in writer.files.values():
            file.close()
        (new / _INDEX).write_text(json.dumps({"arrays": writer.index, "facts": facts}), encoding="utf-8")
        if _open(folder / key) is None:  # else another process was faster
            _discard(folder, key)
            os.replace(new, folder / key)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # there is one now: another process was faster
            raise
    finally:
        for file in writer.files.values():
            with contextlib.suppress(OSError):  # a full disk was reported by the write that failed
                file.close()
        shutil.rmtree(new, ignore_errors=True)  # gone already if all went well


def _discard(folder: Path, key: str) -> None:
    """Remove a damaged entry: it is moved aside at once, and what cannot be removed now is removed after a day."""
    aside = Path(tempfile.mkdtemp(prefix=_HALF_DONE, dir=folder))
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder / key, aside / key)
    shutil.rmtree(aside, ignore_errors=True)


def _open(path: Path) -> Entry | None:
    """The entry if it is whole; None if it is missing or damaged.

    Raises:
        OSError: it cannot be opened, which says nothing about it.
    """
    try:
        index = json.loads((path / _INDEX).read_text(encoding="utf-8"))
        arrays = {name: _map(path / f"{name}.raw", about) for name, about in index["arrays"].items()}
        whole = all(_crc(array) == index["arrays"][name]["crc"] for name, array in arrays.items())
        facts = index["facts"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):  # cut short, not JSON
        return None
    if not whole:
        return None
    with contextlib.suppress(OSError):  # a cache that may only be read is fine
        os.utime(path / _INDEX)  # last used now
    return Entry(arrays, facts)


def _map(file: Path, about: dict[str, Any]) -> np.ndarray:
    shape = tuple(about["shape"])
    if file.stat().st_size != int(np.prod(shape)) * np.dtype(about["dtype"]).itemsize:
        raise ValueError("not the size it was written with")
    if not np.prod(shape):
        return _read_only(np.empty(shape, about["dtype"]))
    name = str(file) if os.name == "nt" else os.fsencode(file)  # as bytes: a folder's name may be no UTF-8
    with pa.memory_map(name) as mapped:
        return np.frombuffer(mapped.read_buffer(), dtype=about["dtype"]).reshape(shape)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _crc(array: np.ndarray, rows: int = 64) -> int:
    """Checksum in pieces, so that the file is never in memory whole."""
    crc = 0
    for start in range(0, len(array), rows):
        crc = zlib.crc32(array[start : start + rows].view(np.uint8).data, crc)
    return crc


def _in_memory(build: Build) -> Entry:
    writer = Writer(lambda name: io.BytesIO())
    facts = build(writer)
    arrays = {}
    for name, file in writer.files.items():
        about = writer.index[name]
        assert isinstance(file, io.BytesIO)
        arrays[name] = _read_only(np.frombuffer(file.getbuffer(), dtype=about["dtype"]).reshape(about["shape"]))
    return Entry(arrays, facts)


def _bytes(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:  # another process removed it meanwhile
        return 0


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
