"""Stations that an older continuad wrote: opened, brought up to date, and none of what they know is lost."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from station_parts import picture, write

from continuad.errors import ContinuadError
from continuad.station import Station
from continuad.station.tables import SCHEMA, meta

OLD = Path(__file__).parent / "version_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A station as version 1 of the tables left it: two products, a confirmed defect, a threshold that was moved."""
    folder = shutil.copytree(OLD, tmp_path / "line")
    connection = sqlite3.connect(folder / "station.db")
    connection.executescript((folder / "station.sql").read_text(encoding="utf-8"))
    connection.close()
    return folder


def test_it_answers_as_it_did(old: Path) -> None:
    station = Station.open(old)
    good, bad = station.inspect([picture("stripes", 0), picture("stripes", 200, defect=True)], "stripes", log=False)
    assert (good.verdict, bad.verdict) == ("good", "defective")
    assert (good.score, bad.score) == (pytest.approx(14.742821, rel=1e-4), pytest.approx(31.971296, rel=1e-4))
    assert good.threshold == pytest.approx(19.081924, rel=1e-4)
    assert [row["verdict"] for row in station.inspections()] == ["good", "defective"]


def test_its_check_pictures_go_on_being_measured(old: Path) -> None:
    station = Station.open(old)
    contents, truth = station.checks.of(station.product("stripes").record.origin)
    assert (len(contents), truth.sum()) == (3, 1)
    station.set_threshold("stripes", value=1e6)
    change = next(one for one in station.history()[-1]["report"]["changes"] if one["product"] == "stripes")
    assert (change["good"], change["defective"], change["caught"]) == (2, 1, [1, 0])
    station.undo()
    station.update("stripes", write(old.parent / "more", "stripes", range(50, 54)), tolerance=None)
    assert station.product("stripes").record.images == 12


def test_it_is_brought_up_to_date_once_and_a_newer_one_is_refused(old: Path) -> None:
    for _ in range(2):
        station = Station.open(old)
        assert "checks" not in sa.inspect(station.engine).get_table_names()
    with station.engine.begin() as connection:
        connection.execute(meta.update().where(meta.c.key == "schema").values(value=str(SCHEMA + 1)))
    with pytest.raises(ContinuadError, match="use a newer continuad"):
        Station.open(old)


def test_how_it_kept_what_is_usual_is_no_longer_compared_with(old: Path) -> None:
    station = Station.open(old)
    list(station.inspect([picture("stripes", 400 + n) for n in range(5)], "stripes"))
    (stripes, _) = station.drift()
    assert (stripes["seen"], stripes["look_up"]) == (7, 0.0)
    station.update("stripes", write(old.parent / "more", "stripes", range(50, 54)), tolerance=None)
    assert len(station.product("stripes").look.usual) == 4
