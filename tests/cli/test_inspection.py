"""`continuad inspect` as other programs use it: lines, tables, exit codes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jsonschema
import pandas as pd
import pytest
from command import continuad

from continuad.demo.line import write_line

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "inspection.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station that knows bottles and screws, `good` and `bad` pictures, and `other` ones."""
    root = tmp_path_factory.mktemp("hall")
    folders = write_line(root / "drawn", products=("bottle", "screw", "zipper"), size=96, train=16, test_good=3)
    for folder in folders[:2]:
        done = continuad("learn", "line1", str(folder), "--image-size", "96", "--json", cwd=root)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["promoted"]
        shutil.copytree(folder / "test" / "good", root / "good" / folder.name)
        for kind in sorted((folder / "test").iterdir()):
            if kind.name != "good":
                shutil.copytree(kind, root / "bad" / folder.name / kind.name)
    shutil.copytree(folders[2] / "test" / "good", root / "other")
    return root


def lines(text: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in text.splitlines()]
    for one in found:
        jsonschema.validate(one, SCHEMA)
    return found


def test_every_line_keeps_to_the_schema(hall: Path, tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    shutil.copy(next((hall / "good" / "bottle").iterdir()), tmp_path / "mixed" / "a.png")
    (tmp_path / "mixed" / "b.png").write_bytes(b"no picture")
    shutil.copy(next((hall / "other").iterdir()), os.fsencode(tmp_path / "mixed") + b"/stra\xdfe.png")
    done = continuad("inspect", "line1", str(tmp_path / "mixed"), "--json", "--out", str(tmp_path / "heat"), cwd=hall)
    found = sorted(lines(done.stdout), key=lambda one: str(one["file"]))
    assert [one["verdict"] for one in found] == ["good", "unreadable", "unknown"]
    assert done.returncode == 2
    assert str(found[2]["file"]).endswith("stra\\xdfe.png")
    done = continuad("watch", "line1", str(tmp_path / "mixed"), "--json", "--once", "--settle", "0.05", cwd=hall)
    assert len(lines(done.stdout)) == 3
    assert done.returncode == 2


@pytest.mark.parametrize(("what", "code"), [("good", 0), ("bad", 3), ("other", 4)])
def test_exit_codes_say_what_was_found(hall: Path, what: str, code: int) -> None:
    done = continuad("inspect", "line1", what, "--json", cwd=hall)
    assert {one["verdict"] for one in lines(done.stdout)} >= {{0: "good", 3: "defective", 4: "unknown"}[code]}
    assert done.returncode == code


def test_the_table_holds_what_the_lines_say(hall: Path, tmp_path: Path) -> None:
    done = continuad("inspect", "line1", "good", "--csv", str(tmp_path / "a.csv"), "--json", cwd=hall)
    table = pd.read_csv(tmp_path / "a.csv")
    assert table.score.tolist() == [one["score"] for one in lines(done.stdout)]
    assert {"file", "product", "verdict", "threshold", "confidence", "seconds"} <= set(table.columns)


def test_heat_maps_within_what_is_inspected_are_refused(hall: Path) -> None:
    for command in ("inspect", "watch"):
        done = continuad(command, "line1", "good", "--out", "good/heat", cwd=hall)
        assert done.returncode == 2
        assert "give a folder elsewhere" in done.stderr


def test_a_first_product_that_is_refused_leaves_no_station(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.png").write_bytes(b"no picture")
    done = continuad("learn", "new", "part", cwd=tmp_path)
    assert done.returncode == 2
    assert "a.png" in done.stderr
    assert not (tmp_path / "new").exists()
    done = continuad("learn", "new", "none", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "new").exists()


def test_a_damaged_product_is_listed_as_such(hall: Path, tmp_path: Path) -> None:
    shutil.copytree(hall / "line1", tmp_path / "line1")
    blobs = sorted((tmp_path / "line1" / "blobs").iterdir())
    blobs[0].write_bytes(blobs[0].read_bytes()[:-1])
    done = continuad("products", "line1", cwd=tmp_path)
    assert done.stdout.count("DAMAGED") == 1
    assert blobs[0].name in done.stdout
    assert (
        sum("damaged" in one for one in json.loads(continuad("products", "line1", "--json", cwd=tmp_path).stdout)) == 1
    )
