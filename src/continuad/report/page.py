"""The page: what was asked first, then the evidence, then how it was made. One file, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import continuad
from continuad.report import style
from continuad.report.answers import answers, headline, in_use, not_available, unfinished
from continuad.report.drawing import inline_svg
from continuad.report.figures import Drawing, final_products
from continuad.report.glossary import METRICS
from continuad.report.pictures import Product, gradient
from continuad.report.tables import TASK_INFERENCE, best_metric, matrix, over_seeds
from continuad.report.thesis import Table, comparison_table, thesis_table


@dataclass(frozen=True)
class Shown:
    """The gallery of one run in the page."""

    detector: str
    strategy: str
    run: str
    products: Sequence[Product]


def render(
    rows: pd.DataFrame,
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    settings: dict[str, Any],
    figures: Sequence[tuple[Drawing, str]],
    galleries: Sequence[Shown],
    name: str,
) -> str:
    """The page as HTML.

    Args:
        rows: the tidy table of results.
        summary: from `summarise`.
        differences: from `paired`.
        settings: contents of settings.toml, whatever they are.
        figures: each with the text of its SVG file; each goes to its section.
        galleries: a run's pictures each.
        name: of the results folder.
    """
    means, metric = over_seeds(summary), best_metric(summary)
    detectors = list(summary["detector"].unique())
    several = len(detectors) > 1
    found = answers(rows, means, metric)
    context = {
        "name": name,
        "version": continuad.__version__,
        "metric": metric,
        "several": several,
        "headline": headline(found, metric, several),
        "answers": list(zip(found, [_with_verdicts(line) for line in means.to_dict("records")], strict=True)),
        "promised": _promised(means),
        "facts": _facts(rows, summary, means),
        "unfinished": unfinished(rows, settings),
        "tables": [thesis_table(summary, detector) for detector in detectors],
        "differences": differences.to_dict("records"),
        "tested": int(differences["p"].notna().sum()),
        "comparison": comparison_table(summary) if several else None,
        "sections": _sections(figures),
        "galleries": galleries,
        "first_gallery": _first_gallery(galleries, means, metric),
        "gradient": gradient(),
        "product_tables": _product_tables(rows, summary),
        "numbers": _numbers(rows, means),
        "task_inference": _task_inference(means, metric),
        "open_set_seen": bool(means["open_set_auroc"].notna().any()),
        "missing": not_available(rows, means, settings),
        "settings": settings_parts(settings),
        "metrics": [(style.metric_name(key), text) for key, text in METRICS.items()],
        "strategies": _strategies(means, settings),
        "megabytes": style.megabytes,
    }
    return _environment().get_template("page.html.j2").render(context)


def _environment() -> Environment:
    """Templates that escape whatever they are given, and fail on a name that is missing."""
    environment = Environment(
        loader=PackageLoader("continuad.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"colour": style.colour, "fraction": _fraction, "metric": style.metric_name}
    environment.filters |= {"signed": style.signed, "chance": style.chance}
    environment.filters |= {"heads": table_heads, "body": table_body}
    return environment


def _promised(means: pd.DataFrame) -> str:
    """The mean rate of false alarms that thresholds in use promise, as a percentage; "" where rows have none."""
    rate = means["image_fpr_promised"].mean()
    return "" if pd.isna(rate) else f"{100 * rate:.2g} %"


def _with_verdicts(line: dict[str, Any]) -> dict[str, Any]:
    """A line of means, and beside it `used`: false alarms and caught defects as the strategy is used."""
    measured = {name for name, value in line.items() if pd.notna(value)}
    shown = ("image_fpr_promised", "image_fpr_1pct", "image_recall_1pct", "image_fpr_5pct", "image_recall_5pct")
    return {**line, "used": {name: line.get(in_use(name, measured), float("nan")) for name in shown}}


def _fraction(value: float) -> str:
    return "n/a" if pd.isna(value) else style.fraction(value)


def _strategies(means: pd.DataFrame, settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Strategies of these results, each with the sentence about it that the settings carry."""
    about = settings.get("about_strategies", {})
    return [(one, about[one]) for one in style.order_strategies(means["strategy"]) if one in about]


def _facts(rows: pd.DataFrame, summary: pd.DataFrame, means: pd.DataFrame) -> dict[str, Any]:
    """What a reader should know before any number: which products in which order, how many runs."""
    furthest = summary.loc[summary["tasks"].idxmax(), "run"]
    _, products = matrix(rows, "", str(furthest))
    steps = rows.loc[rows["run"] == furthest, "after_task"].nunique()
    return {
        "products": products,
        "grouped": steps < len(products),
        "orders": summary["order"].nunique(),
        "seeds": summary["seed"].nunique(),
        "runs": len(summary),
        "detectors": list(means["detector"].unique()),
        "strategies": style.order_strategies(means["strategy"]),
    }


def _sections(figures: Sequence[tuple[Drawing, str]]) -> dict[str, list[dict[str, Any]]]:
    result: dict[str, list[dict[str, Any]]] = {"trend": [], "matrix": [], "bars": [], "products": []}
    for number, (drawn, svg) in enumerate(figures):
        # Markup is right here: matplotlib has escaped every name that it wrote into the SVG.
        element = Markup(inline_svg(svg, f"f{number}", drawn.title))
        result[drawn.section].append({"metric": drawn.metric, "svg": element})
    return result


def _product_tables(rows: pd.DataFrame, summary: pd.DataFrame) -> list[dict[str, Any]]:
    """For pixel F1 and image AUROC, and what is known of good images alone: products × (detector, strategy), means over
    runs at the end."""
    found = []
    for metric in ("pixel_f1_max", "image_auroc", "good_fpr", "good_level"):
        if summary[metric].notna().any():
            parts = {name: final_products(rows, metric, name) for name in summary["detector"].unique()}
            table = pd.concat(parts, axis=1)
            heads = [tuple(map(str, head)) for head in table.columns]
            lines = [(str(product), line.tolist()) for product, line in table.iterrows()]
            found.append({"metric": metric, "heads": heads, "lines": lines, "mean": table.mean().tolist()})
    return found


def _numbers(rows: pd.DataFrame, means: pd.DataFrame) -> dict[str, Any]:
    """All metrics of each product at the end, a line per detector × strategy × product."""
    present = [name for name in style.QUALITY if (rows["metric"] == name).any()]
    lines = []
    for detector in means["detector"].unique():
        tables = {metric: final_products(rows, metric, str(detector)) for metric in present}
        for strategy in means.loc[means["detector"] == detector, "strategy"]:
            for product in next(iter(tables.values())).index if tables else []:
                values = [tables[metric].loc[product, strategy] for metric in present]
                if pd.notna(values).any():
                    lines.append({"detector": detector, "strategy": strategy, "product": product, "values": values})
    return {"metrics": present, "lines": lines}


def _task_inference(means: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    """Strategies that infer the task: how often they were right, and what wrong inference costs."""
    oracle, measured = f"oracle_{metric}", [name for name in TASK_INFERENCE if name in means]
    given = means[oracle] if oracle in means else pd.Series(float("nan"), index=means.index)
    chosen = means[means[measured].notna().any(axis=1)]
    return [
        {
            "detector": line["detector"],
            "strategy": line["strategy"],
            **{name: line[name] for name in TASK_INFERENCE},
            "inferred": line[metric] if pd.notna(line["task_accuracy"]) else float("nan"),
            "given": given[at],
        }
        for at, line in chosen.iterrows()
    ]


def settings_parts(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in the shape a page shows, whatever keys there are.

    Returns:
        `flat` pairs, `groups` of pairs such as [machine], `tables` such as [[streams]], and the `command`.
    """
    flat, groups, tables = [], [], []
    for key, value in settings.items():
        if key in ("command", "notes", "about_strategies") or value in ({}, [], ""):
            continue  # they have places of their own, or are not set
        if isinstance(value, dict):
            groups.append((key, [(inner, text(item)) for inner, item in value.items()]))
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            heads = list(dict.fromkeys(inner for item in value for inner in item))
            tables.append((key, heads, [[text(item.get(head, "")) for head in heads] for item in value]))
        else:
            flat.append((key, text(value)))
    return {"flat": flat, "groups": groups, "tables": tables, "command": text(settings.get("command", ""))}


def text(value: Any) -> str:
    """A setting for people: lists with commas, true as yes, nested tables as key: value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(text, value))
    if isinstance(value, dict):
        return "; ".join(f"{key}: {text(item)}" for key, item in value.items())
    return str(value)


def table_heads(table: Table) -> list[list[tuple[str, int]]]:
    """Header lines of a table as (text, columns it spans): strategies, or detectors over strategies."""
    heads = [head if isinstance(head, tuple) else (head,) for head in table.cells.columns]
    return [
        [(key[-1], len(list(same))) for key, same in groupby(heads, key=lambda head: head[: level + 1])]
        for level in range(len(heads[0]))
    ]


def table_body(table: Table) -> list[tuple[str, str, int, list[tuple[str, bool]]]]:
    """Lines of a table as (group, measure, span, [(cell, best)]); the span is 0 but for a group's first line."""
    lines = zip(table.cells.index, table.cells.to_numpy().tolist(), table.best.to_numpy().tolist(), strict=True)
    found: list[tuple[str, str, int, list[tuple[str, bool]]]] = []
    for (group, measure), texts, bold in lines:
        span = 0 if group in {line[0] for line in found} else len(table.cells.loc[[group]])
        found.append((group, measure, span, list(zip(texts, bold, strict=True))))
    return found


def _first_gallery(galleries: Sequence[Shown], means: pd.DataFrame, metric: str) -> int:
    """Number (from 1) of the gallery that stands open: the best continual strategy's; 0 if there is none."""
    keys = [(one.detector, one.strategy) for one in galleries]
    for line in means.sort_values(metric, ascending=False).to_dict("records"):
        if (line["detector"], line["strategy"]) in keys and not style.is_reference(line["strategy"]):
            return keys.index((line["detector"], line["strategy"])) + 1
    return min(1, len(keys))
