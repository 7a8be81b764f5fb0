"""What has to be arranged before torch is loaded, and how text leaves the process."""

from __future__ import annotations

import io
import os
import sys

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Threads that wait for each other sleep instead of spinning: beside another busy process a spinning thread takes the
core that the one it waits for needs. The first is read by GNU's OpenMP runtime, which torch brings on Linux, the
second by Intel's and LLVM's. `benchmarks/busy_machine.py` measures what it is worth."""

OF_WAITING = {*WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY"}


def prepare() -> None:
    """Set the waiting policy, unless the user has set any, and let no name stop the output."""
    if not OF_WAITING & set(os.environ):
        os.environ.update(WAITING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # Æ under cp932, or a file name that is no text
