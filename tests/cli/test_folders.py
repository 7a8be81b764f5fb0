"""Which folders a command takes for products."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from command import continuad
from PIL import Image

from continuad.cli.folders import product_folders
from continuad.errors import ContinuadError


def pictures(folder: Path, number: int = 2) -> Path:
    folder.mkdir(parents=True)
    for i in range(number):
        Image.new("L", (64, 64), 100 + i).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("below", [["screw", "nut"], ["screw/monday", "screw/tuesday", "nut/any"]])
@pytest.mark.parametrize("command", ["bench", "check-data"])
def test_a_folder_of_plain_products_is_not_one_product(command: str, below: Sequence[str], tmp_path: Path) -> None:
    for name in below:
        pictures(tmp_path / "my parts" / name)
    done = continuad(command, "my parts", cwd=tmp_path)
    assert done.returncode == 2
    assert "nut, screw" in done.stderr
    assert "'my parts'/*" in done.stderr
    assert not (tmp_path / "results").exists()


def test_one_product_in_subfolders_has_a_way(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        pictures(tmp_path / "screw" / "good" / day)
    assert product_folders([tmp_path / "screw"], "", None) == [tmp_path / "screw"]
    pictures(tmp_path / "nut")
    pictures(tmp_path / "nut" / "monday")
    pictures(tmp_path / "nut" / "tuesday")
    assert product_folders([tmp_path / "nut"], "", None) == [tmp_path / "nut"]


def test_a_root_without_a_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match=r"--root .* is only for a known stream"):
        product_folders([tmp_path], "", tmp_path)
