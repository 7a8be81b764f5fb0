"""A command that is given again: after a mended mistake, with paths and devices spelt otherwise, or after Ctrl-C."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from command import Done, continuad
from PIL import Image

FEW = ["--image-size", "64", "--set", "padim.channels=6", "--no-estimate", "--strategy", "naive"]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A folder of six good images in a folder of its own."""
    folder = tmp_path / "data" / "part"
    folder.mkdir(parents=True)
    for i in range(6):
        Image.new("L", (64, 64), 100 + i).save(folder / f"{i}.png")
    return folder


def bench(folder: Path | str, cwd: Path, *more: str) -> Done:
    return continuad("bench", str(folder), "--out", "out", *FEW, *more, cwd=cwd)


def test_a_first_try_with_a_damaged_image_does_not_block_its_folder(part: Path, tmp_path: Path) -> None:
    whole = (part / "3.png").read_bytes()
    (part / "3.png").write_bytes(whole[:40])
    refused = bench(part, tmp_path)
    assert refused.returncode == 2
    assert "3.png" in refused.stderr
    (part / "3.png").write_bytes(whole)
    done = bench(part, tmp_path, "--val-share", "0.3")  # the mistake is mended, and something else is asked
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "wrong",
    [["--set", "padim.sigma=40"], ["--threshold", "far:7"], ["--groups", "3x5"], ["--strategy", "latent"]],
)
def test_a_first_try_with_a_wrong_option_does_not_block_its_folder(
    wrong: list[str], part: Path, tmp_path: Path
) -> None:
    refused = bench(part, tmp_path, *(wrong if wrong[0] != "--strategy" else [*wrong, "--scenario", "class"]))
    assert refused.returncode == 2, refused.stderr
    assert not list(tmp_path.glob("out/runs/*"))
    done = bench(part, tmp_path, "--val-share", "0.3")
    assert done.returncode == 0, done.stderr


def test_the_same_folder_by_another_spelling_goes_on(part: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "link").symlink_to(part, target_is_directory=True)
    (tmp_path / "elsewhere").symlink_to(part.parent, target_is_directory=True)
    assert bench(part, tmp_path).returncode == 0
    rows = (tmp_path / "out" / "rows.csv").read_bytes()
    assert f'"{part}"' in (tmp_path / "out" / "settings.toml").read_text(encoding="utf-8")
    for spelt in (f"{part}/", "data/part", "./data//part/", "data/../data/part", "data/link", "elsewhere/part"):
        done = bench(spelt, tmp_path)
        assert done.returncode == 0, (spelt, done.stderr)
        assert (tmp_path / "out" / "rows.csv").read_bytes() == rows, spelt
    assert continuad("bench", "part", "--out", "../out", *FEW, cwd=part.parent).returncode == 0
    assert (tmp_path / "out" / "rows.csv").read_bytes() == rows
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1


def test_another_folder_of_the_same_name_is_another_product(part: Path, tmp_path: Path) -> None:
    shutil.copytree(part, tmp_path / "other" / "part")
    assert bench(part, tmp_path).returncode == 0
    done = bench("other/part", tmp_path)
    assert done.returncode == 2
    assert "results of other settings (the list of product folders was" in done.stderr


def test_the_results_folder_by_another_spelling_goes_on(part: Path, tmp_path: Path) -> None:
    assert bench(part, tmp_path).returncode == 0
    (tmp_path / "link").symlink_to(tmp_path / "out", target_is_directory=True)
    done = continuad("bench", str(part), "--out", "link/", *FEW, "--seeds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(pd.read_csv(tmp_path / "out" / "rows.csv").seed) == {0, 1}


def test_the_same_device_by_another_name_goes_on(part: Path, tmp_path: Path) -> None:
    assert bench(part, tmp_path).returncode == 0
    rows = (tmp_path / "out" / "rows.csv").read_bytes()
    done = bench(part, tmp_path, "--device", "cpu:0")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "rows.csv").read_bytes() == rows


@pytest.mark.parametrize("inside", ["data/part/out", "data/part", "data/link/out", "data/part/../part/deep/out"])
def test_results_in_a_product_folder_are_refused(inside: str, part: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "link").symlink_to(part, target_is_directory=True)
    done = continuad("bench", str(part), "--out", inside, *FEW, cwd=tmp_path)
    assert done.returncode == 2
    assert f"--out {inside} lies in the product folder {part}" in done.stderr
    assert sorted(p.name for p in part.iterdir()) == [f"{i}.png" for i in range(6)]


def test_results_in_a_folder_of_the_open_set_are_refused(part: Path, tmp_path: Path) -> None:
    shutil.copytree(part, tmp_path / "other")
    done = continuad("bench", str(part), "--open-set", "other", "--out", "other/out", *FEW, cwd=tmp_path)
    assert done.returncode == 2
    assert "lies in the product folder other" in done.stderr


def test_a_conflict_is_named_by_an_option_that_the_command_has(part: Path, tmp_path: Path) -> None:
    assert bench(part, tmp_path).returncode == 0
    helped = continuad("bench", "--help", cwd=tmp_path).stdout
    for more, option in (
        (["--val-share", "0.5"], "--val-share"),
        (["--max-pixels", "10000"], "--max-pixels"),
        (["--set", "padim.sigma=2"], "--set"),
        (["--threshold", "far:0.1"], "--threshold"),
        (["--look-ahead"], "--look-ahead"),
    ):
        done = bench(part, tmp_path, *more)
        assert done.returncode == 2
        assert f"results of other settings ({option} was " in done.stderr
        assert option in helped


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "nowhere/deep/part"],
        ["check-data", "nowhere/deep/part"],
        ["check-data", "--stream", "btad", "--root", "nowhere/deep"],
        ["bench", "data/part", "--open-set", "nowhere/deep"],
        ["bench", "data/part", "--settings", "nowhere/deep/s.toml"],
        ["bench", "data/part", "--weights-file", "nowhere/deep/w.pth"],
        ["bench", "data/part", "--detector", "efficientad-s", "--set", "efficientad-s.teacher=nowhere/deep/t.pth"],
        ["distill", "nowhere/deep"],
        ["distill", "data/part", "--weights-file", "nowhere/deep/w.pth"],
        ["report", "nowhere/deep/results"],
    ],
)
def test_a_mistyped_path_names_its_first_missing_part(arguments: list[str], part: Path, tmp_path: Path) -> None:
    done = continuad(*arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)  # 1 where check-data has a table to show
    assert "nowheredoesnotexist" in "".join((done.stdout + done.stderr).split())  # a table may break lines anywhere


@pytest.mark.parametrize(
    ("arguments", "module", "name", "goes_on"),
    [
        (["bench", "data/part"], "continuad.cli.grid", "discover_all", True),
        (["bench", "data/part"], "continuad.benchmark.grid", "cells", True),
        (["bench", "data/part"], "continuad.cli.estimate", "measure", True),
        (["demo", "--out", "demo"], "continuad.demo.line", "write_line", True),
        (["distill", "data/part"], "continuad.vision.distill", "distill", True),
        (["check-data", "data/part"], "continuad.data.audit", "audit", False),
        (["report", "data"], "continuad.report.write", "write_report", False),
        (["list"], "continuad.cli.listing", "known", False),
    ],
)
def test_ctrl_c_ends_every_command_with_one_line(
    arguments: list[str], module: str, name: str, goes_on: bool, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.{name}", stop)
    done = continuad(*arguments, cwd=part.parents[1])
    assert done.returncode == 130
    last = done.stderr.splitlines()[-1]
    assert last == ("stopped; the same command goes on where it was" if goes_on else "stopped")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_while_the_command_is_loaded_is_no_traceback(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.abc\n"
        "class Stop(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'continuad.cli.app':\n"
        "            raise KeyboardInterrupt\n"  # a signal may arrive where Python drops what it raises
        "sys.meta_path.insert(0, Stop())\n"
        "from continuad.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=False
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "stopped"
