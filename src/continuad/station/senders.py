"""Where verdicts are sent: an MQTT broker, or a web server."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from continuad.errors import ContinuadError
from continuad.station.outbox import Later, Refused

TIMEOUT = 10.0  # seconds
PORTS = {"mqtt": 1883, "mqtts": 8883}
ENCODED = "in a name or password write %2F for /, %23 for #, %3F for ?, %40 for @"


class Mqtt:
    """An MQTT broker, quality of service 1: the broker confirms each message.

    Args:
        url: mqtt://user:password@host:port/topic, or mqtts:// with TLS.

    Raises:
        ContinuadError: the URL names no host or no topic that can be sent to, or paho-mqtt is not installed.
    """

    def __init__(self, url: str):
        parts = _parts("--mqtt", url, "give mqtt://HOST/TOPIC, with USER:PASSWORD@ and :PORT if needed", tuple(PORTS))
        self.topic = unquote(parts.path.strip("/"))
        if "@" in url.rpartition(parts.netloc)[2]:
            raise ContinuadError(f"--mqtt: a topic holds no @; {ENCODED}")
        if not self.topic or parts.query or parts.fragment or set("+#") & set(self.topic):
            raise ContinuadError(
                f"--mqtt {_hidden(parts)}: give mqtt://HOST/TOPIC, where the topic is not empty and holds no + # ?"
            )
        try:
            from paho.mqtt import client as paho
        except ModuleNotFoundError:
            raise ContinuadError("--mqtt needs paho-mqtt: pip install 'continuad[mqtt]'") from None
        self.name = _hidden(parts)
        self._paho, self._parts = paho, parts
        self._client: Any = None

    def send(self, body: str, number: str) -> None:
        """See `Sender`; the number is the message's `id`."""
        try:
            if self._client is None:
                self._connect()
            sent = self._client.publish(self.topic, body, qos=1)
            self._until(sent.is_published)
        except (OSError, RuntimeError, ValueError) as error:
            self.close()  # what the client itself would repeat is sent again from the outbox
            raise Later(str(error)) from error

    def close(self) -> None:
        """See `Sender`."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
        self._client = None

    def _connect(self) -> None:
        parts = self._parts
        self._client = self._paho.Client(self._paho.CallbackAPIVersion.VERSION2)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or "") or None)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.connect(parts.hostname, parts.port or PORTS[parts.scheme], keepalive=30)
        self._client.loop_start()
        self._until(self._client.is_connected, connecting=True)

    def _until(self, done: Callable[[], bool], connecting: bool = False) -> None:
        """Wait for the broker.

        Raises:
            OSError: it is gone, or silent for `TIMEOUT`.
        """
        deadline = monotonic() + TIMEOUT
        while not done():
            if not connecting and not self._client.is_connected():
                raise OSError("the connection to the broker was lost")
            if monotonic() > deadline:
                raise OSError("the broker does not let us in" if connecting else "the broker did not confirm it")
            sleep(0.005)


class Webhook:
    """A web server that takes JSON by POST. The header Idempotency-Key is the same for every attempt.

    Args:
        url: http:// or https://; a name and a password in it are sent as basic authorisation.

    Raises:
        ContinuadError: it is no such URL, or httpx is not installed.
    """

    def __init__(self, url: str):
        parts = _parts("--webhook", url, "give http://HOST/PATH or https://HOST/PATH", ("http", "https"))
        try:
            import httpx
        except ModuleNotFoundError:
            raise ContinuadError("--webhook needs httpx: pip install 'continuad[webhook]'") from None
        self.name, self._url = _hidden(parts), url
        self._client: Any = httpx.Client(timeout=TIMEOUT, follow_redirects=False)
        self._failed = httpx.HTTPError

    def send(self, body: str, number: str) -> None:
        """See `Sender`."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": number}
        try:
            status = self._client.post(self._url, content=body, headers=headers).status_code
        except self._failed as error:
            raise Later(str(error) or type(error).__name__) from error
        if status in (408, 425, 429) or status >= 500:
            raise Later(f"it answers {status}")
        if status >= 300:
            raise Refused(f"it answers {status}")

    def close(self) -> None:
        """See `Sender`."""
        self._client.close()


def _parts(option: str, url: str, remedy: str, schemes: tuple[str, ...]) -> SplitResult:
    """The parts of a URL.

    Raises:
        ContinuadError: it is none, or one of another kind.
    """
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in schemes or not parts.hostname or parts.port == 0
    except ValueError:  # neither the URL nor the reason is repeated: they would hold a password, or a part of it
        raise ContinuadError(f"{option}: this is no URL; {remedy} ({ENCODED})") from None
    if wrong:
        raise ContinuadError(f"{option} {_hidden(parts)}: {remedy}")
    return parts


def _hidden(parts: SplitResult) -> str:
    """A URL without its password, and without what follows a question mark, which often is one."""
    host = parts.netloc
    if parts.password is not None:
        host = f"{parts.username}:***@{host.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=host, query="***" if parts.query else ""))
