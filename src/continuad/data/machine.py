"""Errors of the machine, such as too many open files: they say nothing about the file that was being read."""

from __future__ import annotations

import errno

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


def _allowed() -> str:
    try:
        import resource
    except ImportError:  # Windows, which has no such setting
        return ""
    return f" (this process may open {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"
