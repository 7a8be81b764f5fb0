"""The commands as a user types them: most in this process, a few in one of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import continuad
from PIL import Image

from continuad.files import safe_name
from continuad.models.store import load_model

SMALL = ["--image-size", "64", "--set", "padim.channels=12"]


@pytest.fixture(scope="session")
def results(products: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "results"
    done = continuad(
        "bench",
        *map(str, products),
        *("--detector", "padim", "--strategy", "single,naive,replay:12,pertask", "--out", str(out), *SMALL),
        *("--seeds", "2"),
    )
    assert done.returncode == 0, done.stderr
    return out


def test_bench_leaves_all_that_is_promised(results: Path) -> None:
    for name in ("rows.csv", "rows.parquet", "settings.toml", "report.html", "summary.csv"):
        assert (results / name).stat().st_size > 0
    assert list((results / "figures").glob("*.png"))
    assert list((results / "figures").glob("*.svg"))
    summary = pd.read_csv(results / "summary.csv")
    assert len(summary) == 4 * 2
    assert set(summary.seed) == {0, 1}
    metrics = ("image_auroc", "image_f1_max", "pixel_auroc", "pixel_f1_max", "pixel_ap", "pixel_aupro")
    columns = {*metrics, *(f"{k}_{m}" for k in ("forgetting", "relative_forgetting", "relative_gap") for m in metrics)}
    columns |= {"task_accuracy", "train_seconds", "inference_ms", "architecture_mb", "additional_mb"}
    assert columns <= set(summary.columns)
    by_strategy = summary.groupby("strategy").mean(numeric_only=True)
    assert by_strategy.loc["pertask", "forgetting_pixel_f1_max"] == 0
    assert by_strategy.loc["single", "relative_gap_pixel_f1_max"] == 0
    assert by_strategy.loc["naive", "forgetting_pixel_f1_max"] > 0


def test_the_page_works_offline_and_keeps_the_order_of_learning(results: Path) -> None:
    page = (results / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=\s*[\"']https?:", page)
    assert page.index("cable") < page.index("hazelnut")
    rows = pd.read_csv(results / "rows.csv", na_filter=False)
    assert list(dict.fromkeys(rows.after_name)) == ["cable", "bottle", "hazelnut"]


def test_report_is_made_anew_from_the_rows(results: Path) -> None:
    (results / "report.html").unlink()
    done = continuad("report", str(results))
    assert done.returncode == 0, done.stderr
    assert (results / "report.html").exists()
    assert "report.html" in done.stdout.replace("\n", "")


def test_the_same_command_again_repeats_nothing(results: Path, products: list[Path]) -> None:
    before = (results / "rows.csv").read_bytes()
    arguments = ("--strategy", "single,naive,replay:12,pertask", "--out", str(results), *SMALL, "--seeds", "2")
    done = continuad("bench", *map(str, products), *arguments)
    assert done.returncode == 0, done.stderr
    assert (results / "rows.csv").read_bytes() == before


def test_other_settings_into_the_same_folder_are_refused(results: Path, products: list[Path]) -> None:
    done = continuad("bench", *map(str, products), "--out", str(results), "--image-size", "96")
    assert done.returncode == 2
    assert "other settings" in done.stderr
    assert "Traceback" not in done.stderr


def test_killed_and_started_again_gives_the_same_rows(products: list[Path], tmp_path: Path) -> None:
    arguments = ["bench", *map(str, products), "--strategy", "replay:12,pertask", *SMALL]
    whole = continuad(*arguments, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, "-m", "continuad", *arguments, "--out", str(cut)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.time() + 120
    while not list(cut.glob("runs/*/rows.json")) and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = continuad(*arguments, "--out", str(cut))
    assert again.returncode == 0, again.stderr
    timed = ("train_seconds", "inference_ms", "task_inference_ms_pooled", "task_inference_ms_lowest")
    one, two = (pd.read_csv(d / "rows.csv", na_filter=False) for d in (tmp_path / "whole", cut))
    pd.testing.assert_frame_equal(*(r[~r.metric.isin(timed)].reset_index(drop=True) for r in (one, two)))


def test_killed_in_the_middle_of_a_task_goes_on_there(products: list[Path], tmp_path: Path) -> None:
    """A real process, killed the hard way once a checkpoint lies in its folder."""
    tests = str(Path(__file__).parents[1])
    often = "import continuad.core.checkpoint as c; c.EVERY = 0.02; from continuad.cli.app import main; main()"
    arguments = ["bench", *map(str, products[:2]), "--detector", "toys:ToyAutoencoder", "--image-size", "64"]
    arguments += ["--strategy", "replay:25%", "--steps", "500"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([tests, *sys.path])}

    def start(out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", often, *arguments, "--out", str(out)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    whole, cut = start(tmp_path / "whole"), start(tmp_path / "cut")
    name = f"{safe_name('toys:ToyAutoencoder')}_{safe_name('replay:25%')}_seed0_order0"
    folder = tmp_path / "cut" / "runs" / name
    deadline = time.time() + 120
    # the manifest is written when the first task is done: what follows is the middle of the second
    while True:
        assert cut.poll() is None, cut.stderr and cut.stderr.read()
        assert time.time() < deadline
        cut.send_signal(signal.SIGSTOP)  # or the task might end between the look and the kill
        if (folder / "manifest.json").exists() and (folder / "half.safetensors").exists():
            break
        cut.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    again = start(tmp_path / "cut")
    for process in (whole, again):
        _, said = process.communicate()
        assert process.returncode == 0, said
    one, two = (pd.read_csv(tmp_path / d / "rows.csv", na_filter=False) for d in ("whole", "cut"))
    timed = ("train_seconds", "inference_ms")
    pd.testing.assert_frame_equal(*(r[~r.metric.isin(timed)].reset_index(drop=True) for r in (one, two)))
    assert set(one[one.metric == "steps"].value) == {500.0}


def test_a_plain_folder_of_good_images_is_learned_and_says_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "schöne Teile"
    folder.mkdir()
    for i in range(5):
        Image.new("RGB", (80, 60), (90 + i, 120, 60)).save(folder / f"{i}.JPG")
    done = continuad("bench", str(folder), "--strategy", "pertask", "--out", str(tmp_path / "out"), *SMALL)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "schöne Teile" in page
    assert "4 to learn, 1 for validation, 0 good and 0 defective to test" in page
    settings = tomllib.loads((tmp_path / "out" / "settings.toml").read_text(encoding="utf-8"))
    assert settings["images"] == {"schöne Teile": "4 to learn, 1 for validation, 0 good and 0 defective to test"}
    assert "not available" in page.lower() or "n/a" in page


def test_a_settings_file_stands_in_for_options_and_the_command_line_goes_first(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    for i in range(4):
        Image.new("L", (64, 64), 100 + i).save(tmp_path / "part" / f"{i}.png")
    (tmp_path / "run.toml").write_text(
        'folders = ["part"]\nstrategy = ["naive"]\nimage_size = [64, 64]\nseeds = [0, 1]\n'
        '[options]\n"padim.channels" = 9\n'
    )
    done = continuad("bench", "--settings", "run.toml", "--seed", "3", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "out" / "rows.csv")
    assert set(rows.seed) == {3}
    assert set(rows.strategy) == {"naive"}
    gaussians = 256 * (9 * 9 + 9) * 4
    counted = 8 + 1 + 4 * 8  # how many images, that it is trained, whose images they were
    thresholds = 2 * (3 + 4) * 4  # three numbers and the scores of 4 images, for the task and for everything
    measured = rows[rows.metric == "additional_mb"].value.max()
    assert measured == pytest.approx((gaussians + counted + thresholds) / 1e6)


def test_scenario_groups_and_unknown_products_from_the_command_line(products: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("--groups", "2x1", "--scenario", "class", "--open-set", str(products[2]), "--strategy", "naive,pertask")
    done = continuad("bench", *map(str, products[:2]), *asked, "--out", str(out), *SMALL)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(out / "rows.csv", na_filter=False)
    assert set(rows.strategy) == {"pertask"}
    assert set(rows.after_name) == {"cable + bottle"}
    assert set(rows[rows.metric == "pixel_auroc"].on_name) == {"cable", "bottle"}
    assert 0 <= rows[rows.metric == "open_set_auroc"].value.item() <= 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "padim × naive does not apply: it does not infer the task" in page
    assert "All 2 products were learned in one step" in page
    other = continuad("bench", *map(str, products[:2]), *asked[:2], "--out", str(out), *SMALL)
    assert "other settings" in other.stderr


def test_large_pictures_are_learned_in_tiles(products: list[Path], tmp_path: Path) -> None:
    done = continuad(
        *("bench", str(products[0]), "--strategy", "naive", "--image-size", "96", "--tile", "64"),
        *("--set", "padim.channels=8", "--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert set(pd.read_csv(tmp_path / "rows.csv").detector) == {"tiled-padim"}
    assert 'padim.tile" = 64' in (tmp_path / "settings.toml").read_text(encoding="utf-8")


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "part").mkdir()
    for i in range(4):
        Image.new("L", (64, 64), 100 + i).save(tmp_path / "part" / f"{i}.png")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("continuad.benchmark.grid.run_grid", stop)
    done = continuad("bench", "part", "--out", "out", *SMALL, cwd=tmp_path)
    assert done.returncode == 130
    assert "goes on where it was" in done.stderr


def test_damaged_files_stop_it_by_name_before_learning(products: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "part"
    folder.mkdir()
    for i in range(3):
        Image.new("L", (64, 64), 100 + i).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    stopped = continuad("bench", str(folder), "--out", str(tmp_path / "out"), *SMALL)
    assert stopped.returncode == 2
    assert "broken.png" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    went_on = continuad("bench", str(folder), "--out", str(tmp_path / "out2"), "--skip-unreadable", *SMALL)
    assert went_on.returncode == 0, went_on.stderr
    assert "broken.png" in (tmp_path / "out2" / "settings.toml").read_text(encoding="utf-8")


def test_check_data_prints_tables_or_json(products: list[Path], tmp_path: Path) -> None:
    checked = continuad("check-data", *map(str, products))
    assert checked.returncode == 0
    assert "hazelnut" in checked.stdout
    found = json.loads(continuad("check-data", str(products[0]), "--json").stdout)
    assert found[0]["name"] == "cable"
    (tmp_path / "empty").mkdir()
    assert continuad("check-data", str(tmp_path / "empty")).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench"], "give product folders"),
        (["bench", "--stream", "thesis10"], "needs --root"),
        (["bench", "x", "--detector", "nope"], "unknown detector 'nope'"),
        (["bench", "x", "--strategy", "replay:many"], "share of each task (10%)"),
        (["bench", "x", "--steps", "5", "--epochs", "5"], "exclude each other"),
        (["bench", "x", "--patience", "-1"], "--patience is -1; allowed: a whole number, 0 to"),
        (["bench", "x", "--strategy", "naive,pertask:furthest"], "furthest"),
        (["bench", "x", "--device", "quantum"], "--device is 'quantum'; allowed: text, as cpu"),
        (["bench", "--stream", "realset", "--root", "."], "missing"),
        (["bench", "x", "--scenario", "klass"], "allowed: task, domain, class"),
        (["bench", "x", "--groups", "2-1"], "add up to 1"),
        (["bench", "x", "--open-set", "x"], "is learned in the stream"),
        (["bench", "x", "--set", "padin.channels=3"], "did you mean padim.channels"),
        (["bench", "x", "--set", "padim.channels=abc"], "allowed: a whole number"),
        (["bench", "x", "--root", "."], "--root . is only for a known stream"),
        (["check-data", "x", "--val-share", "1"], "--val-share is 1.0"),
        (["distill", "x", "--size", "l"], "there are s and m"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_answered_in_one_line_with_the_remedy(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    Image.new("L", (64, 64), 100).save(tmp_path / "x" / "0.png")
    done = continuad(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["demo", "check-data", "bench", "distill", "report", "list"])
def test_help_shows_an_example(command: str) -> None:
    assert "Example" in continuad(command, "--help").stdout


def test_a_teacher_is_made_and_its_relative_path_saved_whole(products: list[Path], tmp_path: Path) -> None:
    """As the help of `continuad distill` says; the model loads from another folder."""
    made = continuad("distill", str(products[0]), "--steps", "2", "--batch-size", "1", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "loss" in made.stdout
    learn = ["--detector", "efficientad-s", "--set", "efficientad-s.teacher=teacher.safetensors", "--steps", "1"]
    done = continuad(
        "bench", str(products[0]), *learn, "--image-size", "64", "--strategy", "naive", "--keep-models", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    manifest = next((tmp_path / "results").rglob("manifest.json"))
    assert load_model(manifest.parent)[0].detector.teacher == str(tmp_path / "teacher.safetensors")


def test_strides_that_are_no_numbers(tmp_path: Path) -> None:
    done = continuad("distill", str(tmp_path), "--strides", "8,x")
    assert done.returncode == 2
    assert "--strides 8,x" in done.stderr


def test_of_good_images_alone_the_page_shows_what_is_known(products: list[Path], tmp_path: Path) -> None:
    """No number is invented where there is none, and the good images that score highest are seen with their maps."""
    for product in products[:2]:
        shutil.copytree(product / "train" / "good", tmp_path / product.name)
    folders = [str(tmp_path / product.name) for product in products[:2]]
    done = continuad("bench", *folders, "--strategy", "naive,pertask", "--out", str(tmp_path / "out"), *SMALL)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "nan" not in re.sub(r"data:image/[^\"]*|<svg.*?</svg>|<script.*?</script>", "", page, flags=re.S)
    assert "False alarms on learned good images" in page
    with np.load(next((tmp_path / "out" / "examples").glob("*naive*/*.npz"))) as shown:
        assert len(shown["score"]) == 6
        assert sorted(shown["score"], reverse=True) == shown["score"].tolist()
