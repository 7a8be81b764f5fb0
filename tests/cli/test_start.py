"""What the command line answers before torch is loaded, and in whatever encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import continuad, loaded_by
from PIL import Image

import continuad as package
from continuad.cli import environment

HEAVY = {"torch", "timm", "torchvision", "pandas", "matplotlib", "sklearn"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "bench"),
        (["--version"], 0, package.__version__),
        (["list"], 0, "padim"),
        (["list", "--json"], 0, '"pertask"'),
        (["bench", "--help"], 0, "--open-set"),
        (["bench", "--nonsense"], 2, "--nonsense"),
        (["bench"], 2, "give product folders"),
        (["bench", "x", "--detector", "padin"], 2, "did you mean padim"),
        (["bench", "x", "--set", "padin.channels=3"], 2, "padim.channels"),
        (["bench", "x", "--strategy", "replay:codec=png"], 2, "did you mean coding"),
        (["bench", "x", "--image-size", "128x"], 2, "HEIGHTxWIDTH"),
        (["bench", "nowhere"], 2, "nowhere"),
        (["distill", "x", "--steps", "0"], 2, "--steps"),
    ],
)
def test_help_names_and_mistakes_need_no_torch(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    Image.new("L", (64, 64), 100).save(tmp_path / "x" / "0.png")
    done, loaded = loaded_by(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert not loaded & HEAVY


def test_the_package_shows_its_public_names_and_no_others_without_torch() -> None:
    code = "import continuad, sys; print(*dir(continuad)); print('torch' in sys.modules)"
    names, torch = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert set(names.split()) == {*package.__all__, "__version__"}
    assert torch == "False"


def test_the_version_is_the_packages() -> None:
    assert continuad("--version").stdout.strip() == f"continuad {package.__version__}"


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"]])
def test_an_encoding_without_all_letters_does_not_stop_the_output(arguments: list[str], tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "continuad", *arguments],
            env={**os.environ, "PYTHONIOENCODING": "cp932"},
            stdout=file,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "f").read_text(encoding="cp932")
    assert "padim" in text or "bench" in text
    if "--json" in arguments:
        assert json.loads(text)["detectors"]["draem"].startswith("DRÆM")


def test_threads_that_wait_sleep_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.OF_WAITING:
        monkeypatch.delenv(name, raising=False)
    environment.prepare()
    assert {name: os.environ[name] for name in environment.WAITING} == environment.WAITING
    for name in environment.OF_WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    environment.prepare()
    assert "OMP_WAIT_POLICY" not in os.environ
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_the_waiting_policy_is_set_before_torch_is_loaded() -> None:
    """torch's OpenMP runtime reads it once, when it is loaded."""
    code = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': print('policy', os.environ.get('OMP_WAIT_POLICY')); sys.exit()\n"
        "sys.meta_path.insert(0, Watch())\n"
        "sys.argv = ['continuad', 'report', 'nowhere']\n"
        "from continuad.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import torch"
    )
    clean = {k: v for k, v in os.environ.items() if k not in environment.OF_WAITING}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=False)
    assert "policy PASSIVE" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["res[/x]", "res[v2]", "[bold]x[/bold]"])
def test_names_with_markup_are_printed_as_they_are(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name.replace("/", "∕")
    name = folder.name if "/" in name else name
    folder.mkdir()
    for i in range(3):
        Image.new("L", (64, 64), 100 + i).save(folder / f"{i}.png")
    checked = continuad("check-data", str(folder))
    assert checked.returncode == 0, checked.stderr
    assert name in checked.stdout
    missing = continuad("report", str(tmp_path / "x[/red]"))
    assert missing.returncode == 2
    assert "x[/red]" in missing.stderr
    small = ("--image-size", "64", "--set", "padim.channels=8", "--strategy", "naive")
    ran = continuad("bench", str(folder), "--out", str(tmp_path / "out[/x]"), *small)
    assert ran.returncode == 0, ran.stderr
    assert "out[/x]" in ran.stdout
    assert name in ran.stderr
