"""The station's database: reached, made, and brought up to date when an older continuad wrote it."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy import event

from continuad.errors import ContinuadError
from continuad.files import replace_file
from continuad.station.tables import SCHEMA, members, meta, metadata, versions

WAIT = 10.0  # seconds that a writer waits for another
URLS = "give a URL such as postgresql+psycopg://user@host/name (pip install 'continuad[postgresql]')"
Upgrade = Callable[[sa.Connection], None]


def open_database(folder: Path, url: str | None) -> sa.Engine:
    """The station's database: `station.db` in its folder, or another one by its URL.

    Tables are made if there are none, and changed if an older continuad made them. A folder that cannot be written
    to is only read.

    Raises:
        ContinuadError: it cannot be reached, is another station's, or was written by a newer continuad.
    """
    engine = _engine(folder, url)
    if _schema(engine) != SCHEMA or set(metadata.tables) - set(sa.inspect(engine).get_table_names()):
        if is_read_only(folder, url):
            raise ContinuadError(f"{folder}: an older continuad wrote this station; make it writable and ask again")
        with FileLock(folder / "writing.lock", timeout=WAIT), engine.begin() as connection:
            _bring_up(folder, connection)
    _refuse_others(folder, engine)
    return engine


def is_read_only(folder: Path, url: str | None) -> bool:
    """Whether nothing can be written: the folder holds the database, and takes no file."""
    return url is None and (folder / "station.db").is_file() and not os.access(folder, os.W_OK)


def _engine(folder: Path, url: str | None) -> sa.Engine:
    file = folder / "station.db"
    try:
        if is_read_only(folder, url):
            engine = sa.create_engine("sqlite://", creator=lambda: _reading(file), poolclass=sa.NullPool)
        else:
            place = url or sa.URL.create("sqlite", database=str(file))
            engine = sa.create_engine(place, pool_pre_ping=url is not None)  # a server may have been restarted
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        raise ContinuadError(f"--database: {error}; {URLS}") from error
    if engine.dialect.name == "sqlite" and not is_read_only(folder, url):
        event.listen(engine, "connect", _durable)
    named = engine.url.render_as_string(hide_password=True) if url else file

    @event.listens_for(engine, "handle_error")
    def _plainly(context: Any) -> None:
        cause = context.original_exception
        raise ContinuadError(f"{named}: the station's database cannot be used: {str(cause).strip()}") from cause

    return engine


def _reading(file: Path) -> sqlite3.Connection:
    """A connection that takes no lock: where nobody can write, no other process writes either."""
    still = "" if file.with_name("station.db-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro{still}", uri=True, check_same_thread=False)


def _schema(engine: sa.Engine) -> int | None:
    """The version of its tables; None where there are none."""
    if not sa.inspect(engine).has_table("meta"):
        return None
    with engine.connect() as connection:
        found = connection.scalar(sa.select(meta.c.value).where(meta.c.key == "schema"))
    return None if found is None else int(found)


def _bring_up(folder: Path, connection: sa.Connection) -> None:
    """Make what tables there are not, and change those of an older version."""
    found = _schema(connection.engine)  # anew, since another process may have done it meanwhile
    if found is not None and found > SCHEMA:
        raise ContinuadError(
            f"{folder}: this station's tables have version {found}, and this continuad reads up to {SCHEMA}; use a "
            "newer continuad"
        )
    metadata.create_all(connection)
    if found is None:
        connection.execute(meta.insert().values(key="schema", value=str(SCHEMA)))
    for upgrade in UPGRADES[(found or SCHEMA) - 1 :]:
        upgrade(connection)
    connection.execute(meta.update().where(meta.c.key == "schema").values(value=str(SCHEMA)))


def _refuse_others(folder: Path, engine: sa.Engine) -> None:
    """Folder and tables carry the same mark, so that no folder is opened with the tables of another, or with none.

    Raises:
        ContinuadError: they do not.
    """
    file, mine = folder / "station.id", meta.c.key == "station"
    with engine.connect() as connection:
        there = connection.scalar(sa.select(meta.c.value).where(mine))
        begun = connection.scalar(sa.select(versions.c.id).limit(1)) is not None
    if not begun and (there is None or not file.exists()) and not any((folder / "blobs").iterdir()):
        there = uuid.uuid4().hex  # a new station, or one that was stopped while it was made
        with engine.begin() as connection:
            connection.execute(meta.delete().where(mine))
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


def _named_by_origin(connection: sa.Connection) -> None:
    """1 to 2: check pictures belong to what was taught at one time; until then, to a product's name."""
    copied = "INSERT INTO check_pictures (origin, content, kind, at) SELECT product, content, kind, '' FROM checks"
    connection.execute(sa.text(copied))
    connection.execute(sa.text("DROP TABLE checks"))
    for row in connection.execute(sa.select(members)).mappings().all():
        mine = members.c.version == row["version"], members.c.product == row["product"]
        connection.execute(members.update().where(*mine).values(record=row["record"] | {"origin": row["product"]}))


UPGRADES: tuple[Upgrade, ...] = (_named_by_origin,)
"""What turns the tables of version 1 into those of 2, and so on."""
