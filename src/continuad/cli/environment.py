"""What has to be arranged before torch is loaded, and how text leaves the process."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Threads that wait for each other sleep instead of spinning: beside another busy process a spinning thread takes the
core that the one it waits for needs. The first is read by GNU's OpenMP runtime, which torch brings on Linux, the
second by Intel's and LLVM's. `benchmarks/busy_machine.py` measures what it is worth."""

OF_WAITING = {*WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY"}


KEPT = {-3: 32 * 2**20, -1: 256 * 2**20}
"""By glibc's number of the setting, bytes: blocks up to 32 MB come from the heap, and its free end is handed back to
the system from 256 MB on. By default it is handed back after every picture and taken anew, page by page, for the next:
a station of 100 products inspected a third fewer pictures a second. `benchmarks/station_speed.py` measures it."""


def prepare() -> None:
    """Set the waiting policy and how freed memory is kept, unless the user has; let no name stop the output."""
    if not OF_WAITING & set(os.environ):
        os.environ.update(WAITING)
    if sys.platform == "linux" and not any(name.startswith("MALLOC_") for name in os.environ):
        with contextlib.suppress(OSError, AttributeError):  # another C library
            for setting, size in KEPT.items():
                ctypes.CDLL(None).mallopt(setting, size)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # Æ under cp932, or a file name that is no text
