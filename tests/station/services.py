"""Real servers for tests: skipped with a reason where they are not installed, never where CONTINUAD_SERVICES is set."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest


def program(name: str, package: str, *places: str) -> str:
    """Where a program lies."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *places]))
    if found is None:
        reason = f"{name} is not installed (Debian: apt-get install {package})"
        if os.environ.get("CONTINUAD_SERVICES"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def postgresql_programs() -> list[str]:
    """Folders of PostgreSQL's own programs, the newest first."""
    return [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
