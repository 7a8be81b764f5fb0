"""Settings in and out of TOML."""

from pathlib import Path

import pytest

from continuad.benchmark.settings import Settings
from continuad.errors import ContinuadError


def test_written_settings_are_read_back(tmp_path: Path) -> None:
    mine = Settings(folders=("a/ü", "b"), seeds=(0, 1), options={"padim.channels": 350}, image_size=(64, 96))
    mine.write(tmp_path / "s.toml", "continuad bench a/ü b", ["ü", "b"], ["a note"])
    assert Settings.read(tmp_path / "s.toml") == mine
    assert "processor" in (tmp_path / "s.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [("image_sise = 3", "image_sise"), ('val_share = "x"', "val_share"), ("seeds = [", "cannot be read")],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ContinuadError, match=said):
        Settings.read(tmp_path / "s.toml")


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('strategy = "naive"\nseeds = 3\n')
    assert Settings.read(tmp_path / "s.toml") == Settings(strategy=("naive",), seeds=(3,))


def test_conflicts_are_found_but_grids_may_grow() -> None:
    assert Settings(seeds=(0, 1)).conflict(Settings()) is None
    assert "image_size" in str(Settings(image_size=(64, 64)).conflict(Settings()))
