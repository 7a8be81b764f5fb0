"""The audit over two hundred hostile files names each with its reason, soon, and without a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import write_hostile

from continuad.data.audit import audit
from continuad.data.names import printable
from continuad.data.stream import open_stream
from continuad.errors import ContinuadError

resource = pytest.importorskip("resource")  # not on Windows, which has no such names either
pytestmark = pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names that only Linux allows")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("hostile") / "parts"
    return folder, write_hostile(folder)


def said_of(name: str, lines: list[str]) -> str:
    """Everything that is said of a file, with the headings it stands under."""
    return "\n".join(line for line in lines if printable(name) in line)


def test_every_hostile_file_is_named_with_its_reason(hostile: tuple[Path, dict[str, str]]) -> None:
    folder, expected = hostile
    (found,) = audit(folder, image_size=32)
    lines = [f"{line} {finding.what}" for finding in found.findings for line in finding.lines or [finding.what]]
    wrong = {name: said_of(name, lines) for name, words in expected.items() if words not in said_of(name, lines)}
    assert wrong == {}
    errors = {name for name in expected if printable(name) in found.unreadable}
    assert len(errors) > 100
    assert not any(name.startswith("sound") for name in found.unreadable)


def test_the_command_names_every_hostile_file_in_time(hostile: tuple[Path, dict[str, str]]) -> None:
    folder, expected = hostile
    for options in ([], ["--json"]):
        before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        command = [sys.executable, "-m", "continuad", "check-data", str(folder), "--image-size", "32", *options]
        env = os.environ | {"COLUMNS": "400", "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env)
        # of the processor's time: a machine busy with other tests may take any time on the clock
        assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before < 20
        assert done.returncode == 1
        assert done.stderr == ""
        if options:
            (report,) = json.loads(done.stdout)
            named = " ".join(file for finding in report["findings"] for file, _ in finding["files"])
            named += " ".join(finding["what"] for finding in report["findings"])
        else:
            named = done.stdout
        missing = [name for name in expected if " ".join(printable(name).split()) not in " ".join(named.split())]
        assert missing == []


def test_learning_from_hostile_files_is_refused_or_goes_on_without_them(
    hostile: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, expected = hostile
    with pytest.raises(ContinuadError) as error:
        open_stream(folder, image_size=16, cache=tmp_path)
    text = str(error.value)
    text.encode()
    stream = open_stream(folder, image_size=16, cache=tmp_path, skip_unreadable=True)
    assert f"{stream.counts[0].skipped} files cannot be read" in text
    assert stream.counts[0].train + stream.counts[0].val + stream.counts[0].skipped == len(expected) - 4 + 40
    assert text.count(f"{folder}{os.sep}") == stream.counts[0].skipped
