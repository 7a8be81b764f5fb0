"""The documentation's own code runs, and its worked numbers are what the code computes."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib.mathtext import MathTextParser
from toys import ToyAutoencoder, stream

from continuad.errors import ContinuadError
from continuad.metrics import continual
from continuad.metrics.image import f1_max, image_ap, image_auroc
from continuad.models.registry import make_strategy
from continuad.report.paired import holm

DOCS = Path(__file__).parents[1] / "docs"


def module_of(block: str, name: str, folder: Path) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(block, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_extending_page_makes_a_working_detector_and_strategy(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(encoding="utf-8"), re.DOTALL)
    brightness, fading = (module_of(b, n, tmp_path) for b, n in zip(blocks, ("brightness", "fading"), strict=True))
    tasks = stream(2)
    for name in ("naive", "accumulate", "pertask"):
        strategy = make_strategy(name, brightness.Brightness(image_size=64))
        for task in tasks:
            strategy.learn(task)
        assert torch.isfinite(strategy.predict(torch.from_numpy(tasks[1].test.images)).map).all()
    with pytest.raises(ContinuadError, match="learns by statistics"):
        fading.Fading(brightness.Brightness(image_size=64))
    strategy = fading.Fading(ToyAutoencoder())
    for task in tasks:
        strategy.learn(task)


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
    root = DOCS.parent
    pages = [
        *DOCS.rglob("*.md"),
        *root.glob("*.md"),
        *(root / "src").rglob("*.py"),
        *(root / "benchmarks").glob("*.py"),
    ]
    assert not [p for p in pages if "/work/" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", sorted(DOCS.glob("[!_]*.md")) + sorted(DOCS.glob("[!_]*/*.md")), ids=lambda p: p.stem)
def test_formulas_can_be_drawn(page: Path) -> None:
    """As docs/conf.py draws them: matplotlib knows less than LaTeX (`\\frac12` for one)."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for formula in re.findall(r"\$\$?([^$]+)\$\$?", text):
        MathTextParser("path").parse(f"${' '.join(formula.split())}$")
