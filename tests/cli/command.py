"""The command in this process, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from continuad.cli.app import main


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def continuad(*arguments: str, cwd: Path | None = None) -> Done:
    """What the installed command does, without starting another Python."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch.object(sys, "argv", ["continuad", *arguments]),
    ):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def loaded_by(*arguments: str, cwd: Path | None = None) -> tuple[Done, set[str]]:
    """What a command says in a process of its own, and the packages that it has imported when it ends."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *{m.partition('.')[0] for m in sys.modules}, file=sys.stderr))\n"
        "from continuad.cli.app import main\n"
        f"sys.argv = ['continuad', *{arguments!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=False)
    said, _, loaded = done.stderr.rpartition("loaded: ")
    return Done(done.returncode, done.stdout, said), set(loaded.split())
