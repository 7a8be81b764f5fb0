"""Verdicts on their way: kept until they have arrived, in their order, whatever the receiver does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
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
from continuad.station import Station, senders
from continuad.station import outbox as outboxes
from continuad.station.outbox import Outbox
from continuad.station.senders import Mqtt, Webhook
from continuad.station.watch import Watcher, watch


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "PAUSES", (0.05, 0.2))
    monkeypatch.setattr(outboxes, "COUNT", 0.0)


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


def test_a_broker_is_reached_by_tls(line: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its certificate is checked, here against a plant's own."""
    mosquitto, port = program("mosquitto", "mosquitto"), free_port()
    listen, openssl = program("mosquitto_sub", "mosquitto-clients"), program("openssl", "openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, stderr=subprocess.DEVNULL)
    (tmp_path / "conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\ncertfile {certificate}\nkeyfile {key}\nuser root\n"
    )
    running = subprocess.Popen(
        [mosquitto, "-c", tmp_path / "conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(0.3)
        heard = [listen, "-h", "localhost", "-p", str(port), "--cafile", certificate, "-t", "line1", "-C", "2"]
        listener = subprocess.Popen(heard, stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        inbox, url = write(tmp_path / "inbox", "stripes", range(100, 102)), f"mqtts://localhost:{port}/line1"
        refusing = Outbox(line.engine, Mqtt(url))
        with refusing.sending(1):
            inspected(line, inbox, refusing)
        assert refusing.waiting() == 2, "the certificate is nobody's that this machine trusts"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Outbox(line.engine, Mqtt(url)).sending(10):
            pass
        files = [Path(json.loads(text)["file"]).name for text in listener.communicate(timeout=10)[0].splitlines()]
        assert files == ["100.png", "101.png"]
    finally:
        running.kill()
        running.wait()


class Kept:
    """A sender that keeps what it is given."""

    name = "kept"

    def __init__(self, during: Callable[[], object] = lambda: None):
        self.numbers: list[str] = []
        self.during = during

    def send(self, body: str, number: str) -> None:
        self.numbers.append(number)
        self.during()

    def close(self) -> None:
        pass


def put(outbox: Outbox, *numbers: str) -> None:
    with outbox.engine.begin() as connection:
        for number in numbers:
            outbox.put(connection, {"id": number})


def test_sending_goes_on_when_the_database_was_away(line: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(line.engine, sender := Kept())
    looks: list[int] = []
    first = outbox._first

    def sometimes() -> Any:
        looks.append(1)
        if len(looks) in (1, 3):
            raise ContinuadError("the station's database cannot be used: database is locked")
        return first()

    monkeypatch.setattr(outbox, "_first", sometimes)
    put(outbox, "1", "2")
    with outbox.sending(10):
        pass
    assert sender.numbers == ["1", "2"]


def test_a_slow_receiver_does_not_make_the_outbox_grow(line: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "MOST", 2)
    outbox = Outbox(line.engine, sender := Kept(lambda: time.sleep(0.2)))
    put(outbox, "1")
    with outbox.sending(10):
        until(lambda: sender.numbers == ["1"])
        put(outbox, "2", "3", "4", "5")
    assert sender.numbers == ["1", "4", "5"]


def test_a_message_is_not_lost_when_another_process_has_sent_the_one_before(line: Station) -> None:
    """SQLite gives the number of the last row to the next one once that is deleted."""

    def meanwhile() -> None:
        if sender.numbers == ["1"]:
            with line.engine.begin() as connection:
                connection.execute(outboxes.outbox.delete())
            put(outbox, "2")

    outbox = Outbox(line.engine, sender := Kept(meanwhile))
    put(outbox, "1")
    with outbox.sending(10):
        until(lambda: bool(sender.numbers))
    assert sender.numbers == ["1", "2"]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_does_not_wait_for_a_silent_broker(line: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "LEAVE", 0.1)
    monkeypatch.setattr(senders, "TIMEOUT", 0.8)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outbox = Outbox(line.engine, Mqtt(f"mqtt://127.0.0.1:{silent.getsockname()[1]}/line1"))
        put(outbox, "1")
        began = time.monotonic()
        with outbox.sending(0.2):
            pass
        assert time.monotonic() - began < 0.7
        name = f"sending to {outbox.sender.name}"
        until(lambda: all(thread.name != name for thread in threading.enumerate()))
    assert outbox.waiting() == 1


@pytest.mark.parametrize(
    "url",
    ["mqtt://host", "broker/topic", "http://host/topic", "mqtt:///topic", "mqtt://host/hall/+/x", "mqtt://host/a#b"],
)
def test_a_broker_is_named_by_host_and_topic(url: str) -> None:
    with pytest.raises(ContinuadError, match="give mqtt://HOST/TOPIC"):
        Mqtt(url)


@pytest.mark.parametrize("kind", [Mqtt, Webhook])
@pytest.mark.parametrize("rest", ["line:s3cret@host:99999/x", "line:s3cret@[::1/x", "line:s3cret/4@host/x"])
def test_an_impossible_url_is_refused_at_once_and_not_repeated(kind: Callable[[str], Any], rest: str) -> None:
    with pytest.raises(ContinuadError) as refused:
        kind(("mqtt://" if kind is Mqtt else "http://") + rest)
    assert "s3" not in str(refused.value)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(ContinuadError) as refused:
        Webhook("ftp://line:s3cret@host/x")
    assert "s3cret" not in str(refused.value)
    assert "line:***@host" in str(refused.value)
    with pytest.raises(ContinuadError, match="%2F for /") as refused:
        Mqtt("mqtt://line:12/s3cret@host/topic")  # read as the host "line" and its port 12
    assert "s3cret" not in str(refused.value)
    assert Webhook("https://host/hook?token=s3cret").name == "https://host/hook?***"


@pytest.mark.parametrize(("kind", "url", "extra"), [(Mqtt, "mqtt://h/t", "mqtt"), (Webhook, "http://h/x", "webhook")])
def test_what_is_not_installed_is_named(
    kind: Callable[[str], Any], url: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("paho.mqtt", "httpx"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ContinuadError, match=rf"pip install 'continuad\[{extra}\]'"):
        kind(url)
