"""Rows become tables, figures and one self-contained page. Reads only what lies in a results folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from continuad.files import replace_file, safe_name
from continuad.report.drawing import save_png, to_svg
from continuad.report.figures import all_figures
from continuad.report.files import (
    Examples,
    find_examples,
    load_examples,
    load_rows,
    load_settings,
    run_files,
    write_rows,
)
from continuad.report.gallery import gallery
from continuad.report.page import Shown, render
from continuad.report.paired import paired
from continuad.report.pictures import budget, shots
from continuad.report.tables import matrix, over_seeds, summarise, task_names
from continuad.report.thesis import comparison_table, thesis_table

__all__ = ["comparison_table", "matrix", "over_seeds", "paired", "summarise", "thesis_table", "write_report"]


def write_report(directory: Path, progress: Callable[[str, int, int], None] | None = None) -> Path:
    """Write rows.csv, rows.parquet, summary.csv, summary_seeds.csv, figures/ and report.html into a results folder,
    and paired.csv where strategies have several runs in common.

    Works on a run that is still going, too. Each file is replaced in one step.

    Args:
        directory: with the runs of a benchmark, whose rows are gathered; or with rows.parquet or rows.csv alone,
            which then stay as they are. settings.toml and examples/ are used where they exist.
        progress: called with (what, done, total) as it goes.

    Returns:
        The path of report.html.

    Raises:
        ContinuadError: no rows, or a file that cannot be read.
    """
    directory = Path(directory)
    rows, settings = load_rows(directory), load_settings(directory)
    if run_files(directory):
        write_rows(directory, rows)
    summary = summarise(rows)
    differences = paired(summary)
    tables = {"summary.csv": summary, "summary_seeds.csv": over_seeds(summary)}
    tables |= {"paired.csv": differences} if len(differences) else {}
    for name, table in tables.items():
        replace_file(directory / name, partial(table.to_csv, index=False))
    drawings = all_figures(rows, summary)
    total, figures = len(drawings) + len(summary) + 1, []

    def say(what: str, done: int) -> None:
        if progress:
            progress(what, done, total)

    for number, drawing in enumerate(drawings):
        say("drawing figures", number)
        figure = drawing.draw()
        save_png(figure, directory / "figures" / f"{drawing.name}.png")
        figures.append((drawing, to_svg(figure)))
        _write(directory / "figures" / f"{drawing.name}.svg", figures[-1][1])
    galleries = _galleries(directory, rows, summary, lambda done: say("drawing galleries", len(drawings) + done))
    say("writing the page", total - 1)
    html = render(rows, summary, differences, settings, figures, galleries, directory.resolve().name)
    page = _write(directory / "report.html", html)
    say("report written", total)
    return page


def _write(path: Path, text: str) -> Path:
    return replace_file(path, lambda new: new.write_text(text, encoding="utf-8"))


def _galleries(directory: Path, rows: pd.DataFrame, summary: pd.DataFrame, say: Callable[[int], None]) -> list[Shown]:
    """Draw every run's gallery as a file, and return those the page shows: the first run of each strategy."""
    shown: dict[tuple[str, str], tuple[str, list[tuple[str, Examples]]]] = {}
    for number, line in enumerate(summary.to_dict("records")):
        say(number)
        run = str(line["run"])
        products = _products(directory, rows, run)
        if not products:
            continue
        title = f"{line['detector']} · {line['strategy']} · seed {line['seed']}, after the last product"
        name = f"{safe_name(line['detector'])}_{safe_name(line['strategy'])}_seed{line['seed']}_order{line['order']}"
        file = directory / "figures" / f"gallery_{name}.png"
        replace_file(file, partial(gallery(products, title).save, compress_level=4))
        shown.setdefault((str(line["detector"]), str(line["strategy"])), (run, products))
    size, most = budget([len(one) for _, products in shown.values() for _, one in products])
    return [Shown(*key, run, shots(products, size, most)) for key, (run, products) in shown.items()]


def _products(directory: Path, rows: pd.DataFrame, run: str) -> list[tuple[str, Examples]]:
    """A run's examples with the products' own names, which file names may spell otherwise."""
    names = task_names(rows, run)
    loaded = [load_examples(path) for path in find_examples(directory, run)]
    known = [(names[one.index] if 0 <= one.index < len(names) else one.task, one) for one in loaded]
    return [(name, one) for name, one in known if len(one)]
