"""A watched folder: each picture exactly once in the log, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from services import free_port
from station_parts import picture, write

from continuad.errors import ContinuadError
from continuad.station import Station
from continuad.station.outbox import Outbox
from continuad.station.senders import Webhook
from continuad.station.watch import Watcher, watch


def once(station: Station, folder: Path, **options: Any) -> list[dict[str, Any]]:
    return list(watch(Watcher(station, folder, settle=0.0, **options), once=True, wait=lambda seconds: None))


def logged(station: Station) -> list[str]:
    return [Path(row["file"]).name for row in station.inspections()]


def test_what_is_there_is_inspected_once_and_a_restart_goes_on_with_what_is_new(line: Station, tmp_path: Path) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 103))
    first = once(line, inbox)
    assert [(Path(one["file"]).name, one["product"]) for one in first] == [
        (f"{n}.png", "stripes") for n in (100, 101, 102)
    ]
    write(inbox / "later", "squares", range(103, 104))
    (second,) = once(Station.open(line.folder), inbox)
    assert second["product"] == "squares"
    assert logged(line) == ["100.png", "101.png", "102.png", "103.png"]


def test_a_file_is_taken_when_it_has_been_still_and_anew_when_it_was_replaced(line: Station, tmp_path: Path) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 101))
    watcher = Watcher(line, inbox, settle=0.15)
    assert not watcher.ready(), "seen for the first time"
    with (inbox / "100.png").open("ab") as file:
        file.write(b"\0")
    time.sleep(0.16)
    assert not watcher.ready(), "it has grown"
    time.sleep(0.16)
    (ready,) = watcher.ready()
    assert len(list(watcher.inspect([ready]))) == 1
    assert not watcher.ready()
    picture("stripes", 101).save(inbox / "100.png")
    watcher.ready()
    time.sleep(0.16)
    assert len(watcher.ready()) == 1


def test_unfinished_and_hidden_names_are_left(line: Station, tmp_path: Path) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 101))
    for name in (".101.png", "102.png.part", "notes.txt"):
        shutil.copy(inbox / "100.png", inbox / name)
    assert len(once(line, inbox)) == 1


def test_an_unreadable_picture_is_named_once(line: Station, tmp_path: Path) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 103))
    (inbox / "101.png").write_bytes(b"no picture")
    found = once(line, inbox)
    assert sorted(one["verdict"] for one in found if "reason" in one) == ["unreadable"]
    assert len(found) == 3
    assert not once(Station.open(line.folder), inbox)
    assert logged(line) == ["100.png", "102.png"]


def test_a_version_that_is_put_in_service_meanwhile_is_asked_from_then_on(line: Station, tmp_path: Path) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 101))
    watcher = Watcher(line, inbox, settle=0.0)
    list(watcher.inspect(watcher.ready()))
    Station.open(line.folder).set_threshold("stripes", value=0.0)
    write(inbox, "stripes", range(101, 102))
    (after,) = watcher.inspect(watcher.ready())
    assert (after["threshold"], after["verdict"]) == (0.0, "defective")


def test_a_folder_that_vanishes_is_waited_for(line: Station, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 101))
    watcher = Watcher(line, inbox, settle=0.0)
    inbox.rename(tmp_path / "away")
    assert not watcher.ready()
    assert not watcher.ready()
    assert len([one for one in caplog.records if "waiting for it" in one.getMessage()]) == 1
    (tmp_path / "away").rename(inbox)
    assert len(watcher.ready()) == 1


def test_a_disk_that_is_full_marks_nothing_as_done(
    line: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 103))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("continuad.station.heat.replace_file", full)
        with pytest.raises(OSError, match="No space left"):
            once(line, inbox, out=tmp_path / "heat")
    assert not logged(line)
    assert len(once(line, inbox, out=tmp_path / "heat")) == 3
    assert len(list((tmp_path / "heat").glob("*_heat.png"))) == 3


def test_what_cannot_be_watched_is_refused(line: Station, tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match="there is no such folder"):
        Watcher(line, tmp_path / "none")
    with pytest.raises(ContinuadError, match="lies in this folder"):
        Watcher(line, tmp_path)


def test_killed_at_any_moment_each_picture_is_in_the_log_exactly_once(line: Station, tmp_path: Path) -> None:
    """A real process, killed the hard way again and again while pictures arrive; a message for each waits."""
    inbox, names = tmp_path / "inbox", [f"{number:03}.png" for number in range(100, 120)]
    write(inbox, "stripes", range(100, 112))
    run = "from continuad.cli.app import main; main()"
    command = [sys.executable, "-c", run, "watch", str(line.folder), str(inbox), "--settle", "0.05"]
    url = f"http://127.0.0.1:{free_port()}/verdicts"  # nobody answers there
    command += ["--webhook", url]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    for number, so_many in enumerate((1, 14)):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while len(line.inspections()) < so_many:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.wait()
        write(inbox, "stripes", range(112 + 4 * number, 116 + 4 * number))
    outbox = Outbox(line.engine, Webhook(url))
    once(line, inbox, outboxes=[outbox])
    assert sorted(logged(line)) == names
    assert outbox.waiting() == len(names)
