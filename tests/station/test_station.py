"""What the station promises: products have names, versions can be undone bit for bit, nothing is ever half changed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from station_parts import SIZE, SMALL, picture, write

from continuad.core.detector import ask
from continuad.errors import ContinuadError
from continuad.station import Station
from continuad.station.compare import NotPromoted
from continuad.station.judge import Inspection


def verdicts(found: Sequence[Inspection]) -> list[tuple[str, str]]:
    return [(one.product, one.verdict) for one in found]


def answers(station: Station, parts: Path, product: str | None = None) -> list[tuple[str, float, bytes]]:
    found = station.inspect([parts / "more" / "stripes", parts / "bad" / "stripes"], product, log=False)
    return [(one.verdict, one.score, one.map.tobytes()) for one in found]


def test_good_parts_pass_defects_are_found_and_products_are_distinguished(line: Station, parts: Path) -> None:
    for kind in ("stripes", "squares"):
        assert verdicts(list(line.inspect(parts / "bad" / kind))) == [(kind, "defective")] * 3
        good = verdicts(list(line.inspect(parts / "more" / kind)))
        assert sum(verdict == (kind, "good") for verdict in good) >= 7


def test_the_map_and_mask_lie_in_the_pictures_own_pixels(line: Station) -> None:
    (found,) = line.inspect(picture("stripes", 300, defect=True))
    assert found.map.shape == found.mask.shape == (160, 192)
    y, x = np.unravel_index(found.map.argmax(), found.map.shape)
    assert 52 <= y <= 84
    assert 72 <= x <= 108
    assert found.mask[68, 90]
    assert found.map[:20].max() < 0.8 * found.map.max()


def test_a_picture_of_no_product_is_unknown_and_its_nearest_are_named(line: Station) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (160, 192, 3), np.uint8)
    (found,) = line.inspect(noise)
    assert found.verdict == "unknown"
    assert [near.product for near in found.nearest] in (["stripes", "squares"], ["squares", "stripes"])
    assert found.nearest[0].distance > 1
    assert found.nearest[0].distance <= found.nearest[1].distance
    assert not found.mask.any()


def test_files_pictures_and_arrays_get_the_same_answer(line: Station, parts: Path) -> None:
    path = parts / "more" / "squares" / "100.png"
    image = Image.open(path).convert("RGB")
    scores = {round(one.score, 5) for one in line.inspect([path, image, np.asarray(image)])}
    assert len(scores) == 1


def test_one_at_a_time_and_all_together_are_the_same(line: Station, parts: Path) -> None:
    together = list(line.inspect(parts / "more" / "stripes", log=False))
    alone = [next(iter(line.inspect(one.file, log=False))) for one in together]
    np.testing.assert_allclose([one.score for one in together], [one.score for one in alone], rtol=1e-4)


def test_a_reopened_station_answers_bit_for_bit(line: Station, parts: Path) -> None:
    assert answers(Station.open(line.folder), parts) == answers(line, parts)


def test_learning_another_product_leaves_the_first_untouched(tmp_path: Path, parts: Path) -> None:
    station = Station.open(tmp_path / "line", create=True)
    station.learn(parts / "stripes", geometry=SIZE, options=SMALL)
    before, blob = answers(station, parts), station.product("stripes").blob
    station.learn(parts / "squares", geometry=SIZE, options=SMALL)
    assert answers(station, parts) == before
    assert station.product("stripes").blob == blob


def test_a_name_that_is_taken_is_refused_and_changes_nothing(line: Station, parts: Path) -> None:
    version = line.version
    with pytest.raises(ContinuadError, match="there is a product 'stripes' already"):
        line.learn(parts / "stripes", geometry=SIZE)
    assert line.version == version
    line.learn(parts / "stripes", "stripes 2", geometry=SIZE, options=SMALL, tolerance=None)
    assert [taught.name for taught in line.products()] == ["stripes", "squares", "stripes 2"]


def test_what_check_data_refuses_is_not_learned(line: Station, tmp_path: Path) -> None:
    folder = write(tmp_path / "broken", "stripes", range(3))
    (folder / "half.png").write_bytes((folder / "000.png").read_bytes()[:200])
    with pytest.raises(ContinuadError, match=r"(?s)is not learned.*half\.png"):
        line.learn(folder, geometry=SIZE)
    assert "broken" not in [taught.name for taught in line.products()]


def test_an_update_adds_pictures_and_only_those_that_are_new(line: Station, parts: Path) -> None:
    before = line.product("stripes")
    line.update("stripes", parts / "more" / "stripes", tolerance=None)
    after = line.product("stripes")
    assert after.record.images == before.record.images + 8
    assert len(after.calibration.kept["0/images"]) == 32
    assert after.blob != before.blob
    with pytest.raises(ContinuadError, match="all of these pictures were learned before"):
        line.update("stripes", parts / "more" / "stripes")


def test_a_change_says_what_is_promised_of_what_was_learned_before(line: Station, parts: Path, tmp_path: Path) -> None:
    line.update("stripes", parts / "more" / "stripes", tolerance=None)
    said = line.history()[-1]["report"]["promise"]
    assert re.fullmatch(r"bounded: farthest patch of a good check picture from the bank \d\S* → \d\S*", said), said
    exact = Station.open(tmp_path / "exact", create=True)
    exact.learn(parts / "stripes", detector="padim", options={"channels": 12}, geometry=SIZE)
    assert exact.history()[-1]["report"]["promise"] == "exact: portions equal one go"


def test_where_a_bank_has_grown_coarser_scores_of_earlier_pictures_count_as_much_higher(
    tmp_path: Path, parts: Path
) -> None:
    """They are gone, and the threshold rests on them: check pictures say by how much they would score higher now."""
    station = Station.open(tmp_path / "line", create=True)
    known = station.learn(parts / "stripes", geometry=SIZE, options={"bank": "0.01MB"})
    shown = station.checks.good(known.record.origin)
    taught = station.update("stripes", write(tmp_path / "more", "stripes", range(100, 116)), tolerance=None)
    before, after = (torch.cat([ask(one.detector(), shown, True).score]) for one in (known, taught))
    rise = (after - before).median()
    assert rise > 0.1
    wanted, found = known.good_scores() + rise, taught.good_scores()
    assert (found[:, None] - wanted).abs().amin(0).max() < 1e-3
    assert len(found) == len(known.good_scores()) + 16


def test_portions_equal_one_go_for_padim(tmp_path: Path, parts: Path) -> None:
    options = {"channels": 12}
    whole = write(tmp_path / "whole", "stripes", range(24))
    write(whole, "stripes", range(100, 108))
    once, twice = (Station.open(tmp_path / name, create=True) for name in ("once", "twice"))
    once.learn(whole, "stripes", detector="padim", options=options, geometry=SIZE)
    twice.learn(parts / "stripes", detector="padim", options=options, geometry=SIZE)
    twice = Station.open(twice.folder)
    twice.update("stripes", parts / "more" / "stripes", tolerance=None)
    scores = [[one.score for one in station.inspect(parts / "bad" / "stripes", "stripes")] for station in (once, twice)]
    np.testing.assert_allclose(*scores, rtol=1e-3)
    np.testing.assert_allclose(once.product("stripes").look.mean, twice.product("stripes").look.mean, rtol=1e-4)
    np.testing.assert_allclose(once.product("stripes").look.variance, twice.product("stripes").look.variance, rtol=1e-3)


def test_undo_restores_answers_bit_for_bit(line: Station, parts: Path) -> None:
    before, version = answers(line, parts), line.version
    line.update("stripes", parts / "more" / "stripes", tolerance=None)
    line.set_threshold("stripes", false_alarms=0.2)
    assert answers(line, parts) != before
    line.undo()
    line.undo()
    assert line.version == version
    assert answers(line, parts) == before
    line.undo(to=version + 1)
    assert line.product("stripes").record.images == 32
    for wrong in (99, -1, 10**20):
        with pytest.raises(ContinuadError, match=f"there is no version {wrong}"):
            line.undo(wrong)


def test_forgetting_a_product_leaves_the_others_bit_identical_and_erases_its_pictures(
    line: Station, parts: Path
) -> None:
    before = answers(line, parts)
    files = set((line.folder / "checks").rglob("*.png"))
    line.forget("squares")
    assert answers(line, parts) == before
    gone = files - set((line.folder / "checks").rglob("*.png"))
    assert gone
    assert all("squares" in str(file) for file in gone)
    with pytest.raises(ContinuadError, match="there is no product 'squares' in this station; there are stripes"):
        list(line.inspect(parts / "bad" / "squares", "squares"))


def test_thresholds_move_without_learning_and_keep_the_score(line: Station, parts: Path) -> None:
    (before,) = line.inspect(parts / "bad" / "stripes" / "200.png")
    blob = line.product("stripes").blob
    strict, lax = (line.set_threshold("stripes", false_alarms=rate).thresholds().image for rate in (0.01, 0.5))
    assert lax < strict
    line.set_threshold("stripes", value=before.score + 1)
    (after,) = line.inspect(parts / "bad" / "stripes" / "200.png")
    assert (after.verdict, after.score, after.threshold) == ("good", before.score, pytest.approx(before.score + 1))
    assert line.product("stripes").blob == blob
    for wrong in ({}, {"false_alarms": 0.1, "value": 1.0}, {"value": float("nan")}, {"false_alarms": 1.5}):
        with pytest.raises(ContinuadError):
            line.set_threshold("stripes", **wrong)


def test_confidence_is_a_half_at_the_threshold_wherever_it_is_set(line: Station, parts: Path) -> None:
    (found,) = line.inspect(parts / "bad" / "stripes" / "200.png")
    assert 0.5 < found.confidence <= 1
    line.set_threshold("stripes", value=found.score)
    (at,) = line.inspect(parts / "bad" / "stripes" / "200.png")
    assert at.confidence == pytest.approx(0.5)
    assert at.verdict == "good"  # at the threshold is not above it


def test_a_false_alarm_that_is_corrected_passes_and_so_do_its_near_copies(line: Station, tmp_path: Path) -> None:
    odd = picture("stripes", 400, defect=True)
    path = tmp_path / "odd.png"
    odd.save(path)
    (before,) = line.inspect(path)
    assert before.verdict == "defective"
    found = line.feedback(path, good=True)
    assert found == {"product": "stripes", "before": "defective", "after": "good"}
    near = np.clip(np.asarray(odd).astype(int) + np.random.default_rng(1).integers(-1, 2, (160, 192, 3)), 0, 255)
    assert next(iter(line.inspect(near.astype(np.uint8)))).verdict == "good"
    line.undo()
    assert next(iter(line.inspect(path))).score == before.score


def test_a_defect_that_passes_is_kept_and_what_catching_it_costs_is_said(line: Station, parts: Path) -> None:
    line.set_threshold("stripes", value=1e6)
    path = parts / "bad" / "stripes" / "201.png"
    found = line.feedback(path, good=False)
    assert found["before"] == "good"
    assert found["false_alarms"] == 0.0
    line.set_threshold("stripes", value=found["threshold"])
    assert next(iter(line.inspect(path))).verdict == "defective"
    changes = {change["product"]: change for change in line.history()[-1]["report"]["changes"]}
    assert changes["stripes"]["caught"] == [0, 1]


def test_a_change_that_makes_a_product_worse_is_not_put_in_service(line: Station, parts: Path, tmp_path: Path) -> None:
    line.feedback(parts / "bad" / "stripes" / "200.png", good=False)
    version = line.version
    bad_as_good = write(tmp_path / "mixed", "stripes", range(200, 203), defect=True)
    with pytest.raises(
        NotPromoted, match=r"(?s)stripes: confirmed defects that are caught: 1 before, 0 after.*--force"
    ):
        line.update("stripes", bad_as_good)
    assert line.version == version
    assert line.history()[-1]["promoted"] is False
    line.update("stripes", bad_as_good, tolerance=None)
    assert line.version == version + 1


def test_the_log_holds_every_inspection(line: Station, parts: Path) -> None:
    found = list(line.inspect(parts / "more" / "stripes"))
    log = line.inspections(last=8)
    assert [row["score"] for row in log] == [one.score for one in found]
    assert {row["version"] for row in log} == {line.version}
    assert len({row["content"] for row in log}) == 8


def test_a_damaged_file_is_named_and_the_version_before_still_opens(line: Station, parts: Path) -> None:
    before = answers(line, parts)
    line.update("stripes", parts / "more" / "stripes", tolerance=None)
    path = line.blobs.path(line.product("stripes").blob)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    again = Station.open(line.folder)
    with pytest.raises(ContinuadError, match=rf"(?s){path.name}: its content has changed.*continuad undo"):
        again.products()
    again.undo()
    assert answers(again, parts) == before


def test_orphans_are_swept_and_what_versions_name_stays(line: Station, parts: Path) -> None:
    orphan = line.blobs.put({"x": line.product("stripes").seen})
    left = line.blobs.folder / ".new-half"
    left.write_bytes(b"half")
    line.set_threshold("stripes", false_alarms=0.1)
    assert not line.blobs.path(orphan).exists()
    assert not left.exists()
    assert len(list(line.blobs.folder.iterdir())) == 2


def test_a_lost_or_foreign_database_is_refused_and_no_file_is_removed(line: Station, parts: Path) -> None:
    """An empty database names no file: a sweep by it would remove all that was learned."""
    files = sorted(path.name for path in line.blobs.folder.iterdir())
    other = f"sqlite:///{line.folder.parent / 'other.db'}"
    with pytest.raises(ContinuadError, match="the database is not this station's, or was lost"):
        Station.open(line.folder, other)
    line.engine.dispose()
    for file in line.folder.glob("station.db*"):
        file.rename(file.with_name(f"kept-{file.name}"))
    for verb in (lambda: Station.open(line.folder).undo(), lambda: Station.open(line.folder).learn(parts / "squares")):
        with pytest.raises(ContinuadError, match="or was lost"):
            verb()
    assert sorted(path.name for path in line.blobs.folder.iterdir()) == files


def test_a_product_whose_pictures_all_go_to_another_one_is_not_put_in_service(line: Station, parts: Path) -> None:
    with pytest.raises(NotPromoted, match="twin: check pictures taken for another product or none: 0 before"):
        line.learn(parts / "stripes", "twin", geometry=SIZE, options=SMALL)
    assert [taught.name for taught in line.products()] == ["stripes", "squares"]


def test_a_product_taught_from_one_picture_draws_no_others_to_itself(tmp_path: Path, parts: Path) -> None:
    station = Station.open(tmp_path / "line", create=True)
    station.learn(write(tmp_path / "one", "squares", range(1)), geometry=SIZE, options=SMALL)
    station.learn(parts / "stripes", geometry=SIZE, options=SMALL)
    assert {one.product for one in station.inspect(parts / "more" / "stripes")} == {"stripes"}


def test_a_folder_of_something_else_is_no_station(tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match="there is no station here"):
        Station.open(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ContinuadError, match="this folder holds other things"):
        Station.open(tmp_path, create=True)


def test_a_station_without_products_says_what_to_do(tmp_path: Path) -> None:
    station = Station.open(tmp_path / "new", create=True)
    with pytest.raises(ContinuadError, match="knows no product yet; teach it one with `continuad learn`"):
        list(station.inspect(picture("stripes", 0)))


def test_an_inspection_is_one_json_object(line: Station) -> None:
    (found,) = line.inspect(picture("stripes", 300))
    plain = json.loads(json.dumps(found.plain()))
    assert {"schema", "file", "product", "verdict", "score", "threshold", "confidence", "seconds"} <= plain.keys()
    assert plain["schema"] == 1
