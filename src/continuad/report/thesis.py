"""Result tables in the layout of Bugaric 2023: table 5.2 for one detector, 5.4 to compare several.

J. Bugaric, "Integrating State-of-the-Art Approaches for Anomaly Detection and Localization in the Continual Learning
Setting", master's thesis, University of Padova, 2023. Other modules name it "Bugaric 2023".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from continuad.errors import ContinuadError
from continuad.report import style
from continuad.report.tables import best_metric, over_seeds

_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Table:
    """A table of finished cells.

    Attributes:
        title: one line.
        cells: strings; rows (group, measure), columns strategies or (detector, strategy).
        best: the same shape, True where a cell holds the best value of its row among continual strategies.
        notes: what the raised numbers in the cells refer to, in order.
    """

    title: str
    cells: pd.DataFrame
    best: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    group: str
    measure: str
    column: str
    show: Callable[[float], str]
    higher_is_better: bool = False
    compared: bool = False


def _rows(basis: str) -> list[_Row]:
    quality = [
        ("Image-level", "AUC ROC", "image_auroc"),
        ("Image-level", "F1 max", "image_f1_max"),
        ("Pixel-level", "AUC ROC", "pixel_auroc"),
        ("Pixel-level", "F1 max", "pixel_f1_max"),
        ("Pixel-level", "Precision–recall", "pixel_ap"),
        ("Pixel-level", "AU PRO", "pixel_aupro"),
    ]
    return [
        *(_Row(group, name, column, style.fraction, True, True) for group, name, column in quality),
        _Row("Time", "training", "train_seconds", style.duration),
        _Row("Time", "inference [ms]", "inference_ms", style.milliseconds),
        _Row("Architecture memory [MB]", "", "architecture_mb", style.megabytes),
        _Row("Additional memory [MB]", "", "additional_mb", style.megabytes),
        _Row("Memory while learning [MB]", "", "learning_mb", style.megabytes),
        _Row("Relative gap δ [%]", "", f"relative_gap_{basis}", style.percent, compared=True),
        _Row("Average forgetting [%]", "", f"relative_forgetting_{basis}", style.percent, compared=True),
    ]


def thesis_table(summary: pd.DataFrame, detector: str) -> Table:
    """What each strategy reached and cost with one detector.

    Args:
        summary: from `summarise`, or its runs of interest.
        detector: such as "padim".

    Returns:
        Cells "mean" or, over several runs, "mean ± deviation"; "/" where a measure has no meaning and "n/a"
        where it is not available, each with a note that says why. Gap and forgetting are percentages and rest
        on pixel F1 max (on image AUROC where no masks are known).

    Raises:
        ContinuadError: the detector is not in the summary.
    """
    chosen = summary[summary["detector"] == detector]
    if chosen.empty:
        raise ContinuadError(f"no run of the detector {detector!r} among the results")
    return _table(f"Performance overview of {detector}", over_seeds(chosen), ["strategy"], best_metric(chosen))


def comparison_table(summary: pd.DataFrame) -> Table:
    """Every detector's continual strategies side by side."""
    means = over_seeds(summary)
    continual = means[~means["strategy"].map(style.is_reference)]
    title = "Performance comparison of anomaly detection strategies in the continual setting"
    return _table(title, continual if len(continual) else means, ["detector", "strategy"], best_metric(summary))


def _table(title: str, means: pd.DataFrame, heads: list[str], basis: str) -> Table:
    # Results of earlier versions do not hold the memory while learning: then the table has no such row.
    rows = [row for row in _rows(basis) if row.column != "learning_mb" or means["learning_mb"].notna().any()]
    notes = list[str]()
    if basis != "pixel_f1_max":
        # The first note: it changes what two rows of the table mean.
        _note(notes, "gap and forgetting are taken from image AUROC, since no pixel metric is available")
    lines = [line for _, line in means.iterrows()]
    cells = [[_cell(row, line, means, notes) for line in lines] for row in rows]
    best = [_best(row, means) for row in rows]
    index = pd.MultiIndex.from_tuples([(row.group, row.measure) for row in rows], names=["group", "measure"])
    columns = pd.MultiIndex.from_frame(means[heads]) if len(heads) > 1 else pd.Index(means[heads[0]])
    return Table(title, pd.DataFrame(cells, index, columns), pd.DataFrame(best, index, columns), tuple(notes))


def _cell(row: _Row, line: pd.Series, means: pd.DataFrame, notes: list[str]) -> str:
    if row.column.startswith("relative_forgetting") and style.is_reference(line["strategy"]):
        return "/" + _note(notes, "does not apply: single and multitask do not learn one product after another")
    value, deviation = line.get(row.column, math.nan), line.get(f"{row.column}_sd", math.nan)
    if pd.isna(value):
        return "n/a" + _note(notes, why_missing(row.column, line, means))
    # No deviation at all: bytes are what they are, and what never changes has nothing to scatter.
    scatters = pd.notna(deviation) and deviation > 1e-12 * abs(value)
    text = f"{row.show(value)} ± {row.show(deviation)}" if scatters else row.show(value)
    tasks = means["tasks"].max()
    if line["tasks"] < tasks:
        text += _note(notes, f"after {line['tasks']} of {tasks} products: the run is not finished")
    return text


def _note(notes: list[str], reason: str) -> str:
    if reason not in notes:
        notes.append(reason)
    return str(notes.index(reason) + 1).translate(_SUPERSCRIPT)


def why_missing(column: str, line: pd.Series, means: pd.DataFrame) -> str:
    """Why a line of `over_seeds` has no number under `column`, in words."""
    if column.startswith("relative_gap"):
        same = means[(means["detector"] == line["detector"]) & (means["strategy"] == "single")]
        if len(same) and same["tasks"].iloc[0] >= line["tasks"]:
            return "neither this metric nor its gap is available"
        return 'the gap needs the strategy "single" with the same detector, seed and order; add it to --strategy'
    if "forgetting" in column or column.startswith("backward_transfer"):
        return "only one product is learned so far" if line["tasks"] < 2 else "earlier products were not measured again"
    if column.startswith("pixel"):
        return "no test image has a known defect mask"
    if column.startswith("image"):
        return "the test images are not both good and defective"
    return "was not measured"


def _best(row: _Row, means: pd.DataFrame) -> list[bool]:
    """For each line of `means`: is it the best of the finished continual strategies?"""
    rival = ~means["strategy"].map(style.is_reference) & (means["tasks"] == means["tasks"].max())
    values = means[row.column].where(rival) if row.column in means else pd.Series(math.nan, index=means.index)
    if not row.compared or values.notna().sum() < 2:
        return [False] * len(means)
    top = row.show(values.max() if row.higher_is_better else values.min())
    alike = [bool(pd.notna(value)) and row.show(value) == top for value in values]
    return alike if sum(alike) < values.notna().sum() else [False] * len(means)
