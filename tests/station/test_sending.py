"""Verdicts on their way: kept until they have arrived, in their order, whatever the receiver does."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from services import free_port, program
from station_parts import write

from continuad.errors import ContinuadError
from continuad.station import Station
from continuad.station import outbox as outboxes
from continuad.station.outbox import Outbox
from continuad.station.senders import Mqtt, Webhook
from continuad.station.watch import Watcher, watch


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "PAUSES", (0.05, 0.2))


def until(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def inspected(line: Station, inbox: Path, outbox: Outbox) -> list[dict[str, Any]]:
    watcher = Watcher(line, inbox, settle=0.0, outboxes=[outbox])
    return list(watch(watcher, once=True, wait=lambda seconds: None))


@contextmanager
def server(answers: list[int]) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A web server that answers so, then 200; its URL, and the number and body of all that it accepted."""
    accepted: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = answers.pop(0) if answers else 200
            if status == 200:
                accepted.append((self.headers["Idempotency-Key"], body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/verdicts", accepted
    finally:
        running.shutdown()
        running.server_close()


def test_a_web_server_that_fails_at_first_gets_every_verdict_in_order(line: Station, tmp_path: Path) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 103))
    with server([503, 500, 429]) as (url, accepted):
        outbox = Outbox(line.engine, Webhook(url))
        with outbox.sending(20):
            lines = inspected(line, inbox, outbox)
    assert [body["file"] for _, body in accepted] == [one["file"] for one in lines]
    assert [body["score"] for _, body in accepted] == [one["score"] for one in lines]
    assert [number for number, _ in accepted] == [body["id"] for _, body in accepted]
    assert len({number for number, _ in accepted}) == 3
    assert outbox.waiting() == 0


def test_a_message_that_is_not_accepted_holds_up_no_other(line: Station, tmp_path: Path) -> None:
    inbox = write(tmp_path / "inbox", "stripes", range(100, 103))
    with server([400]) as (url, accepted):
        outbox = Outbox(line.engine, Webhook(url))
        with outbox.sending(20):
            lines = inspected(line, inbox, outbox)
    assert [body["file"] for _, body in accepted] == [one["file"] for one in lines[1:]]


def test_what_could_not_be_sent_is_sent_by_the_next_watch(line: Station, tmp_path: Path) -> None:
    inbox, port = write(tmp_path / "inbox", "stripes", range(100, 102)), free_port()
    away = Outbox(line.engine, Webhook(f"http://127.0.0.1:{port}/verdicts"))
    with away.sending(0.3):
        inspected(line, inbox, away)
    assert away.waiting() == 2
    with server([]) as (url, accepted):
        sender = Webhook(url)
        sender.name = away.sender.name  # the server has come back at its old place
        with Outbox(Station.open(line.folder).engine, sender).sending(20):
            pass
        assert len(accepted) == 2


def test_an_outbox_is_bounded_and_says_what_it_drops(
    line: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outboxes, "MOST", 2)
    outbox = Outbox(line.engine, Webhook("http://127.0.0.1:9/x"))
    inspected(line, write(tmp_path / "inbox", "stripes", range(100, 105)), outbox)
    assert outbox.waiting() == 5
    with outbox.sending(0.2):
        pass
    assert outbox.waiting() == 2
    assert "the 3 oldest are dropped" in caplog.text


def test_a_broker_that_dies_and_comes_back_gets_every_verdict(line: Station, tmp_path: Path) -> None:
    mosquitto, listen = program("mosquitto", "mosquitto"), program("mosquitto_sub", "mosquitto-clients")
    port, settings = free_port(), tmp_path / "mosquitto.conf"
    (tmp_path / "passwords").write_text("")
    subprocess.run(
        [program("mosquitto_passwd", "mosquitto"), "-b", tmp_path / "passwords", "line", "s3cret"], check=True
    )
    (tmp_path / "passwords").chmod(0o644)
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {tmp_path / 'passwords'}\nuser root\n"
    )

    def broker() -> subprocess.Popen[bytes]:
        return subprocess.Popen([mosquitto, "-c", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    heard = tmp_path / "heard"
    running, inbox = broker(), tmp_path / "inbox"
    time.sleep(0.3)
    with heard.open("wb") as file:
        ask = [listen, "-h", "127.0.0.1", "-p", str(port), "-u", "line", "-P", "s3cret", "-q", "1", "-t", "hall/line1"]
        listener = subprocess.Popen([*ask, "-i", "listener", "-c"], stdout=file)
        try:
            time.sleep(0.5)
            outbox = Outbox(line.engine, Mqtt(f"mqtt://line:s3cret@127.0.0.1:{port}/hall/line1"))
            assert "s3cret" not in outbox.sender.name
            with outbox.sending(20):
                first = inspected(line, write(inbox, "stripes", range(100, 102)), outbox)
                until(lambda: heard.read_bytes().count(b"\n") == 2)
                running.kill()
                running.wait()
                second = inspected(line, write(inbox, "stripes", range(102, 104)), outbox)
                time.sleep(0.3)
                running = broker()
                time.sleep(1.5)  # the listener comes back, too
                third = inspected(line, write(inbox, "stripes", range(104, 105)), outbox)
            assert outbox.waiting() == 0
            lines = [*first, *second, *third]
            found = lambda: [json.loads(text)["file"] for text in heard.read_text().splitlines()]  # noqa: E731
            until(lambda: lines[-1]["file"] in found())
            assert list(dict.fromkeys(found()))[-1] == lines[-1]["file"]
            assert len(second) == 2
        finally:
            listener.kill()
            running.kill()
            listener.wait()
            running.wait()


@pytest.mark.parametrize("url", ["mqtt://host", "broker/topic", "http://host/topic", "mqtt:///topic"])
def test_a_broker_is_named_by_host_and_topic(url: str) -> None:
    with pytest.raises(ContinuadError, match="give mqtt://HOST/TOPIC"):
        Mqtt(url)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(ContinuadError) as refused:
        Webhook("ftp://line:s3cret@host/x")
    assert "s3cret" not in str(refused.value)
    assert "line:***@host" in str(refused.value)
