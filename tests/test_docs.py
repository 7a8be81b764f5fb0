"""The documentation's code runs, its commands and links exist, and its worked numbers are what the code computes."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from matplotlib.mathtext import MathTextParser
from PIL import Image
from test_architecture import MAY_IMPORT
from toys import ToyAutoencoder, images_of, stream

import continuad
from continuad.cli.app import app
from continuad.demo.line import PRODUCTS
from continuad.errors import ContinuadError
from continuad.metrics import continual
from continuad.metrics.image import f1_max, image_ap, image_auroc
from continuad.models.registry import detectors, make_detector, make_strategy, strategies
from continuad.models.store import load_model, save_model
from continuad.report.paired import holm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SIDE = 32


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def files_to_save(page: Path) -> dict[str, str]:
    """Files that a page asks to save, by their path: the block after "Save as"."""
    found = re.findall(r"Save as `([\w/.]+)`:\n\n```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return dict(found)


def write_pictures(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image if image.ndim == 2 else image.transpose(1, 2, 0)).save(folder / f"{number:03d}.png")


def write_product(folder: Path, kind: int) -> None:
    """Good images to learn from, and two good and two defective ones to test on, with masks."""
    test = images_of(kind, 4, defects=True, seed=1, size=SIDE)
    write_pictures(folder / "train" / "good", images_of(kind, 6, defects=False, seed=0, size=SIDE).images)
    write_pictures(folder / "test" / "good", test.images[~test.labels])
    write_pictures(folder / "test" / "spot", test.images[test.labels])
    write_pictures(folder / "ground_truth" / "spot", test.masks[test.labels])


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with `mypackage` that holds the extending page's files, and a few pictures of products."""
    package = tmp_path / "mypackage"
    package.mkdir()
    (package / "__init__.py").touch()
    for path, text in files_to_save(DOCS / "extending.md").items():
        (package / Path(path).name).write_text(text, encoding="utf-8")
    for kind, product in enumerate(("bottle", "screw", "lid")):
        write_product(tmp_path / "parts" / product, kind)
    write_pictures(tmp_path / "incoming", images_of(0, 2, defects=True, seed=1, size=SIDE).images)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CONTINUAD_CACHE", str(tmp_path / "cache"))
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("detector", "strategies"),
    [
        ("mypackage.brightness:Brightness", ("naive", "accumulate", "pertask", "herding:4")),
        ("mypackage.tiny:Tiny", ("mypackage.interpolate:Interpolate", "mypackage.interpolate:Interpolate:0.2", "lwf")),
    ],
)
def test_classes_of_the_extending_page_learn_and_reload_from_a_package_of_ones_own(
    own_package: Path, detector: str, strategies: tuple[str, ...]
) -> None:
    tasks = stream(2, train=6, size=SIDE)
    x = torch.from_numpy(tasks[1].test.images)
    for name in strategies:
        strategy = make_strategy(name, make_detector(detector, image_size=SIDE, seed=1))
        for task in tasks:
            strategy.learn(task)
        save_model(strategy, own_package / "model")
        with pytest.raises(ContinuadError, match="trust"):
            load_model(own_package / "model")
        reloaded, _ = load_model(own_package / "model", trust=[detector, ":".join(name.split(":")[:2])])
        assert torch.equal(reloaded.predict(x).map, strategy.predict(x).map)
        assert reloaded.thresholds(0) == strategy.thresholds(0)


def test_the_extending_pages_strategy_moves_weights_part_of_the_way(own_package: Path) -> None:
    """And refuses what has no weights."""
    name, tasks = "mypackage.interpolate:Interpolate", stream(2, train=6, size=SIDE)

    def weights_after(strategy: str) -> list[torch.Tensor]:
        made = make_strategy(strategy, ToyAutoencoder(SIDE))
        for task in tasks:
            made.learn(task)
        return [weight.detach() for weight in made.detector.weights().values()]

    old, half, new = (weights_after(f"{name}:{share}") for share in (0, 0.5, 1))
    assert all(torch.equal(a, b) for a, b in zip(new, weights_after("naive"), strict=True))
    assert not torch.equal(old[0], new[0])
    for a, b, c in zip(old, half, new, strict=True):
        torch.testing.assert_close(b, (a + c) / 2)
    with pytest.raises(ContinuadError, match="learns by statistics"):
        make_strategy(name, make_detector("mypackage.brightness:Brightness", image_size=SIDE))


def test_files_of_the_extending_page_pass_the_contract_suite(tmp_path: Path) -> None:
    """As its reader would do it: save the files in the package's folders, then run the suite on their names."""
    package = Path(continuad.__file__).parent
    shutil.copytree(package, tmp_path / "src" / "continuad", ignore=shutil.ignore_patterns("__pycache__"))
    saved = files_to_save(DOCS / "extending.md")
    assert sorted({path.split("/")[2] for path in saved}) == ["detectors", "strategies"]
    for path, text in saved.items():
        (tmp_path / path).write_text(text, encoding="utf-8")
    names = " or ".join(Path(path).stem for path in saved)
    asked = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_contract.py", "-k", names]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST")}
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 20


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/extending.md"])
def test_python_on_a_page_runs(page: str, own_package: Path) -> None:
    blocks = [block for block in python_blocks(ROOT / page) if "import continuad" in block]
    assert blocks
    for block in blocks:
        small = re.sub(r"image_size=\d+", f"image_size={SIDE}", block)
        exec(compile(small, page, "exec"), {"__name__": page})


def commands_on(page: Path) -> Iterator[list[str]]:
    """Every call of continuad on a page, in indented or fenced blocks and between backticks, as words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.partition("  #")[0] for line in text.splitlines()] + re.findall(r"`([^`\n]+)`", text)
    for line in lines:
        called = re.match(r"(?:\s*(?:\w+=\S+ )*(?:python -m )?)continuad ((?:[a-z]|--).*)", line)
        if called and (line.startswith((" ", "continuad", "python", "PYTHONPATH"))):
            yield shlex.split(called[1].replace("…", " "))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_on_a_page_exist(page: Path) -> None:
    there = typer.main.get_command(app)
    assert isinstance(there, typer.core.TyperGroup)
    for words in commands_on(page):
        if words[0].startswith("-"):
            known = {option for parameter in there.params for option in parameter.opts} | {"--help"}
        else:
            assert words[0] in there.commands, words
            known = {option for parameter in there.commands[words[0]].params for option in parameter.opts}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, words


def test_commands_are_found_on_pages() -> None:
    found = [words[0] for page in PAGES for words in commands_on(page)]
    assert {"demo", "check-data", "bench", "report", "list", "distill"} <= set(found)


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub and Sphinx make it."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_named_on_a_page_exist(page: Path) -> None:
    """Files of this repository; those that a reader is asked to save do not exist yet."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:src|benchmarks|docs|tests)/[a-z_0-9/.-]+\.\w+)`", text)) - set(files_to_save(page))
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_architecture_page_says_what_folders_may_import() -> None:
    """Table and picture are the table that the test of imports goes by."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)/?`[^|]*\|[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    ground = {"errors", "files"}
    said = {name.removesuffix(".py"): set(re.findall(r"`(\w+)`", others)) for name, others in rows}
    assert said == {room: others - ground for room, others in MAY_IMPORT.items()}
    assert all(others >= ground for room, others in MAY_IMPORT.items() if room not in ground)

    picture = (DOCS / "images" / "architecture.svg").read_text(encoding="utf-8")
    arrows = {tuple(pair.split("-")) for pair in re.findall(r'<path id="([\w-]+)"', picture)}
    assert arrows == {(room, other) for room, others in MAY_IMPORT.items() for other in others - ground - {"core"}}
    without = [room for room in MAY_IMPORT if "core" not in MAY_IMPORT[room] and room not in ground | {"core"}]
    excepted = re.findall(r"every folder except ([\w, ]+)<", picture)[0]
    assert sorted(re.split(r", | and ", excepted)) == sorted(without)


def test_the_architecture_page_names_every_file() -> None:
    """Each by its name, but for detectors, strategies and demo products, which have a file each."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("## Every file")[2]
    said = {
        folder: set(re.findall(r"`(\w+)`", files))
        for folder, files in re.findall(r"^\| `(\w+)/` \| (.*) \|$", text, re.M)
    }
    package = ROOT / "src" / "continuad"
    there = {
        folder.name: {file.stem for file in folder.glob("[!_]*.py")} for folder in package.iterdir() if folder.is_dir()
    }
    for folder in ("detectors", "strategies"):
        there[folder] = set()
    there["demo"] -= set(PRODUCTS)
    for folder, files in there.items():
        files |= {file.stem for file in (package / folder).glob("_[!_]*.py")}
    assert said == {folder: files for folder, files in there.items() if files}


def test_the_table_of_strategies_says_what_the_classes_say() -> None:
    """Their policy for statistics, and which kinds of detectors they refuse."""
    text = (DOCS / "strategies.md").read_text(encoding="utf-8")
    said = {}
    for row in re.findall(r"^\| (`.+) \|$", text, re.MULTILINE):
        names, *columns = row.split(" | ")
        if len(columns) == 4:
            said |= dict.fromkeys(re.findall(r"`([\w-]+)`", names), columns[2:])
    kinds = detectors()
    statistical = {name for name, kind in kinds.items() if kind.learns_by == "statistics"}
    assert set(re.findall(r"\*Statistics detectors\* learn without gradients: ([^.]*)\.", text)[0].split(", ")) == {
        f"`{name}`" for name in statistical
    }
    assert set(said) == strategies().keys() - {"combined"}
    for name, strategy in strategies().items():
        if name == "combined":
            continue
        policy, refuses = said[name]
        assert policy == strategy.statistics
        refused = {detector for detector, kind in kinds.items() if strategy.refuses(kind)}
        if but := re.findall(r"all but (.*)", refuses):
            assert refused == kinds.keys() - set(re.findall(r"`([\w-]+)`", but[0]))
        else:
            assert refused == (statistical if "statistics detectors" in refuses else set())


def test_every_detector_has_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8").splitlines()[0] for page in (DOCS / "detectors").glob("*.md"))
    assert not [name for name in detectors() if f"`{name}`" not in text]


def test_the_protocol_pages_worked_numbers() -> None:
    scores, labels = [3, 1, 2, 0], [1, 1, 0, 0]
    assert image_auroc(scores, labels) == 0.75
    assert round(image_ap(scores, labels), 3) == 0.833
    assert f1_max(scores, labels)[0] == pytest.approx(0.8)
    nan = np.nan
    r = np.array([[0.9, nan, nan], [0.6, 0.8, nan], [0.3, 0.6, 0.7]])
    assert round(continual.average(r), 3) == 0.533
    assert continual.forgetting(r) == pytest.approx(0.4)
    assert round(continual.relative_forgetting(r), 3) == 0.458
    assert continual.backward_transfer(r) == pytest.approx(-0.4)
    assert round(continual.relative_gap(0.8 / 1.5, 0.8), 3) == 0.333
    together = np.array([[nan, nan, nan], [0.9, 0.8, nan], [0.6, 0.8, 0.7]])
    assert continual.average(together) == pytest.approx(0.7)
    assert continual.forgetting(together) == pytest.approx(0.15)
    assert continual.backward_transfer(together) == pytest.approx(-0.15)
    assert holm(np.array([0.01, 0.03, 0.04])) == pytest.approx([0.03, 0.06, 0.06])
    assert round(image_auroc([0.2, 0.9, 0.8, 1.5, 3], [0, 0, 1, 1, 1]), 3) == 0.833


def test_no_page_names_a_local_path() -> None:
    pages = [
        *DOCS.rglob("*.md"),
        *ROOT.glob("*.md"),
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
    ]
    assert not [p for p in pages if "/work/" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_formulas_can_be_drawn(page: Path) -> None:
    """As docs/conf.py draws them: matplotlib knows less than LaTeX (`\\frac12` for one)."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for formula in re.findall(r"\$\$?([^$]+)\$\$?", text):
        MathTextParser("path").parse(f"${' '.join(formula.split())}$")
