"""The station's tables on PostgreSQL: a real server, started for these tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import free_port, postgresql_programs, program
from station_parts import SIZE, SMALL, write

from continuad.errors import ContinuadError
from continuad.station import Station
from continuad.station import versions as versions_file
from continuad.station.watch import Watcher, watch


class Server:
    """PostgreSQL in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        if self.user:
            shutil.chown(folder, self.user)
        self._run("initdb", "-D", str(folder / "data"), "-U", "line", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c fsync=off -c listen_addresses=127.0.0.1"
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")

    def database(self, name: str) -> str:
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "line", name)
        return f"postgresql+psycopg://line:unused@127.0.0.1:{self.port}/{name}"

    def _run(self, name: str, *arguments: str) -> None:
        command = [program(name, "postgresql", *postgresql_programs()), *arguments]
        subprocess.run(command, user=self.user, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="continuad-postgresql-"))
    running = Server(folder)
    running.start()
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    return server.database("line")


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory, url: str, parts: Path) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "line"
    made = Station.open(folder, url, create=True)
    for kind in ("stripes", "squares"):
        made.learn(parts / kind, geometry=SIZE, options=SMALL)
    made.close()
    return folder


def test_every_verb_works_on_it(station: Path, url: str, parts: Path, tmp_path: Path) -> None:
    line = Station.open(station, url)
    assert not (station / "station.db").exists()
    before = [one.score for one in line.inspect(parts / "bad")]
    version = line.version
    line.update("stripes", parts / "more" / "stripes", tolerance=None)
    line.feedback(parts / "bad" / "stripes" / "200.png", good=False)
    line.set_threshold("squares", false_alarms=0.2)
    line.undo(version)
    again = Station.open(station, url)
    assert [one.score for one in again.inspect(parts / "bad")] == before
    assert [row["verb"] for row in again.history()][-3:] == ["update", "threshold", "undo"]
    assert again.drift()[0]["seen"] > 0
    inbox = write(tmp_path / "inbox", "stripes", range(100, 103))
    for expected in (3, 0):
        found = list(watch(Watcher(Station.open(station, url), inbox, settle=0.0), True, lambda seconds: None))
        assert len(found) == expected
    again.learn(parts / "stripes", "twin", geometry=SIZE, options=SMALL, tolerance=None)
    again.forget("twin")
    assert [one.name for one in again.products()] == ["stripes", "squares"]


def test_two_machines_take_turns(station: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folder is shared over a network, a lock on a file may not reach the other machine."""
    monkeypatch.setattr(
        versions_file.filelock, "FileLock", lambda path: versions_file.filelock.SoftFileLock(f"{path}{time.time_ns()}")
    )
    monkeypatch.setattr(versions_file, "WAIT", 0.3)
    one, other = (Station.open(station, url) for _ in range(2))
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with one.versions.writing():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(ContinuadError, match="another machine is writing"):
        other.set_threshold("stripes", false_alarms=0.1)
    go_on.set()
    thread.join()
    other.set_threshold("stripes", false_alarms=0.1)


def test_a_lost_connection_changes_nothing_and_is_taken_up_again(
    server: Server, station: Path, url: str, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Station.open(station, url)
    version, written = line.version, line.versions.written

    def then_the_server_dies(taught):  # type: ignore[no-untyped-def]
        found = written(taught)
        if taught.name == "squares":
            server.stop()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(line.versions, "written", then_the_server_dies)
        with pytest.raises(ContinuadError, match="the station's database cannot be used") as refused:
            line.set_threshold("stripes", false_alarms=0.3)
    assert "unused@" not in str(refused.value)
    server.start()
    assert line.version == version
    line.set_threshold("stripes", false_alarms=0.3)
    assert line.version > version


def test_a_watch_goes_on_when_the_server_is_back(server: Server, station: Path, url: str, tmp_path: Path) -> None:
    inbox, pauses = write(tmp_path / "inbox", "stripes", range(100, 103)), []
    line = Station.open(station, url)
    before = len(line.inspections())

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            server.start()

    lines = watch(Watcher(line, inbox, settle=0.0), once=False, wait=wait)
    server.stop()
    assert [Path(next(lines)["file"]).name for _ in range(3)] == ["100.png", "101.png", "102.png"]
    assert pauses == [1.0, 2.0]
    assert len(line.inspections()) == before + 3


def test_two_watchers_of_one_folder_finish_each_file_once_there_too(station: Path, url: str, tmp_path: Path) -> None:
    """At the same time, in threads: neither sees what the other has not yet put in."""
    inbox, logged = write(tmp_path / "inbox", "stripes", range(100, 106)), len(Station.open(station, url).inspections())
    found: list[str] = []

    def run(watcher: Watcher) -> None:
        found.extend(line["file"] for line in watch(watcher, True, lambda seconds: None))

    watchers = [Watcher(Station.open(station, url), inbox, settle=0.0) for _ in range(2)]
    threads = [threading.Thread(target=run, args=(watcher,)) for watcher in watchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(Path(name).name for name in found) == [f"{n}.png" for n in range(100, 106)]
    assert len(Station.open(station, url).inspections()) == logged + 6


def test_a_database_serves_one_station(station: Path, url: str, tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match="the database is not this station's"):
        Station.open(tmp_path / "other", url, create=True)
