"""A watched folder while files change, others watch it too, and disk or database fail."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from station_parts import picture, write
from typer.testing import CliRunner

from continuad.cli.app import app
from continuad.errors import ContinuadError
from continuad.station import Station
from continuad.station import watch as watching
from continuad.station.heat import line_of
from continuad.station.pictures import content_of
from continuad.station.watch import Watcher, watch


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return write(tmp_path / "inbox", "stripes", range(100, 104))


def taken(watcher: Watcher) -> list[str]:
    return [Path(line["file"]).name for line in watcher.inspect(watcher.ready())]


def logged(station: Station) -> list[str]:
    return [Path(row["file"]).name for row in station.inspections()]


def test_a_file_replaced_after_it_was_seen_is_inspected_once(line: Station, inbox: Path) -> None:
    watcher = Watcher(line, inbox, settle=0.0)
    files = watcher.ready()
    picture("stripes", 200).save(inbox / "101.png")
    assert len(list(watcher.inspect(files))) == 3
    assert taken(watcher) == ["101.png"]
    assert line.inspections(1)[0]["content"] == content_of(picture("stripes", 200))
    assert not taken(watcher)


def test_a_file_replaced_while_it_is_inspected_is_left_and_its_company_is_not(
    line: Station, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replacing(*given: Any) -> dict[str, Any]:
        monkeypatch.setattr(watching, "line_of", line_of)
        picture("stripes", 200).save(inbox / "101.png")
        return line_of(*given)

    monkeypatch.setattr(watching, "line_of", replacing)
    watcher = Watcher(line, inbox, settle=0.0)
    assert taken(watcher) == ["100.png", "102.png", "103.png"]
    assert logged(line) == ["100.png", "102.png", "103.png"]
    assert taken(watcher) == ["101.png"]
    assert line.inspections(1)[0]["content"] == content_of(picture("stripes", 200))
    assert line.drift()[0]["seen"] == 4, "what was taken back is not in the drift watch either"


def test_a_file_taken_away_while_it_is_inspected_is_in_the_log(
    line: Station, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def archiving(*given: Any) -> dict[str, Any]:
        (inbox / "101.png").unlink(missing_ok=True)
        return line_of(*given)

    monkeypatch.setattr(watching, "line_of", archiving)
    assert len(taken(Watcher(line, inbox, settle=0.0))) == 4


def test_another_time_alone_makes_no_new_file(line: Station, inbox: Path) -> None:
    taken(Watcher(line, inbox, settle=0.0))
    later = time.time_ns() + 10**9
    for path in inbox.iterdir():
        os.utime(path, ns=(later, later))
    picture("stripes", 200).save(inbox / "101.png")
    assert taken(Watcher(line, inbox, settle=0.0)) == ["101.png"]
    again = Watcher(line, inbox, settle=0.0)
    assert not again.ready(), "the new times are marked as done"


def test_two_watchers_of_one_folder_finish_each_file_once(line: Station, inbox: Path) -> None:
    one, other = Watcher(line, inbox, settle=0.0), Watcher(Station.open(line.folder), inbox, settle=0.0)
    (inbox / "102.png").write_bytes(b"no picture")
    mine, others = one.ready(), other.ready()
    assert len(list(one.inspect(mine[:2]))) == 2
    assert len(list(other.inspect(others))) == 2
    assert not list(one.inspect(mine))
    assert sorted(logged(line)) == ["100.png", "101.png", "103.png"]
    assert not one.pending()
    assert not other.pending()


def test_what_is_in_the_log_is_given_even_when_the_next_picture_fails(
    line: Station, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large pictures are logged a few at a time."""
    written = []

    def full(*given: Any) -> dict[str, Any]:
        written.append(given)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return line_of(*given)

    monkeypatch.setattr("continuad.station.judge.PIXELS", 1)
    monkeypatch.setattr(watching, "line_of", full)
    lines = watch(Watcher(line, inbox, settle=0.0), once=False, wait=lambda seconds: None)
    assert [Path(next(lines)["file"]).name for _ in range(4)] == logged(line) == [f"{n}.png" for n in range(100, 104)]


def test_nobody_waits_while_heat_maps_are_written(line: Station, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Station.open(line.folder)

    def meanwhile(*given: Any) -> dict[str, Any]:
        other.log.said("stripes", "good", "content")  # would fail after ten seconds within the watcher's transaction
        return line_of(*given)

    monkeypatch.setattr(watching, "line_of", meanwhile)
    assert len(taken(Watcher(line, inbox, settle=0.0))) == 4


def test_a_database_that_is_away_is_waited_for_unless_the_watch_is_to_end(
    line: Station, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def back(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            monkeypatch.undo()

    def away(*_: Any) -> None:
        raise ContinuadError("the station's database cannot be used: server closed the connection")

    monkeypatch.setattr(line.engine, "connect", away)
    with pytest.raises(ContinuadError, match="server closed"):
        next(watch(Watcher(line, inbox, settle=0.0), once=True, wait=back))
    found = watch(Watcher(line, inbox, settle=0.0), once=False, wait=back)
    assert next(found)["verdict"] == "good"
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_table_that_cannot_be_written_stops_no_inspection(line: Station, inbox: Path) -> None:
    done = CliRunner().invoke(app, ["watch", str(line.folder), str(inbox), "--once", "--csv", "/dev/full"])
    assert len(logged(line)) == 4
    assert done.stdout.count(" good, score") == 4
