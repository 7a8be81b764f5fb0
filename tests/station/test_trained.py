"""Products with a detector that learns by gradient: updated beside exemplars, which are pictures and go with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from station_parts import SIZE, write

from continuad.core.fit import Budget
from continuad.errors import ContinuadError
from continuad.station import Station, teach
from continuad.station.tables import members


@pytest.fixture
def trained(tmp_path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> Station:
    """Stripes under a small autoencoder, a few steps."""
    made = teach.make_strategy

    def short(*given, **options):  # type: ignore[no-untyped-def]
        strategy = made(*given, **options)
        strategy.budget = Budget(steps=5)
        return strategy

    monkeypatch.setattr(teach, "make_strategy", short)
    station = Station.open(tmp_path / "trained", create=True)
    station.learn(parts / "stripes", detector="autoencoder", geometry=SIZE)
    return station


def test_an_update_learns_beside_exemplars_of_every_portion(trained: Station, tmp_path: Path) -> None:
    known = trained.product("stripes")
    assert known.record.pictures
    assert known.exemplars["store.task"].tolist() == [0] * 24
    again = Station.open(trained.folder)
    again.update("stripes", write(tmp_path / "more", "stripes", range(100, 110)), tolerance=None)
    again.update("stripes", write(tmp_path / "even", "stripes", range(110, 120)), tolerance=None)
    updated = again.product("stripes")
    assert sorted(set(updated.exemplars["store.task"].tolist())) == [0, 1, 2]
    assert updated.record.images == 44
    assert len(updated.good_scores()) == sum(updated.exemplars["store.val"].tolist())
    assert any(not (known.state[name] == tensor).all() for name, tensor in updated.state.items())


def test_forgetting_it_erases_the_file_that_holds_pictures(trained: Station, parts: Path) -> None:
    trained.learn(parts / "squares", geometry=SIZE, options={"bank": "25%"}, tolerance=None)
    blob, other = (trained.blobs.path(trained.product(name).blob) for name in ("stripes", "squares"))
    trained.forget("stripes")
    assert not blob.exists()
    assert other.exists()
    with pytest.raises(ContinuadError, match="cannot be read"):
        trained.undo()
    assert [one.name for one in trained.products()] == ["squares"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"detector": "os:system", "options": {"command": "touch here"}}, "os:system is none"),
        ({"options": {"download": True}}, "fetches nothing"),
    ],
)
def test_a_hostile_database_imports_and_fetches_nothing(
    line: Station, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], why: str
) -> None:
    """What a file names is data: a station from elsewhere runs no code."""
    monkeypatch.chdir(tmp_path)
    with line.engine.begin() as connection:
        (row,) = connection.execute(members.select().where(members.c.version == 2, members.c.product == "stripes"))
        mine = members.c.version == 2, members.c.product == "stripes"
        connection.execute(members.update().where(*mine).values(record=row.record | change))
    again = Station.open(line.folder)
    with pytest.raises(ContinuadError, match=why):
        list(again.inspect(parts / "more" / "stripes", "stripes"))
    assert "stripes" in again.damaged()
    assert not (tmp_path / "here").exists()
    again.undo(1)
    with pytest.raises(ContinuadError, match="is none"):
        again.learn(parts / "squares", detector="os:system")
