"""Versions of a station: made whole, put in service in one transaction, gone back to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import filelock
import sqlalchemy as sa

from continuad.errors import ContinuadError
from continuad.station.blobs import Blobs
from continuad.station.database import WAIT, is_read_only
from continuad.station.tables import history, members, versions
from continuad.station.taught import Taught

WRITING = 0x636F6E74  # PostgreSQL's number of the lock that a writer holds
_log = logging.getLogger(__name__)


class Versions:
    """What was in service when.

    Args:
        folder: the station's. engine: its database. blobs: its files.
    """

    def __init__(self, folder: Path, engine: sa.Engine, blobs: Blobs):
        self.folder, self.engine, self.blobs = folder, engine, blobs

    def head(self) -> int:
        """The version in service; 0 before the first product."""
        with self.engine.connect() as connection:
            return head_of(connection)

    def members(self, version: int) -> list[dict[str, Any]]:
        """Rows of `tables.members`, in the order the products were taught."""
        asked = sa.select(members).where(members.c.version == version).order_by(members.c.place)
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(asked).mappings()]

    def history(self) -> list[dict[str, Any]]:
        """Rows of `tables.history`, oldest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(history).order_by(history.c.id)).mappings()
            return [dict(row) for row in rows]

    def written(self, taught: Taught) -> Taught:
        """A product whose tensors lie in a file; one that is in no version yet is removed by the next sweep."""
        return taught if taught.blob else replace(taught, blob=self.blobs.put(taught.tensors()))

    def promote(
        self,
        verb: str,
        product: str,
        products: Sequence[Taught],
        report: dict[str, Any],
        also: Callable[[sa.Connection], None] | None = None,
    ) -> None:
        """Make a version of these products, whose files are written, and put it in service.

        Args:
            also: done in the same transaction.
        """
        with self.engine.begin() as connection:
            before = head_of(connection)
            made = versions.insert().values(made_at=now(), verb=verb, product=product, before=before or None)
            after = connection.execute(made.returning(versions.c.id)).scalar_one()
            for place, taught in enumerate(products):
                row = {"version": after, "product": taught.name, "place": place, "blob": taught.blob}
                connection.execute(members.insert().values(**row, record=taught.record.plain()))
            _note(connection, verb, product, before, after, report)
            if also:
                also(connection)

    def sweep(self, shown: Collection[str]) -> None:
        """Remove files that no version names, which interrupted writes and changes not put in service leave, and those
        that hold pictures of a product that was forgotten.

        Args:
            shown: origins of all products that were not.
        """
        record = members.c.record
        asked = sa.select(members.c.blob, record["origin"].as_string(), record["pictures"].as_boolean()).distinct()
        with self.engine.connect() as connection:
            rows = connection.execute(asked).all()
        self.blobs.sweep(blob for blob, origin, pictures in rows if origin in shown or not pictures)

    def refuse(self, verb: str, product: str, report: dict[str, Any]) -> None:
        """Note a change that was not put in service."""
        with self.engine.begin() as connection:
            _note(connection, verb, product, head_of(connection), None, report)

    def go_back(self, to: int | None) -> int:
        """Put a version in service again, or the one before; its number.

        Raises:
            ContinuadError: there is none, or it lacks files.
        """
        with self.engine.begin() as connection:
            now_in_service = head_of(connection)
            asked = sa.select(versions.c.before).where(versions.c.id == now_in_service)
            before = connection.scalar(asked) if to is None else to
            there = before is not None and 0 < before < 2**31  # more is no number of a database
            known = connection.scalar(sa.select(versions.c.id).where(versions.c.id == before)) if there else None
            if known is None:
                none = (
                    "there is no version before this one" if to is None else f"there is no version {to}; see `history`"
                )
                raise ContinuadError(none)
            for blob in connection.scalars(sa.select(members.c.blob).where(members.c.version == known)):
                self.blobs.get(blob)
            _note(connection, "undo", "", now_in_service, known, {})
        return int(known)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One writer at a time.

        Raises:
            ContinuadError: another one takes longer than `WAIT`, or the station can only be read.
        """
        lock = filelock.FileLock(self.folder / "writing.lock")
        if is_read_only(self.folder, None):
            raise ContinuadError(f"{self.folder}: this station can only be read; its folder takes no file")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            _log.warning("another process is writing to %s; waiting up to %g seconds", self.folder, WAIT)
            try:
                lock.acquire(timeout=WAIT)
            except filelock.Timeout:
                busy = f"{self.folder}: another process is writing to this station; try again later"
                raise ContinuadError(busy) from None
        try:
            with self._alone():
                yield
        finally:
            lock.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other machine writes, either: on PostgreSQL by a lock that ends with the connection."""
        if self.engine.dialect.name != "postgresql":
            yield
            return
        with self.engine.connect() as connection:
            connection.detach()  # so that leaving ends it
            deadline = monotonic() + WAIT
            while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(WRITING))):
                if monotonic() > deadline:
                    raise ContinuadError(f"{self.folder}: another machine is writing to this station; try again later")
                sleep(0.2)
            connection.commit()
            yield


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def head_of(connection: sa.Connection) -> int:
    """The version that was put in service last."""
    promoted = sa.select(history.c.after).where(history.c.promoted).order_by(history.c.id.desc()).limit(1)
    return int(connection.scalar(promoted) or 0)


def _note(
    connection: sa.Connection, verb: str, product: str, before: int, after: int | None, report: dict[str, Any]
) -> None:
    row = {"at": now(), "verb": verb, "product": product, "before": before or None, "after": after}
    connection.execute(history.insert().values(**row, promoted=after is not None, report=report))
