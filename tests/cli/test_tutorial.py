"""The tutorial's first part, followed word by word from an empty directory."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from command import continuad

from continuad.demo.line import write_line

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
DATA = os.environ.get("CONTINUAD_DATA", str(Path(__file__).parents[3] / "shared" / "data"))
COMMAND = re.compile(r"^continuad (?P<words>.*?)(?:  # exit code (?P<code>\d))?$")


def commands() -> list[tuple[list[str], int]]:
    """What the tutorial's first part tells the reader to type, and the exit codes that it names."""
    text = TUTORIAL.read_text(encoding="utf-8").partition("# A benchmark")[0]
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]
    found = [COMMAND.match(line) for line in lines]
    assert all(found), lines
    return [(shlex.split(one["words"]), int(one["code"] or 0)) for one in found if one]


def _copy(files: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder / f"{file.parents[2].name}_{file.parent.name}_{file.name}")


def lay_out(where: Path, products: dict[str, Path], strange: Path) -> None:
    """The folders that the tutorial speaks of, from products in MVTec layout."""
    for name, folder in products.items():
        shutil.copytree(folder / "train" / "good", where / "parts" / name)
        good = sorted((folder / "test" / "good").iterdir())
        defect = next(kind for kind in sorted((folder / "test").iterdir()) if kind.name != "good")
        _copy([*good[:4], *sorted(defect.iterdir())[:2]], where / "today")
        if name == "hazelnut":
            _copy(good[4:], where / "monday")
        else:
            _copy(good[4:5], where / "inbox")
    _copy(sorted((strange / "test" / "good").iterdir())[:3], where / "strange")


def drawn(where: Path) -> None:
    chosen = ("hazelnut", "transistor", "cable", "zipper")
    folders = write_line(where / "drawn", products=chosen, size=128, train=38, test_good=8, per_defect=2)
    products = dict(zip(("hazelnut", "transistor", "pcb"), folders[:3], strict=True))
    lay_out(where, products, folders[3])


def real(where: Path) -> None:
    if not Path(DATA, "mvtec").is_dir():
        pytest.skip(f"no pictures in {DATA}; set CONTINUAD_DATA to the folder that holds mvtec/hazelnut and others")
    places = {"hazelnut": "mvtec", "transistor": "mvtec", "pcb": "deeppcb"}
    lay_out(where, {name: Path(DATA, place, name) for name, place in places.items()}, Path(DATA, "aitex", "fabric_03"))


@pytest.mark.parametrize("prepare", [drawn, real])
def test_the_tutorial_can_be_followed(prepare: Callable[[Path], None], tmp_path: Path) -> None:
    prepare(tmp_path)
    said: dict[str, str] = {}
    for words, expected in commands():
        text = " ".join(words)
        if text == "inspect line1 today/0007.png" and text not in said:  # a good nut that is called defective now
            lines = said["inspect line1 today"].splitlines()
            alarm = next(line.split(":")[0] for line in lines if re.search(r"_good_\S+: hazelnut defective", line))
            (tmp_path / alarm).rename(tmp_path / "today" / "0007.png")
        done = continuad(*words, cwd=tmp_path)
        assert done.returncode == expected, (text, done)
        assert "Traceback" not in done.stderr
        said[text] = done.stdout
    table = pd.read_csv(tmp_path / "today.csv")
    found = table.file.str.extract(r"(?P<product>[a-z]+)_(?P<kind>[^_]+)_[^/]*$")
    assert (table["product"] == found["product"].replace({"cable": "pcb"})).mean() >= 0.9
    assert (table.verdict[found.kind == "good"] == "good").mean() >= 0.75
    assert (table.verdict[found.kind != "good"] == "defective").mean() >= 0.5
    assert all((tmp_path / name).is_file() for name in [*table.heat_map, *table["mask"]])
    assert "hazelnut good" in said["inspect line1 today/0007.png"]
    assert said["inspect line1 strange"].count(" unknown") == 3
    assert said["watch line1 inbox --once"].count(" good") == 2
    assert "no drift" in said["drift line1"]
    assert "pcb" not in said["products line1"]
    assert "update hazelnut" in said["history line1"]
