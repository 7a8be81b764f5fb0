"""The options of bench: made from Settings, merged with a file, nothing ignored."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from command import continuad

from continuad.benchmark.settings import Settings, option_name
from continuad.cli import bench as bench_module
from continuad.cli.app import app

PLAIN = {"seeds": "--seeds", "options": "--set"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that bench would have run, in a list that it fills."""
    found: list[Settings] = []
    monkeypatch.setattr(bench_module, "run_settings", lambda settings, *_: found.append(settings))
    return found


def parameters() -> dict[str, Any]:
    """Parameters of the bench command by name."""
    commands: Any = typer.main.get_command(app)
    return {parameter.name: parameter for parameter in commands.commands["bench"].params}


def test_every_setting_is_an_option_with_its_name_help_and_default() -> None:
    found = parameters()
    for field in fields(Settings):
        one = found[field.name]
        if field.name == "folders":
            continue
        flag = PLAIN.get(field.name, option_name(field.name))
        assert flag in one.opts
        if field.name != "seeds":
            assert one.help == field.metadata["help"]
        if isinstance(field.default, bool | int | float | str) and field.name not in ("root", "weights_file"):
            assert one.default == field.default


def test_no_option_is_lost() -> None:
    flags = {flag for parameter in parameters().values() for flag in parameter.opts}
    kept = (
        "--stream --root --detector --strategy --out --image-size --tile --backbone --weights-file --download --seed "
        "--seeds --orders --steps --epochs --patience --val-share --threshold --precision --device --skip-unreadable "
        "--look-ahead --scenario --groups --open-set --set --settings --keep-models"
    )
    assert set(kept.split()) <= flags


def test_without_options_the_defaults_run(asked: list[Settings]) -> None:
    continuad("bench", "x")
    assert asked == [Settings(folders=("x",))]


def test_a_repeated_name_adds_up(asked: list[Settings]) -> None:
    names = ("--strategy", "naive,replay:5", "--strategy", "pertask", "--detector", "padim", "--detector", "spade")
    continuad("bench", "x", *names, "--open-set", "a", "--open-set", "b")
    assert asked[0].strategy == ("naive", "replay:5", "pertask")
    assert asked[0].detector == ("padim", "spade")
    assert asked[0].open_set == ("a", "b")


@pytest.mark.parametrize(
    ("typed", "field", "value"),
    [
        (["--image-size", "64"], "image_size", (64, 64)),
        (["--image-size", "64x96"], "image_size", (64, 96)),
        (["--seed", "3"], "seeds", (3,)),
        (["--seeds", "3"], "seeds", (0, 1, 2)),
        (["--seeds", "0,1,5"], "seeds", (0, 1, 5)),
        (["--seeds", "7, 3,7"], "seeds", (7, 3)),
        (["--seeds", "7,"], "seeds", (7,)),
        (["--seeds", "7", "--seeds", "9"], "seeds", (7, 9)),
        (["--set", "a.b=[4, 8]", "--set", "a.c=1"], "options", {"a.b": [4, 8], "a.c": 1}),
        (["--set", "replay.exemplars=10%"], "options", {"replay.exemplars": "10%"}),
        (["--set", "pkg.mod:Kind.k=9"], "options", {"pkg.mod:Kind.k": 9}),
        (["--download"], "download", True),
        (["--val-share", "0.5"], "val_share", 0.5),
    ],
)
def test_what_is_typed_is_the_setting(typed: list[str], field: str, value: Any, asked: list[Settings]) -> None:
    continuad("bench", "x", *typed)
    assert getattr(asked[0], field) == value


def test_a_weights_file_is_named_in_full(tmp_path: Path, asked: list[Settings]) -> None:
    continuad("bench", "x", "--weights-file", "w.pth", cwd=tmp_path)
    assert asked[0].weights_file == str(tmp_path / "w.pth")


def test_the_command_line_goes_before_the_file_and_the_file_before_defaults(
    tmp_path: Path, asked: list[Settings]
) -> None:
    (tmp_path / "s.toml").write_text(
        'detector = "spade"\nseeds = [4, 5]\norders = 2\nskip_unreadable = true\n[options]\n"patchcore.bank" = 9\n'
    )
    typed = ("--detector", "patchcore", "--seed", "3", "--no-skip-unreadable")
    continuad("bench", "x", "--settings", str(tmp_path / "s.toml"), *typed)
    expected = Settings(folders=("x",), detector=("patchcore",), seeds=(3,), orders=2, options={"patchcore.bank": 9})
    assert asked == [expected]


def test_a_default_that_is_typed_goes_before_the_file(tmp_path: Path, asked: list[Settings]) -> None:
    (tmp_path / "s.toml").write_text("orders = 2\n")
    continuad("bench", "x", "--settings", str(tmp_path / "s.toml"), "--orders", "1")
    assert asked[0].orders == 1


def test_tiles_take_over_a_detectors_options(asked: list[Settings]) -> None:
    continuad("bench", "x", "--tile", "64", "--detector", "padim,spade", "--set", "padim.channels=8")
    assert asked[0].detector == ("tiled-padim", "tiled-spade")
    assert asked[0].options == {"tiled-padim.channels": 8, "tiled-padim.tile": 64, "tiled-spade.tile": 64}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--seed", "1", "--seeds", "2"], "one of them"),
        (["--seeds", "0"], "--seeds is 0; allowed: a whole number, 1 to 1000"),
        (["--seeds", "0,-1"], "--seeds is -1; allowed: a whole number, 0 to 4294967295"),
        (["--seeds", "0,x"], "--seeds 0,x: give how many, such as 3, or a list"),
        (["--seeds", ","], "give how many"),
        (["--seed", "-1"], "--seed is -1; allowed: a whole number, 0 to 4294967295"),
        (["--image-size", "128x"], "HEIGHTxWIDTH"),
        (["--image-size", "x128"], "HEIGHTxWIDTH"),
        (["--image-size", "1x2x3"], "HEIGHTxWIDTH"),
        (["--image-size", "0"], "--image-size is 0; allowed: a whole number, 1 to 32768"),
        (["--seeds", "1000000000"], "allowed: a whole number, 1 to 1000"),
        (["--orders", "1000000000"], "allowed: a whole number, 1 to 1000"),
        (["--image-size", "9" * 5000], "--image-size"),
        (["--val-share", "nan"], "--val-share is nan"),
        (["--device", "gpu"], "--device is 'gpu'; allowed: text, as cpu, cuda, cuda:0 or mps"),
        (["--set", "channels=3"], "NAME.OPTION=VALUE"),
        (["--set", "padim.channels"], "NAME.OPTION=VALUE"),
        (["--set", "padim.channels=3", "--set", "padim.channels=4"], "padim.channels is given twice"),
        (["--strategy", ","], "--strategy is empty"),
        (["--precision", "nonsense"], "--precision is 'nonsense'; allowed: float32, bfloat16"),
        (["--steps", "5", "--steps", "7"], "--steps is given twice"),
        (["--download", "--no-download"], "--download/--no-download is given twice"),
        (["--settings", "nowhere.toml"], "nowhere.toml cannot be read"),
    ],
)
def test_wrong_values_are_refused(typed: list[str], said: str, asked: list[Settings]) -> None:
    done = continuad("bench", "x", *typed)
    assert done.returncode == 2
    assert said in done.stderr
    assert not asked
