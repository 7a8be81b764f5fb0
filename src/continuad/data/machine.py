"""Errors of the machine, such as too many open files: they say nothing about the file that was being read."""

from __future__ import annotations

import errno
from pathlib import Path

from continuad.data.names import printable
from continuad.errors import ContinuadError


def refuse_exhausted(error: BaseException, path: object) -> None:
    """Raise a readable error if `error` says that the machine has run out of open files or memory.

    Raises:
        ContinuadError: it does; names the file and says what to do.
    """
    if isinstance(error, MemoryError):
        raise ContinuadError(
            f"{printable(path)}: not enough memory to decode it. Close other programs, or use smaller pictures."
        ) from error
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise ContinuadError(
            f"{printable(path)}: cannot be opened, because too many files are open{_allowed()}. Allow more, "
            "e.g. with `ulimit -n 1024`."
        ) from error


def free_memory() -> int | None:
    """Bytes that this process may still take, where the system says so (Linux); None elsewhere."""
    found = [_meminfo(), _of_group()]
    known = [number for number in found if number is not None]
    return min(known) if known else None


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _of_group() -> int | None:
    """What the process's group of processes is limited to (containers), less what it holds."""
    try:
        most, now = (
            Path("/sys/fs/cgroup", name).read_text(encoding="ascii") for name in ("memory.max", "memory.current")
        )
        return max(0, int(most) - int(now))
    except (OSError, ValueError):  # no limit reads "max"
        return None


def _allowed() -> str:
    try:
        import resource
    except ImportError:  # Windows, which has no such setting
        return ""
    return f" (this process may open {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"
