"""From a results folder to a page that works offline, whatever the folder holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_cases import BEST, KEPT, TWO, frame, line, run_rows, write_examples, write_results

from continuad.errors import ContinuadError
from continuad.report.write import write_report

SETTINGS = """
command = "continuad bench parts/washer parts/bolt --seeds 2 --out results"
folders = ["parts/washer", "parts/bolt"]
detector = ["padim"]
strategy = ["single", "naive", "pertask"]
seeds = [0, 1]
image_size = [256, 256]
download = false
notes = ["bolt: 2 images have no mask"]
[machine]
processor = "A < B & C"
[about_strategies]
naive = "Fine-tuning <as it is>."
pertask = "One snapshot per task."
ewc = "Not run here."
"""
HOSTILE = ["good/<img src=x onerror=alert(2)>.png", "crack/ü.png"]
NAN = float("nan")
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Outline(HTMLParser):
    """Collects attributes that load something, ids, and the text; complains about tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


def read(page: Path) -> tuple[str, Outline]:
    """A page's text and outline, after what every page must fulfil."""
    html = page.read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(html)
    assert outline.open == [], "every tag is closed"
    assert all(load.startswith(("data:image/", "#")) for load in outline.loads), "nothing from elsewhere"
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.scripts == 1
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    return re.sub(r"\s+", " ", "".join(outline.words)), outline


Steps = list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Steps]:
    """A page on three strategies, two seeds, two products, pictures of one run each; and its progress."""
    folder, steps = tmp_path_factory.mktemp("results"), Steps()
    write_results(folder, line(), SETTINGS)
    for strategy in ("single", "naive", "pertask"):
        write_examples(folder, f"padim-{strategy}-seed0-order0", ["washer", "bolt"])
    return write_report(folder, progress=lambda *step: steps.append(step)), steps


def test_a_whole_folder_becomes_a_page_tables_and_figures(full: tuple[Path, Steps]) -> None:
    (page, steps), folder = full, full[0].parent
    assert page.name == "report.html"
    text, outline = read(page)
    assert "Not with pertask; yes with naive." in text
    assert "washer fell from 0.89 to 0.59" in text
    assert "0.690 ± 0.014" in text
    assert "continuad bench parts/washer parts/bolt --seeds 2" in text
    assert "A < B & C" in text
    assert "naiveFine-tuning <as it is>.pertaskOne snapshot per task." in text[text.index("Glossary Metrics") :]
    assert "Not run here." not in text
    assert "bolt: 2 images have no mask" in text
    assert "not finished" not in text
    pictures = [load for load in outline.loads if load.startswith("data:")]
    assert len(pictures) == 3 * 2 * 2 * 5, "strategies × products × examples × panels"
    assert len(pd.read_csv(folder / "summary.csv")) == 6
    assert len(pd.read_csv(folder / "summary_seeds.csv")) == 3
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"trend_padim_pixel_f1_max.svg", "trend_padim_pixel_f1_max.png", "bars.svg"} <= names
    assert {"matrix_padim_naive_order0_image_auroc.png", "gallery_padim_naive_seed0_order0.png"} <= names
    assert not [name for name in names if name.startswith(".")], "no half files are left"
    assert steps[-1][1] == steps[-1][2]
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_the_answer_comes_first(full: tuple[Path, Steps]) -> None:
    _, outline = read(full[0])
    sections = [name for name in outline.ids if not re.match(r"f\d+-", name)]
    expected = "answers results differences costs trends matrices gallery products missing settings glossary"
    assert sections == expected.split()


def test_differences_are_listed_with_how_many_were_tested(tmp_path: Path) -> None:
    scores = {"naive": (0.5, 0.6, 0.7), "pertask": (0.6, 0.8, 1.0)}
    runs = [
        run_rows(name, {"pixel_f1_max": [[v], [v, v]]}, ["washer", "bolt"], seed=seed)
        for name, found in scores.items()
        for seed, v in enumerate(found)
    ]
    text, _ = read(write_report(write_results(tmp_path, frame(*runs))))
    section = text[text.index("Two strategies with the same detector") :]
    assert "1 comparison was made" in section
    assert "PixelF1maxnaivepertask3−0.2000.1000.0740.074" in section.replace(" ", "")
    assert pd.read_csv(tmp_path / "paired.csv").p.item() == pytest.approx(0.0742, abs=1e-4)


def test_one_seed_says_nothing_of_chance(tmp_path: Path) -> None:
    rows = frame(*(run_rows(name, {"pixel_f1_max": TWO}, ["washer", "bolt"]) for name in ("naive", "pertask")))
    _, outline = read(write_report(write_results(tmp_path, rows)))
    assert "differences" not in outline.ids
    assert not (tmp_path / "paired.csv").exists()


def test_products_learned_together_and_products_never_learned(tmp_path: Path) -> None:
    table = [[NAN], [0.9, 0.8], [0.6, 0.8, 0.7]]
    runs = run_rows("pertask", {"pixel_f1_max": table, "task_accuracy": table}, ["washer", "bolt", "nut"])
    rows = frame([row for row in runs if row["after_task"] > 0])
    whole = {"run": rows.run[0], "detector": "padim", "strategy": "pertask", "seed": 0, "order": 0, "after_task": 2}
    whole |= {"after_name": "nut", "on_task": -1, "on_name": "", "metric": "open_set_auroc", "value": 0.875}
    write_results(tmp_path, pd.concat([rows, pd.DataFrame([whole])], ignore_index=True), 'open_set = ["parts/pin"]')
    text, _ = read(write_report(tmp_path))
    assert "washer fell from 0.90 to 0.60" in text
    assert "1 of 2 earlier products lost 0.05 or more" in text
    section = text[text.index("Strategies that infer from the image") :]
    assert "Open-set AUROC" in section
    assert "0.875" in section
    assert "Open-set AUROC, for" not in text


def test_rows_csv_will_do_and_odd_names_survive(tmp_path: Path) -> None:
    names = ["NA", "null"]
    line(names).query("metric != 'image_auroc'").to_csv(tmp_path / "rows.csv", index=False)
    text, _ = read(write_report(tmp_path))
    assert "NA fell from 0.89 to 0.59" in text


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", 'Überwurf "mutter" & 螺丝 $x^2$']
    settings = f"note = '{names[0]}'\n[machine]\n'<b>' = '<i>'\n"
    write_results(tmp_path, line(names), settings)
    write_examples(tmp_path, "padim-naive-seed0-order0", names, name=np.array(HOSTILE))
    text, outline = read(write_report(tmp_path))
    assert names[0] in text
    assert names[1] in text
    assert "<img src=x onerror=alert(2)>" in text
    assert outline.scripts == 1


def test_a_run_that_is_still_going_gives_a_page_that_says_so(tmp_path: Path) -> None:
    rows = frame(
        run_rows("single", {"pixel_f1_max": BEST}, ["washer", "bolt"]),
        run_rows("naive", {"pixel_f1_max": [[0.9]]}, ["washer", "bolt"]),
    )
    write_results(tmp_path, rows, 'detector = ["padim"]\nstrategy = ["single", "naive", "pertask"]\n')
    text, _ = read(write_report(tmp_path))
    assert "This benchmark is not finished" in text
    assert "padim-naive-seed0-order0: 1 of 2 products" in text
    assert "padim with pertask: 1 of 1 runs without a product yet" in text
    assert "they are written after a run's last product" in text
    (tmp_path / "settings.toml").unlink()
    write_results(tmp_path, frame(run_rows("naive", {"pixel_f1_max": TWO}, ["washer", "bolt"])))
    text, _ = read(write_report(tmp_path))
    assert "not finished" not in text, "the page is replaced"


def test_one_product_one_strategy_no_masks(tmp_path: Path) -> None:
    write_results(tmp_path, frame(run_rows("naive", {"image_auroc": [[0.9]]}, ["washer"])))
    text, _ = read(write_report(tmp_path))
    assert "no earlier one that could have suffered" in text
    assert "Pixel metrics of all products: none of their test images has a known defect mask" in text
    assert "There is no settings.toml" in text


def test_a_stream_without_any_test_image_still_has_its_costs(tmp_path: Path) -> None:
    rows = frame(run_rows("naive", {"image_auroc": TWO}, ["washer", "bolt"])).query("metric != 'image_auroc'")
    write_results(tmp_path, rows)
    text, _ = read(write_report(tmp_path))
    assert "Image metrics of all products" in text
    assert "20 s" in text


def test_several_detectors_seeds_and_orders(tmp_path: Path) -> None:
    runs = [
        run_rows(strategy, {"pixel_f1_max": table}, names, detector=detector, seed=seed, order=order)
        for detector in ("padim", "spade")
        for strategy, table in (("naive", TWO), ("pertask", KEPT))
        for seed in (0, 1)
        for order, names in ((0, ["washer", "bolt"]), (1, ["bolt", "washer"]))
    ]
    write_results(tmp_path, frame(*runs))
    text, _ = read(write_report(tmp_path))
    assert "Comparison of detectors" in text
    assert "the first of 2 orders" in text
    assert "Not with padim pertask and spade pertask" in text


def test_how_products_are_inferred_is_reported_with_and_without_help(tmp_path: Path) -> None:
    """BL-131 asks for both, and for how often the guess was right."""
    parts = {
        "pixel_f1_max": KEPT,
        "oracle_pixel_f1_max": [[0.8], [0.91, 0.91]],
        "task_accuracy": [[1.0], [0.8, 1.0]],
        "task_accuracy_pooled": [[1.0], [0.77, 0.79]],
    }
    write_results(tmp_path, frame(run_rows("pertask", parts, ["washer", "bolt"])))
    text, _ = read(write_report(tmp_path))
    section = text[text.index("Strategies that infer from the image") :]
    assert [number in section[:600] for number in ("0.900", "0.800", "0.910", "0.780")] == [True] * 4


def test_a_folder_without_rows_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match=r"neither runs/\*/rows\.json nor rows\.parquet nor"):
        write_report(tmp_path)
    with pytest.raises(ContinuadError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    write_results(tmp_path, line().iloc[:0])
    with pytest.raises(ContinuadError, match="no rows yet"):
        write_report(tmp_path)
    write_results(tmp_path, line().drop(columns="metric"))
    with pytest.raises(ContinuadError, match="metric"):
        write_report(tmp_path)
    write_results(tmp_path, line(), "not = = toml")
    with pytest.raises(ContinuadError, match=r"settings\.toml"):
        write_report(tmp_path)
