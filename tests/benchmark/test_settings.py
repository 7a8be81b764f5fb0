"""Settings in and out of TOML, and what they refuse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import pytest

from continuad.benchmark import scenario
from continuad.benchmark.grid import cells
from continuad.benchmark.settings import COMMAND_LINE, Settings
from continuad.core.hints import hints_of
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
        ("val_share = 1.0", "val_share is 1.0; allowed: a number, above 0 and below 1"),
        ("seeds = [", "cannot be read"),
        ('seeds = ["0"]', "seeds is ('0',); allowed: whole numbers"),
        ("seeds = [-1]", "seeds is (-1,); allowed: whole numbers, such as [4, 8], each 0 to 4294967295"),
        ("seeds = []", "seeds is (); allowed"),
        ("seeds = 0.5", "seeds is (0.5,); allowed: whole numbers"),
        ("strategy = []", "strategy is empty"),
        ('strategy = "naive,pertask"', 'allowed: a list of names, as ["naive", "pertask"]'),
        ('detector = ["padim, spade"]', 'allowed: a list of names, as ["padim", "spade"]'),
        ('image_size = "64"', "image_size is ('64',); allowed: 2 whole numbers"),
        ("image_size = [64]", "image_size is (64,); allowed: 2 whole numbers"),
        ("image_size = 0", "image_size is (0, 0); allowed: 2 whole numbers, such as [4, 8], each 1 to 32768"),
        ("orders = 0", "orders is 0; allowed: a whole number, 1 to 1000"),
        ("steps = -3", "steps is -3; allowed: a whole number, 0 to"),
        ("steps = true", "steps is True; allowed: a whole number"),
        ("steps = 1e30", "steps is 1e+30; allowed: a whole number"),
        ("val_share = nan", "val_share is nan; allowed: a number"),
        ("seeds = [4294967296]", "each 0 to 4294967295"),
        ('device = "gpu"', "device is 'gpu'; allowed: text, as cpu, cuda, cuda:0 or mps"),
        ("download = 1", "download is 1; allowed: true or false"),
        ('precision = "nonsense"', "precision is 'nonsense'; allowed: float32, bfloat16"),
        ('scenario = "klass"', "scenario is 'klass'; allowed: task, domain, class"),
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
    with pytest.raises(ContinuadError, match=r"^--val-share is 2; allowed"):
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
        ({"strategy": "combined"}, "strategy 'combined': several strategies are written with + between them"),
        ({"strategy": "replay:5+combined"}, "with + between them"),
        ({"strategy": ["replay:5", "replay:05"]}, "--strategy: replay:5 and replay:05 are the same; give one of them"),
        ({"strategy": ["replay", "naive", "replay:300"]}, "--strategy: replay and replay:300 are the same"),
        ({"strategy": ["ewc+lwf", "lwf+ewc:1e3"]}, "--strategy: ewc+lwf and lwf+ewc:1e3 are the same"),
        ({"detector": ["padim", "continuad.detectors.padim:Padim"]}, "--detector: padim and continuad.detectors"),
        ({"options": {"padim.seed": 1}}, "option padim.seed is 1: a run has one value for all, given by --seed"),
        ({"options": {"padim.image_size": 64}}, "given by --image-size"),
        ({"options": {"padim.sigma": -1}}, "option padim.sigma is -1; allowed: a number, 0 to 1000"),
        (
            {"options": {"draem.steps": 0}, "detector": "draem"},
            "option draem.steps is 0; allowed: a whole number, 1 to",
        ),
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
        {"strategy": ["replay:5", "replay:5%", "replay:5:coding=png", "replay:5+ewc"]},
        {"detector": ["padim", "tiled-padim"], "device": "cuda:1"},
    ],
)
def test_what_fits_is_not_refused(values: dict[str, Any]) -> None:
    Settings.of(values, COMMAND_LINE).check()


def test_what_settings_know_without_torch_is_what_the_rest_knows() -> None:
    assert Settings().backbone == DEFAULT
    assert set(get_args(hints_of(Settings)["scenario"])) == {"", *scenario.SCENARIOS}


@pytest.mark.parametrize("rule", ["far:nan", "far:1", "area:0", "far:0.01:pixels=nan", "best"])
def test_a_threshold_that_is_none_is_refused_by_its_option(rule: str) -> None:
    with pytest.raises(ContinuadError, match=f"^--threshold {rule}: "):
        cells(Settings(detector=("autoencoder",), strategy=("naive",), image_size=(64, 64), threshold=rule))
