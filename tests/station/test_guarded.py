"""What a station refuses before anything changes, and what it survives."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from station_parts import SIZE, SMALL, picture, write

from continuad.data.decode import UnreadableImage
from continuad.errors import ContinuadError
from continuad.station import Station, checks
from continuad.station.geometry import Geometry


def counted_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many check pictures each further look at them passes through a network."""
    passed: list[int] = []
    look, ask = checks.look_features, checks.ask
    monkeypatch.setattr(checks, "look_features", lambda images: (passed.append(len(images)), look(images))[1])
    monkeypatch.setattr(checks, "ask", lambda d, images, out: (passed.append(len(images)), ask(d, images, out))[1])
    return passed


def test_a_change_measures_only_what_it_changes(line: Station, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = counted_passes(monkeypatch)
    line.set_threshold("stripes", false_alarms=0.1)
    assert not passed
    line.update("stripes", parts / "more" / "stripes", tolerance=None)
    good = len(line.checks.of(line.product("stripes").record.origin)[0])
    assert sum(passed) == good, "the product's own pictures by its new state, and no others"


def test_one_damaged_file_blocks_only_its_product(line: Station, parts: Path) -> None:
    (before,) = line.inspect(parts / "bad" / "squares" / "200.png", "squares", log=False)
    path = line.blobs.path(line.product("stripes").blob)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    again = Station.open(line.folder)
    (after,) = again.inspect(parts / "bad" / "squares" / "200.png", "squares", log=False)
    assert after.score == before.score
    for verb in (
        lambda: list(again.inspect(parts / "more" / "squares")),  # which product is it? without stripes nobody knows
        lambda: again.learn(parts / "squares", "new", geometry=SIZE),
        lambda: again.update("stripes", parts / "more" / "stripes"),
    ):
        with pytest.raises(ContinuadError, match=rf"stripes cannot be used.*{path.name}.*continuad undo"):
            verb()
    assert list(again.damaged()) == ["stripes"]
    path.write_bytes(whole)
    assert not again.damaged()
    path.unlink()
    again = Station.open(line.folder)
    again.forget("stripes")
    assert [one.product for one in again.inspect(parts / "bad" / "squares")] == ["squares"] * 3


def test_an_update_with_pictures_of_another_product_is_refused(line: Station, parts: Path) -> None:
    version = line.version
    with pytest.raises(ContinuadError, match=r"8 of 8 pictures do not look like stripes but like squares.*--force"):
        line.update("stripes", parts / "more" / "squares")
    assert line.version == version
    noise = parts.parent / "noise"
    noise.mkdir(exist_ok=True)
    for i in range(3):
        Image.effect_noise((160, 160), 90 + i).convert("RGB").save(noise / f"{i}.png")
    with pytest.raises(ContinuadError, match="but like no product"):
        line.update("stripes", noise)


def test_check_pictures_belong_to_what_was_taught_at_one_time(line: Station, parts: Path) -> None:
    """The same name, another geometry, and back again: no picture is measured by what never learned its like."""
    version = line.version
    line.forget("stripes")
    line.learn(parts / "stripes", geometry=Geometry((64, 96), "pad"), options=SMALL)
    line.set_threshold("stripes", false_alarms=0.1)
    line.undo(version)
    line.set_threshold("stripes", false_alarms=0.1)
    line.set_threshold("squares", false_alarms=0.1)
    assert line.history()[-1]["promoted"]


def test_products_of_other_geometries_are_measured_beside_each_other(line: Station, tmp_path: Path) -> None:
    """A twin in another geometry draws pictures to itself: the report says so of as many as an inspection does."""
    (tmp_path / "twins").mkdir()
    for number in range(24):  # as the first product's working images look in the twin's geometry
        sized = picture("stripes", number).resize((128, 128), Image.Resampling.BILINEAR)
        sized.resize((136, 128), Image.Resampling.BILINEAR).save(tmp_path / "twins" / f"{number}.png")
    line.learn(tmp_path / "twins", "twin", geometry=Geometry((128, 136)), options=SMALL, tolerance=None)
    changes = {one["product"]: one["strayed"] for one in line.history()[-1]["report"]["changes"]}
    for name in ("stripes", "twin"):
        origin = line.product(name).record.origin
        pictures = [line.checks.image(origin, one).permute(1, 2, 0).numpy() for one in line.checks.of(origin)[0]]
        found = list(line.inspect(pictures, log=False))
        assert changes[name][1] == sum(one.product != name or one.verdict == "unknown" for one in found)
    assert changes["stripes"][0] == 0
    assert changes["stripes"][1] + changes["twin"][1] > 5


def test_forgetting_that_is_stopped_midway_is_finished_by_the_next_change(
    line: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = line.product("squares").record.origin
    files = list((line.folder / "checks").glob("squares*/*.png"))
    assert files
    sweep = line.checks.sweep
    calls = []

    def stopped() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        sweep()

    monkeypatch.setattr(line.checks, "sweep", stopped)
    with pytest.raises(KeyboardInterrupt):
        line.forget("squares")
    again = Station.open(line.folder)
    assert not again.checks.of(origin)[0]
    again.set_threshold("stripes", false_alarms=0.1)
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("..", "no name for a product"),
        (" ", "no name for a product"),
        ("a\nb", "cannot be shown"),
        ("x" * 300, "300 characters"),
        ("\udce4", "cannot be shown"),
    ],
)
def test_names_that_tables_and_terminals_cannot_show_are_refused(
    line: Station, parts: Path, name: str, why: str
) -> None:
    with pytest.raises(ContinuadError, match=why):
        line.learn(parts / "stripes", name, geometry=SIZE)


def test_a_station_within_the_pictures_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "part", "stripes", range(4))
    station = Station.open(folder / "line", create=True)
    with pytest.raises(ContinuadError, match=r"lies in this folder.*move the station elsewhere"):
        station.learn(folder, geometry=SIZE)


def test_pictures_that_cannot_be_read_are_named_and_the_others_inspected(line: Station, tmp_path: Path) -> None:
    folder = write(tmp_path / "mixed", "stripes", range(300, 303))
    (folder / "301.png").write_bytes(b"no picture")
    found: list[UnreadableImage] = []
    verdicts = list(line.inspect(folder, "stripes", unreadable=found.append))
    assert [Path(one.file).name for one in verdicts] == ["300.png", "302.png"]
    assert [Path(error.source).name for error in found] == ["301.png"]
    with pytest.raises(ContinuadError, match=r"301\.png"):
        list(line.inspect(folder, "stripes"))


def test_a_file_whose_name_is_no_utf8_is_inspected_and_logged(line: Station, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Stra\xdfe.png"))
    picture("stripes", 100).save(path)
    (found,) = line.inspect(path, "stripes")
    assert found.verdict == "good"
    assert line.inspections(last=1)[0]["file"].endswith("Stra\\xdfe.png")


def test_cameras_of_8_and_of_12_bits_stand_beside_each_other(tmp_path: Path, parts: Path) -> None:
    station = Station.open(tmp_path / "line", create=True)
    station.learn(parts / "squares", geometry=SIZE, options=SMALL)

    def wide(number: int, path: Path, defect: bool = False) -> Path:
        grey = np.asarray(picture("stripes", number, defect).convert("L"), np.uint16) * 16
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(grey).save(path)
        return path

    for number in range(16):
        wide(number, tmp_path / "wide" / f"{number}.png")
    station.learn(tmp_path / "wide", geometry=SIZE, options=SMALL)
    shown = [wide(90, tmp_path / "a.png"), wide(91, tmp_path / "b.png", defect=True), parts / "more/squares/100.png"]
    found = list(station.inspect(shown))
    assert [(one.product, one.verdict) for one in found[1:]] == [("wide", "defective"), ("squares", "good")]
    alone = next(iter(station.inspect(shown[0], "wide")))
    assert found[0].product == "wide"
    assert found[0].score == pytest.approx(alone.score, rel=1e-4)


def test_a_threshold_set_by_hand_still_shows_where(line: Station, parts: Path) -> None:
    (good,) = line.inspect(parts / "more" / "stripes" / "100.png", "stripes")
    assert not good.mask.any()
    line.set_threshold("stripes", value=good.score * 0.9)
    (flagged,) = line.inspect(parts / "more" / "stripes" / "100.png", "stripes")
    assert flagged.verdict == "defective"
    assert 0 < flagged.mask.mean() < 0.5
    assert flagged.mask[np.unravel_index(flagged.map.argmax(), flagged.map.shape)]
    for value in (1e308, float("inf")):
        with pytest.raises(ContinuadError, match="must be a number"):
            line.set_threshold("stripes", value=value)


def test_what_was_said_last_of_a_picture_holds(line: Station, parts: Path) -> None:
    origin, path = line.product("stripes").record.origin, parts / "bad" / "stripes" / "200.png"
    line.feedback(path, good=False)
    assert line.checks.of(origin)[1].sum() == 1
    found = line.feedback(path, good=True)
    assert found["after"] == "good"
    assert line.checks.of(origin)[1].sum() == 0


def test_confirmed_defects_stay_within_their_budget_and_the_oldest_make_room(
    line: Station, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = line.product("stripes").record.origin
    for number in (200, 201, 202):
        if number == 202:
            size = line.checks._bytes(origin, "defective")
            monkeypatch.setitem(checks.BUDGET, "defective", size)
        line.feedback(parts / "bad" / "stripes" / f"{number}.png", good=False)
    assert 1 <= line.checks.of(origin)[1].sum() <= 2
    assert line.checks._bytes(origin, "defective") <= size


def test_a_station_in_a_folder_that_takes_no_file_can_be_asked(
    line: Station, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is only said to take no file: a test that runs as root could write all the same."""
    line.close()
    monkeypatch.setattr("continuad.station.database.os.access", lambda path, mode: False)
    station = Station.open(line.folder)
    (found,) = station.inspect(parts / "bad" / "stripes" / "200.png")
    assert found.verdict == "defective"
    assert not station.inspections()
    with pytest.raises(ContinuadError, match="can only be read"):
        station.undo()
    with pytest.raises(ContinuadError, match="readonly database"):
        station.log.said("stripes", "good", "x")


def test_a_database_that_cannot_be_used_is_named_without_its_password_and_without_advice(tmp_path: Path) -> None:
    Station.open(tmp_path / "line", create=True)
    for url in ("sqlite:////no/such/folder/x.db", "nonsense", "mysql+nothing://user:secret@host/x"):
        with pytest.raises(ContinuadError) as refused:
            Station.open(tmp_path / "line", url)
        assert "sqlalche.me" not in str(refused.value)
        assert "secret" not in str(refused.value)
        assert "database" in str(refused.value)


def test_threads_that_ask_meet_whole_versions_while_another_process_would_change_them(
    line: Station, parts: Path
) -> None:
    shown = [picture("stripes", number) for number in range(50, 54)]
    reader, over = Station.open(line.folder), threading.Event()
    scores: dict[tuple[int, int], set[float]] = {}

    def ask() -> None:
        while not over.is_set():
            for number, one in enumerate(shown):
                (found,) = reader.inspect(one, "stripes")
                scores.setdefault((found.version, number), set()).add(round(found.score, 3))

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        version = line.version
        line.update("stripes", parts / "more" / "stripes", tolerance=None)
        line.set_threshold("stripes", false_alarms=0.2)
        line.undo()
        while (version + 1, 3) not in scores and not any(one.done() for one in asking):
            time.sleep(0.01)
        over.set()
        for one in asking:
            one.result()
    assert all(len(found) == 1 for found in scores.values()), "a version has one answer"
    assert len({score for (_, number), found in scores.items() if number == 0 for score in found}) >= 2
