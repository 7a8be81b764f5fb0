"""The log of inspections, the drift watch that follows it, and what people said of verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from continuad.data.names import printable
from continuad.station.drift import Watch, follow
from continuad.station.judge import Inspection, Judge
from continuad.station.tables import drift, feedback, inspections
from continuad.station.versions import now

COLUMNS = ("content", "product", "verdict", "score", "threshold", "confidence", "seconds", "version")


class Also(Protocol):
    """What is done beside writing verdicts into the log."""

    def before(self, found: Sequence[Inspection]) -> None:
        """Done before the transaction, so that nobody waits for it: files that go with the verdicts."""

    def within(self, connection: sa.Connection, one: Inspection, number: int) -> None:
        """Done in the transaction, for each verdict and the number of its row; an exception takes all of it back."""


class Log:
    """What was inspected and said, in the station's database.

    Args:
        engine: the database.
    """

    def __init__(self, engine: sa.Engine):
        self.engine = engine

    def note(self, found: Sequence[Inspection], judge: Judge, also: Also | None = None) -> None:
        """Write verdicts, and let the drift watches of their products see them; all of it or nothing.

        Args:
            also: what is done beside it.
        """
        if also:
            also.before(found)
        with self.engine.begin() as connection:
            for one in found:
                row = {"at": now(), "file": printable(one.file)} | {name: getattr(one, name) for name in COLUMNS}
                made = connection.execute(inspections.insert().values(**row).returning(inspections.c.id))
                number = int(made.scalar_one())
                if also:
                    also.within(connection, one, number)
            self._follow(connection, found, judge)

    def _follow(self, connection: sa.Connection, found: Sequence[Inspection], judge: Judge) -> None:
        for product in sorted({one.product for one in found}):  # in one order, or two writers wait for each other
            mine = drift.c.product == product
            before = connection.scalar(sa.select(drift.c.state).where(mine).with_for_update())
            state = before
            for one in found:
                if one.product == product:
                    state = follow(state, judge.taught(product), one).plain()
            if before is None:
                connection.execute(drift.insert().values(product=product, state=state))
            else:
                connection.execute(drift.update().where(mine).values(state=state))

    def said(self, product: str, kind: str, content: str) -> None:
        """Write what a person said of a picture."""
        with self.engine.begin() as connection:
            row = {"at": now(), "product": product, "kind": kind, "content": content}
            connection.execute(feedback.insert().values(**row))

    def inspections(self, last: int | None = None) -> list[dict[str, Any]]:
        """Rows of `tables.inspections`, oldest first; the last ones alone where a number is given."""
        asked = sa.select(inspections).order_by(inspections.c.id.desc())
        with self.engine.connect() as connection:
            rows = connection.execute(asked if last is None else asked.limit(last)).mappings()
            return [dict(row) for row in rows][::-1]

    def drift(self, judge: Judge) -> list[dict[str, Any]]:
        """The drift watch of each product in service."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(drift.c.product, drift.c.state)).mappings()
            states = {row["product"]: row["state"] for row in rows}
        watches = [(one.name, states.get(one.name), one.blob) for one in judge.products.values()]
        return [
            {"product": name, **(state if state and state["blob"] == blob else Watch(blob).plain())}
            for name, state, blob in watches
        ]
