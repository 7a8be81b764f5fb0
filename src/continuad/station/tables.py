"""The station's tables: versions, what each consists of, history, inspections and feedback; SQLite or PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA = 2  # raised with every change of the tables; `database.open_database` brings older ones up to it

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

check_pictures = sa.Table(
    "check_pictures",
    metadata,
    sa.Column("origin", sa.String, primary_key=True),
    sa.Column("content", sa.String, primary_key=True),
    _text("kind"),
    _text("at"),
)
"""Files in `checks`, named by their content; good or defective. `origin` is that of a product's record: a product that
is taught anew under an old name has check pictures of its own."""

measured = sa.Table(
    "measured",
    metadata,
    sa.Column("content", sa.String, primary_key=True),
    sa.Column("by", sa.String, primary_key=True),
    sa.Column("found", sa.LargeBinary, nullable=False),
)
"""What was measured of a check picture, float32: by a file of `blobs` its score, by a geometry its pooled features."""

drift = sa.Table(
    "drift",
    metadata,
    sa.Column("product", sa.String, primary_key=True),
    sa.Column("state", sa.JSON, nullable=False),
)

watched = sa.Table(
    "watched",
    metadata,
    _number(),
    _text("at"),
    _text("file"),
    _text("key", index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("modified", sa.BigInteger, nullable=False),
    sa.Column("inspection", sa.Integer),
    sa.Column("reason", sa.String),
)
"""Files of watched folders that are done: the row of their inspection, or why they cannot be read. `key` is a hash of
the path, whatever its bytes; `modified` is in nanoseconds. A file that was replaced is another one."""

outbox = sa.Table(
    "outbox",
    metadata,
    _number(),
    _text("channel", index=True),
    _text("body"),
)
"""Messages that wait to be sent, in their order; `channel` is where to."""
