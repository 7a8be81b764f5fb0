"""Messages that are kept until they were sent: nothing is lost while a broker or a server is away."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any, Protocol

import sqlalchemy as sa

from continuad.errors import ContinuadError
from continuad.station.tables import outbox

MOST = 100_000  # messages that wait; beyond it the oldest are dropped, and that is said
PAUSES = (1.0, 60.0)  # seconds: the first pause after a message could not be sent, and the longest
LOOK = 0.1  # seconds between two looks for new messages
LEAVE = 5.0  # seconds that the end waits for the message on its way
COUNT = 10.0  # seconds between two counts of those that wait
_log = logging.getLogger(__name__)


class Later(Exception):
    """A message could not be sent now."""


class Refused(Exception):
    """A message was not accepted, and will not be."""


class Sender(Protocol):
    """Where messages go.

    Attributes:
        name: what to call it, without passwords; messages wait under it.
    """

    name: str

    def send(self, body: str, number: str) -> None:
        """Send a message; return once it has arrived.

        Args:
            number: the same for every attempt, so that a receiver can drop repeats.

        Raises:
            Later: it could not be sent. Refused: it was not accepted.
        """

    def close(self) -> None:
        """Let go of the connection."""


class Outbox:
    """The messages to one sender, in their order, each sent at least once.

    Args:
        engine: the station's database. sender: where they go.
    """

    def __init__(self, engine: sa.Engine, sender: Sender):
        self.engine, self.sender = engine, sender
        self._end = threading.Event()
        self._counted = -COUNT

    def put(self, connection: sa.Connection, message: dict[str, Any]) -> None:
        """Keep a message, within a transaction."""
        connection.execute(outbox.insert().values(channel=self.sender.name, body=json.dumps(message)))

    def waiting(self) -> int:
        """How many messages were not sent yet."""
        with self.engine.connect() as connection:
            asked = sa.select(sa.func.count()).where(outbox.c.channel == self.sender.name)
            return int(connection.scalar(asked) or 0)

    @contextmanager
    def sending(self, patience: float) -> Iterator[None]:
        """Send in a thread; at the end wait `patience` seconds at most until all were sent. The rest stays."""
        thread = threading.Thread(target=self._run, daemon=True, name=f"sending to {self.sender.name}")
        thread.start()
        try:
            yield
            deadline = monotonic() + patience
            while self.waiting() and monotonic() < deadline:
                sleep(LOOK)
        finally:
            self._end.set()
            thread.join(LEAVE)  # it may be waiting for a silent receiver; then it ends with the process
            if left := self.waiting():
                _log.warning("%d messages to %s wait; the next watch sends them", left, self.sender.name)

    def _run(self) -> None:
        pause = PAUSES[0]
        while not self._end.is_set():
            try:
                self._drop_oldest()
                if not self._send_first():
                    self._end.wait(LOOK)
                pause = PAUSES[0]
            except (Later, ContinuadError) as why:  # the receiver, or the station's database, is away
                _log.warning("%s: %s; trying again in %.0f seconds", self.sender.name, why, pause)
                self._end.wait(pause)
                pause = min(PAUSES[1], 2 * pause)
        self.sender.close()

    def _send_first(self) -> bool:
        """Send the oldest message; whether there was one.

        Raises:
            Later: it could not be sent. ContinuadError: the database cannot be used.
        """
        row = self._first()
        if row is None:
            return False
        try:
            self.sender.send(row.body, str(json.loads(row.body)["id"]))
        except Refused as why:
            _log.warning("%s does not accept a message, which is dropped: %s", self.sender.name, why)
        # Another process may have sent and deleted it meanwhile, and SQLite gives its number to the next message.
        sent = outbox.c.id == row.id, outbox.c.body == row.body
        with self.engine.begin() as connection:
            connection.execute(outbox.delete().where(*sent))
        return True

    def _first(self) -> Any:
        mine = sa.select(outbox).where(outbox.c.channel == self.sender.name).order_by(outbox.c.id).limit(1)
        with self.engine.connect() as connection:
            return connection.execute(mine).first()

    def _drop_oldest(self) -> None:
        """Keep to `MOST`; looked at now and then, since counting takes longer than a look for the first."""
        if monotonic() - self._counted < COUNT:
            return
        self._counted = monotonic()
        if (beyond := self.waiting() - MOST) <= 0:
            return
        _log.warning("more than %d messages wait for %s; the %d oldest are dropped", MOST, self.sender.name, beyond)
        oldest = sa.select(outbox.c.id).where(outbox.c.channel == self.sender.name).order_by(outbox.c.id).limit(beyond)
        with self.engine.begin() as connection:
            connection.execute(outbox.delete().where(outbox.c.id.in_(connection.scalars(oldest).all())))
