"""Settings in and out of TOML, and what they refuse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from continuad.benchmark import scenario
from continuad.benchmark.settings import COMMAND_LINE, SCENARIOS, Settings
from continuad.errors import ContinuadError
from continuad.vision.backbones import DEFAULT


def test_written_settings_are_read_back(tmp_path: Path) -> None:
    mine = Settings(folders=("a/ü", "b"), seeds=(0, 1), options={"padim.channels": 350}, image_size=(64, 96))
    mine.write(tmp_path / "s.toml", "continuad bench a/ü b", ["ü", "b"], ["a note"])
    assert Settings.read(tmp_path / "s.toml") == mine
    assert "processor" in (tmp_path / "s.toml").read_text(encoding="utf-8")


def test_file_names_that_are_no_text_are_written_all_the_same(tmp_path: Path) -> None:
    name = os.fsdecode(b"fen\xeatre")
    mine = Settings(folders=(name,))
    mine.write(tmp_path / "s.toml", f"continuad bench {name}", [name], [f"{name}: a note"])
    assert mine.conflict(Settings.read(tmp_path / "s.toml")) is None
    assert Settings(folders=("fenêtre",)).conflict(Settings.read(tmp_path / "s.toml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image_sise = 3", "unknown setting 'image_sise' (did you mean image_size"),
        ('val_share = "x"', "val_share is 'x'; allowed: a number"),
        ("val_share = 1.0", "val_share is 1.0; allowed: a number between 0 and 1"),
        ("seeds = [", "cannot be read"),
        ('seeds = ["0"]', "seeds is ('0',); allowed: whole numbers"),
        ("seeds = [-1]", "seeds is -1; allowed: 0 or more"),
        ("seeds = []", "seeds is empty"),
        ("seeds = 0.5", "seeds is (0.5,); allowed: whole numbers"),
        ("strategy = []", "strategy is empty"),
        ('strategy = "naive,pertask"', 'allowed: a list of names, as ["naive", "pertask"]'),
        ('detector = ["padim, spade"]', 'allowed: a list of names, as ["padim", "spade"]'),
        ('image_size = "64"', "image_size is ('64',); allowed: 2 whole numbers"),
        ("image_size = [64]", "image_size is (64,); allowed: 2 whole numbers"),
        ("image_size = 0", "allowed: 1 or more"),
        ("orders = 0", "orders is 0; allowed: 1 or more"),
        ("steps = -3", "steps is -3; allowed: 0 or more"),
        ("steps = true", "steps is True; allowed: a whole number"),
        ("download = 1", "download is 1; allowed: true or false"),
        ('precision = "nonsense"', "precision is 'nonsense', which is not known; there are float32, bfloat16"),
        ('scenario = "klass"', "there are task, domain, class"),
        ("padim.channels = 20", 'as "padim.channels" = 20, under [options]'),
        ("[options]\npadim.channels = 20", 'as "padim.channels" = 20'),
        ("[options.padim]\nchannels = 20", 'as "padim.channels" = 20'),
    ],
)
def test_bad_files_are_refused_by_setting_value_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ContinuadError) as raised:
        Settings.read(tmp_path / "s.toml")
    assert said in str(raised.value)
    assert "s.toml" in str(raised.value)


def test_a_wrong_value_from_the_command_line_is_called_as_it_is_there() -> None:
    with pytest.raises(ContinuadError, match=r"^--val-share is 2.0"):
        Settings.of({"val_share": 2}, COMMAND_LINE)


def test_one_value_stands_for_a_list_of_one_and_a_side_for_a_square(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('strategy = "naive"\nseeds = 3\nimage_size = 64\nval_share = 0.5\n')
    expected = Settings(strategy=("naive",), seeds=(3,), image_size=(64, 64), val_share=0.5)
    assert Settings.read(tmp_path / "s.toml") == expected


def test_a_name_given_twice_is_run_once() -> None:
    assert Settings.of({"detector": ["padim", "spade", "padim"], "seeds": [1, 1]}, "x").detector == ("padim", "spade")


def test_conflicts_are_found_but_grids_may_grow() -> None:
    assert Settings(seeds=(0, 1)).conflict(Settings()) is None
    assert Settings(image_size=(64, 64)).conflict(Settings()) == "--image-size was 256, 256 and is now 64, 64"
    assert "--set was" in str(Settings(options={"padim.channels": 3}).conflict(Settings()))


def test_options_go_to_their_owner() -> None:
    mine = Settings(options={"padim.channels": 3, "pkg.mod:Kind.k": 4, "tiled-padim.tile": 64})
    assert mine.own_options("padim") == {"channels": 3}
    assert mine.own_options("pkg.mod:Kind") == {"k": 4}
    assert mine.own_options("tiled-padim") == {"tile": 64}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"detector": "padin"}, "unknown detector 'padin' (did you mean padim"),
        ({"detector": "tiled-padin"}, "unknown detector 'tiled-padin'"),
        ({"strategy": "pertsk"}, "unknown strategy 'pertsk' (did you mean pertask"),
        ({"strategy": "pertsk:lowest"}, "unknown strategy 'pertsk' (did you mean pertask"),
        ({"strategy": "replay:300+ewk"}, "unknown strategy 'ewk' (did you mean ewc"),
        ({"strategy": "replay:300+ewc:many"}, "option strength is 'many'"),
        ({"strategy": "naive:6"}, "'naive' takes no value"),
        ({"options": {"padin.channels": 3}}, "did you mean padim.channels"),
        ({"options": {"pkg.mod:Cls.k": 99}}, "matches no detector or strategy"),
        ({"options": {"padim.channels": "abc"}}, "option padim.channels is 'abc'; allowed: a whole number"),
        ({"options": {"toys:ToyAutoencoder.width": 3}, "detector": "toys:ToyAutoencoder"}, "has no option width"),
        ({"steps": 5, "epochs": 5}, "--steps 5 and --epochs 5 exclude each other"),
        ({"steps": 5, "detector": ["padim", "spade"]}, "--steps would change nothing: padim, spade learns"),
        ({"patience": 5}, "--patience would change nothing"),
        ({"options": {"padim.steps": 5}}, "'padim' has no option steps"),
        ({"backbone": "resnet18", "detector": "vae", "strategy": "naive"}, "--backbone would change nothing"),
        ({"precision": "bfloat16", "detector": "vae", "strategy": "naive"}, "--precision would change nothing"),
    ],
)
def test_what_no_run_could_follow_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ContinuadError) as raised:
        Settings.of(values, COMMAND_LINE).check()
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"detector": ["padim", "draem"], "steps": 5, "options": {"draem.steps": 3, "padim.epsilon": 1}},
        {"strategy": ["replay:300+ewc:5", "replay:2MB:coding=webp"], "detector": "vae"},
        {"backbone": "resnet18", "detector": "vae", "strategy": "pertask"},
        {"detector": "tiled-padim", "options": {"tiled-padim.tile": 64, "tiled-padim.channels": 8}},
        {"detector": "toys:ToyAutoencoder", "options": {"toys:ToyAutoencoder.steps": 3}},
        {"strategy": "continuad.strategies.replay:Replay:12"},
    ],
)
def test_what_fits_is_not_refused(values: dict[str, Any]) -> None:
    Settings.of(values, COMMAND_LINE).check()


def test_what_settings_know_without_torch_is_what_the_rest_knows() -> None:
    assert Settings().backbone == DEFAULT
    assert set(SCENARIOS) == {"", *scenario.SCENARIOS}
