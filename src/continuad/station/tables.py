"""The station's tables: versions, what each consists of, history, inspections and feedback; SQLite or PostgreSQL."""

from __future__ import annotations

import uuid
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from continuad.errors import ContinuadError
from continuad.files import replace_file

SCHEMA = 1  # raised with every change of the tables; `open_database` says what to do with another

metadata = sa.MetaData()


def _number() -> sa.Column[int]:
    """The rows of a table in the order they were written."""
    return sa.Column("id", sa.Integer, primary_key=True)


def _text(name: str, index: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False, index=index)


def _measured(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=False)


meta = sa.Table("meta", metadata, sa.Column("key", sa.String, primary_key=True), sa.Column("value", sa.String))

versions = sa.Table(
    "versions",
    metadata,
    _number(),
    _text("made_at"),
    _text("verb"),
    _text("product"),
    sa.Column("before", sa.Integer),
)
"""A state of the whole station; `before` is the version it was made from."""

members = sa.Table(
    "members",
    metadata,
    sa.Column("version", sa.Integer, sa.ForeignKey("versions.id"), primary_key=True),
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    _text("blob"),
    sa.Column("record", sa.JSON, nullable=False),
)
"""The products of a version in the order they were taught: what each has learned (a file of `blobs`), and its record:
detector and options, geometry, white level, number of images, threshold."""

history = sa.Table(
    "history",
    metadata,
    _number(),
    _text("at"),
    _text("verb"),
    _text("product"),
    sa.Column("before", sa.Integer),
    sa.Column("after", sa.Integer),
    sa.Column("promoted", sa.Boolean, nullable=False),
    sa.Column("report", sa.JSON, nullable=False),
)
"""What was asked of the station, and what came of it; `after` is the version in service from then on."""

inspections = sa.Table(
    "inspections",
    metadata,
    _number(),
    _text("at"),
    _text("file"),
    _text("content", index=True),
    _text("product"),
    _text("verdict"),
    _measured("score"),
    _measured("threshold"),
    _measured("confidence"),
    _measured("seconds"),
    sa.Column("version", sa.Integer, nullable=False),
)

feedback = sa.Table(
    "feedback",
    metadata,
    _number(),
    _text("at"),
    _text("product"),
    _text("kind"),
    _text("content"),
)

checks = sa.Table(
    "checks",
    metadata,
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("content", sa.String, primary_key=True),
    _text("kind"),
)
"""Check pictures: files in `checks`, named by their content; good or defective."""

drift = sa.Table(
    "drift",
    metadata,
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("state", sa.JSON, nullable=False),
)


def open_database(folder: Path, url: str | None) -> sa.Engine:
    """The station's database: `station.db` in its folder, or another one by its URL. Tables are made if there are none.

    Raises:
        ContinuadError: it cannot be reached, or its tables are of another version of continuad.
    """
    place = url or f"sqlite:///{folder / 'station.db'}"
    try:
        engine = sa.create_engine(place)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _durable)
        metadata.create_all(engine)
        with engine.begin() as connection:
            found = connection.scalar(sa.select(meta.c.value).where(meta.c.key == "schema"))
            if found is None:
                connection.execute(meta.insert().values(key="schema", value=str(SCHEMA)))
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
        shown = sa.engine.make_url(place).render_as_string(hide_password=True)
        raise ContinuadError(f"the station's database {shown} cannot be opened: {error}") from error
    _refuse_others(folder, engine)
    if found is not None and int(found) != SCHEMA:
        raise ContinuadError(
            f"{folder}: this station's tables have version {found}, and this continuad reads {SCHEMA}; use the "
            "continuad that wrote it, or teach its products again in a new station"
        )
    return engine


def _refuse_others(folder: Path, engine: sa.Engine) -> None:
    """Folder and tables carry the same mark, so that no folder is opened with the tables of another, or with none.

    Raises:
        ContinuadError: they do not.
    """
    file = folder / "station.id"
    with engine.begin() as connection:
        there = connection.scalar(sa.select(meta.c.value).where(meta.c.key == "station"))
        if there is None and not file.exists():
            there = uuid.uuid4().hex
            connection.execute(meta.insert().values(key="station", value=there))
            replace_file(file, lambda new: new.write_text(str(there), encoding="ascii"))
    if not file.exists() or there != file.read_text(encoding="ascii"):
        raise ContinuadError(
            f"{folder}: the database is not this station's, or was lost; give the right --database, or put station.db "
            "back from a copy. Nothing was changed"
        )


def _durable(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()
