"""Figures from rows: trends, matrices, costs, products; each function returns a matplotlib Figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from continuad.files import safe_name
from continuad.metrics import continual
from continuad.report import style
from continuad.report.drawing import GRID, INK, label_ends, new_figure, styled
from continuad.report.tables import best_metric, furthest_runs, matrix, over_seeds

# Not quite white: in a page, white is the paper and becomes transparent.
_ON_DARK, _ON_LIGHT = "#fefefe", "#16202b"

# Light to deep, of one hue: readable with dark and with white numbers, and on paper.
_DEPTH = LinearSegmentedColormap.from_list("depth", ["#f3f6f9", "#c6dbe8", "#74a9c9", "#2b6f9e", "#0d3b5e"])


_Show = Callable[[float], str]


@dataclass(frozen=True)
class Drawing:
    """A figure to be drawn, with what a page needs to place it.

    Attributes:
        name: stem of its files.
        section: "trend", "matrix", "bars" or "products".
        metric: what it shows; "" for several.
        title: read aloud instead of it.
        draw: makes the figure; it takes a third of a second, so whoever wants it calls.
    """

    name: str
    section: str
    metric: str
    title: str
    draw: Callable[[], Figure]


def all_figures(rows: pd.DataFrame, summary: pd.DataFrame) -> list[Drawing]:
    """Every figure that the rows and their summary can carry."""
    found = [Drawing("bars", "bars", "", "Quality, memory and learning time", partial(bars, summary))]
    for detector in summary["detector"].unique():
        own = summary[summary["detector"] == detector]
        for metric in ("pixel_f1_max", "image_auroc"):
            if own[metric].notna().any():
                found += _of_metric(rows, own[own[metric].notna()], metric, str(detector))
    return found


def _of_metric(rows: pd.DataFrame, runs: pd.DataFrame, metric: str, detector: str) -> Iterator[Drawing]:
    name, stem = style.metric_name(metric), safe_name(detector)
    draw = partial(products, rows, metric, detector)
    title = f"{name} of each product at the end, {detector}"
    yield Drawing(f"products_{stem}_{metric}", "products", metric, title, draw)
    if rows.loc[rows["run"].isin(runs["run"]), "after_task"].nunique() < 2:
        return  # there is nothing to look back at yet
    draw, title = partial(trend, rows, metric, detector), f"{name} as products are added, {detector}"
    yield Drawing(f"trend_{stem}_{metric}", "trend", metric, title, draw)
    for strategy, order in runs[["strategy", "order"]].drop_duplicates().itertuples(index=False):
        draw = partial(heat_matrix, rows, metric, detector, strategy, order)
        title = f"{name} of each product after each, {detector} · {strategy} · order {order}"
        yield Drawing(f"matrix_{stem}_{safe_name(strategy)}_order{order}_{metric}", "matrix", metric, title, draw)


def trend(rows: pd.DataFrame, metric: str, detector: str) -> Figure:
    """The mean over products seen as products are added, a line per strategy with a band of ± 1 deviation.

    As figures 5.4, 5.7 and 5.10 of Bugaric 2023. References (single, multitask) are dashed.
    """
    part = rows[rows["detector"] == detector]
    with styled():
        figure = new_figure(6.4, 3.9)
        axes = figure.add_subplot()
        labels, longest, names = [], 1, list[str]()
        for strategy in style.order_strategies(part["strategy"]):
            curves, order = _curves(part, metric, strategy)
            longest, names = max(longest, curves.shape[1]), max(names, order, key=len)
            mean, deviation = _mean(curves), _deviation(curves)
            seen = np.flatnonzero(np.isfinite(mean))
            if not len(seen):
                continue
            _line(axes, strategy, seen + 1, mean[seen], deviation[seen])
            labels.append((strategy, int(seen[-1]) + 1, float(mean[seen[-1]])))
        _task_axis(axes, longest, names if part["order"].nunique() == 1 else [])
        _fraction_axis(axes, metric)
        axes.set_title(f"{detector}: {style.metric_name(metric)}, mean over the products seen")
        last = [(text, y, style.colour(text)) for text, x, y in labels if x == longest]
        label_ends(axes, longest, last, lines=16)
        for text, x, y in labels:
            if x < longest:  # a run that is still going ends early
                axes.annotate(f"{text} …", (x, y), (6, 6), textcoords="offset points", color=style.colour(text))
        return figure


def _curves(part: pd.DataFrame, metric: str, strategy: str) -> tuple[np.ndarray, list[str]]:
    """(runs, T) running means of a strategy, NaN where a run has not come so far; and the tasks' names."""
    runs = [matrix(part, metric, str(run)) for run in part.loc[part["strategy"] == strategy, "run"].unique()]
    longest = max((names for _, names in runs), key=len)
    curves = np.full((len(runs), len(longest)), np.nan)
    for curve, (values, _) in zip(curves, runs, strict=True):
        curve[: len(values)] = [continual.average(values, after=stage) for stage in range(len(values))]
    return curves, longest


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is there, NaN where nothing is."""
    count = np.isfinite(values).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def _deviation(values: np.ndarray) -> np.ndarray:
    """Standard deviation (ddof = 1) over the first axis of what is there, 0 where there is but one."""
    count = np.isfinite(values).sum(axis=0)
    squares = np.nansum((values - _mean(values)) ** 2, axis=0)
    return np.sqrt(squares / np.maximum(count - 1, 1))


def _line(axes: Axes, strategy: str, x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> None:
    colour, reference = style.colour(strategy), style.is_reference(strategy)
    if deviation.any():
        axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.16, linewidth=0)
    (line,) = axes.plot(x, mean, color=colour, marker=style.marker(strategy), markersize=5.5, markeredgewidth=0)
    if reference:
        line.set(linestyle=(0, (4, 2)), linewidth=1.6, marker="o", markersize=3, zorder=1.9)


def _task_axis(axes: Axes, count: int, names: list[str]) -> None:
    axes.set_xlim(0.8, count + 0.2)
    if len(names) != count:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("products learned")
        return
    labels = [f"+ {style.short(name)}" if i else style.short(name) for i, name in enumerate(names)]
    steep = sum(map(len, labels)) > 44
    axes.set_xticks(range(1, count + 1), labels, rotation=35 if steep else 0, ha="right" if steep else "center")
    if steep:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")


def _fraction_axis(axes: Axes, metric: str) -> None:
    """Room for what is there, on round numbers; AUROC starts at chance unless something is below."""
    low, high = axes.dataLim.y0, axes.dataLim.y1
    floor = math.floor(min(low, 0.5) * 10) / 10 if metric.endswith("auroc") else 0.0
    axes.set_ylim(floor, min(1.0, math.ceil((high + 0.02) * 10) / 10) + 0.004)
    axes.yaxis.set_major_formatter("{x:.1f}")


def heat_matrix(rows: pd.DataFrame, metric: str, detector: str, strategy: str, order: int = 0) -> Figure:
    """R[after, on] with its values, the mean over seeds; names along both axes in training order.

    A row is a step; one of several products is named by its first and how many were learned with it.
    """
    part = rows[(rows["detector"] == detector) & (rows["strategy"] == strategy) & (rows["order"] == order)]
    runs = [matrix(part, metric, str(run)) for run in part["run"].unique()]
    names = max((names for _, names in runs), key=len)
    stages = sorted(part["after_task"].unique())
    values = _mean(np.stack([_padded(one, len(names)) for one, _ in runs]))[stages]
    # One scale for all matrices of a metric: two of them side by side must compare.
    peak = float(rows.loc[(rows["metric"] == metric) & (rows["on_task"] >= 0), "value"].max())
    low, high = (0.5, 1.0) if metric.endswith("auroc") else (0.0, max(0.1, math.ceil(peak * 10) / 10))
    # Margins in inches, the same for every matrix, so that they line up in a row whatever the names are.
    left, right, top, bottom, side = 1.5, 0.6, 1.4, 0.1, max(2.3, 0.46 * len(names))
    tall = side * len(stages) / len(names)
    width, height = left + side + right, top + tall + bottom
    with styled():
        figure = new_figure(width, height)
        figure.set_layout_engine("none")
        axes = figure.add_axes((left / width, bottom / height, side / width, tall / height))
        across, down = (np.arange(count + 1) - 0.5 for count in (len(names), len(stages)))
        axes.pcolormesh(across, down, np.ma.masked_invalid(values), cmap=_DEPTH, vmin=low, vmax=high, lw=0)
        for (after, on), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = _ON_DARK if (value - low) / (high - low) > 0.55 else _ON_LIGHT
                axes.text(on, after, _cell(value), ha="center", va="center", color=ink, fontsize=8)
        labels = [style.short(name, 12) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=45, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(stages)), _step_labels(names, stages))
        axes.xaxis.tick_top()
        axes.set(aspect="equal", ylim=(len(stages) - 0.5, -0.5))
        figure.text(0.1 / width, (bottom + max(tall, 1.2) / 2) / height, "after learning …", rotation=90, va="center")
        figure.text((left + side / 2) / width, 1 - 0.42 / height, "… evaluated on", ha="center", va="center")
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        title = f"{detector} · {strategy}" + (f" · order {order}" if rows["order"].nunique() > 1 else "")
        figure.text(left / width, 1 - 0.16 / height, title, color=style.colour(strategy), weight="bold", va="center")
        return figure


def _step_labels(names: list[str], stages: list[int]) -> list[str]:
    """A name for each step, from the place of its last product: "bolt", or "bolt +4" for five products."""
    found, begin = [], 0
    for stage in stages:
        others = f" +{stage - begin}" if stage > begin else ""
        found.append(style.short(names[begin], 12 - len(others)) + others)
        begin = stage + 1
    return found


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values, (0, size - len(values)), constant_values=np.nan)


def _cell(value: float) -> str:
    """Two decimals without the nought, as there is little room: .42."""
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0") else text


def bars(summary: pd.DataFrame) -> Figure:
    """Quality, total memory and learning time of every detector × strategy, as figure 5.11 of Bugaric 2023."""
    means, metric = over_seeds(summary), best_metric(summary)
    several = means["detector"].nunique() > 1
    heights, labels = _slots(means, several)
    colours = [style.colour(strategy) for strategy in means["strategy"]]
    with styled():
        figure = new_figure(10.6, 0.9 + 0.34 * (max(heights) + 1))
        quality, memory, time = figure.subplots(1, 3, sharey=True)
        _bars(
            quality,
            heights,
            means,
            metric,
            colours,
            style.fraction,
            f"{style.metric_name(metric)}, mean at the end",
        )
        own = means.assign(total=means["architecture_mb"] + means["additional_mb"].fillna(0), total_sd=np.nan)
        _bars(memory, heights, own, "total", colours, style.megabytes, "Memory [MB], pale: the networks")
        network = means["architecture_mb"].fillna(0)
        memory.barh(heights, network, height=0.66, color="#fefefe", alpha=0.55)
        _bars(time, heights, means, "train_seconds", colours, style.duration, "Learning time, all products")
        quality.set_yticks(heights, labels)
        quality.set_ylim(max(heights) + 0.6, min(heights) - (1.3 if several else 0.6))
        if several:
            for detector, group in means.groupby("detector", sort=False):
                top = heights[means.index.get_loc(group.index[0])] - 0.85
                quality.text(
                    0,
                    top,
                    str(detector),
                    fontweight="bold",
                    va="center",
                    transform=quality.get_yaxis_transform(),
                )
        return figure


def _slots(means: pd.DataFrame, several: bool) -> tuple[list[float], list[str]]:
    """A height for each line, with room for a heading where a detector begins."""
    heights, at, previous = list[float](), 0.0, None
    for detector in means["detector"]:
        at += 1.2 if several and detector != previous else 0.0
        heights.append(at)
        at, previous = at + 1, detector
    return heights, [style.short(strategy, 22) for strategy in means["strategy"]]


def _bars(
    axes: Axes,
    heights: list[float],
    means: pd.DataFrame,
    column: str,
    colours: list[str],
    show: _Show,
    title: str,
) -> None:
    values = means[column].to_numpy(float)
    deviations = means[f"{column}_sd"].to_numpy(float)
    axes.barh(heights, np.nan_to_num(values), height=0.66, color=colours)
    for height, value, deviation in zip(heights, values, deviations, strict=True):
        if np.isfinite(deviation):
            axes.plot([value - deviation, value + deviation], [height, height], color=INK, linewidth=1)
        text = show(value) if np.isfinite(value) else "n/a"
        end = np.nansum([value, deviation]) if np.isfinite(value) else 0.0
        axes.annotate(text, (end, height), (4, 0), textcoords="offset points", va="center", fontsize=9)
    top = np.max(np.nan_to_num(values) + np.nan_to_num(deviations), initial=0.0)
    axes.set_xlim(0, 1.28 * top or 1)
    axes.set_xticks([])
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.axvline(0, color=GRID, linewidth=1)
    axes.set_title(title, fontsize=9.5)


def products(rows: pd.DataFrame, metric: str, detector: str) -> Figure:
    """Each product's value at the end, a bar per strategy, products in training order."""
    table = final_products(rows, metric, detector)
    strategies = list(table.columns)
    width = 0.84 / len(strategies)
    with styled():
        figure = new_figure(10.6, 3.3)
        axes = figure.add_subplot()
        for number, strategy in enumerate(strategies):
            x = np.arange(len(table)) + (number - (len(strategies) - 1) / 2) * width
            axes.bar(x, np.nan_to_num(table[strategy].to_numpy()), width * 0.92, color=style.colour(strategy))
        steep = sum(len(style.short(name)) for name in table.index) > 90
        labels = [style.short(name) for name in table.index]
        axes.set_xticks(range(len(table)), labels, rotation=30 if steep else 0, ha="right" if steep else "center")
        axes.set_xlim(-0.6, max(len(table), 4) - 0.4)  # a single product is no wall
        axes.set_ylim(0, min(1.0, math.ceil(10 * np.nanmax(table.to_numpy(), initial=0.05)) / 10) + 0.004)
        axes.yaxis.set_major_formatter("{x:.1f}")
        axes.set_title(f"{detector}: {style.metric_name(metric)} of each product after the last one", pad=26)
        handles = [Patch(color=style.colour(strategy), label=strategy) for strategy in strategies]
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(-0.01, 0.99),
            ncols=min(len(handles), 8),
            handlelength=0.9,
            columnspacing=1.3,
            borderaxespad=0.2,
            fontsize=9,
        )
        return figure


def final_products(rows: pd.DataFrame, metric: str, detector: str) -> pd.DataFrame:
    """Products (in training order) × strategies (in the report's): means over the furthest runs."""
    part = rows[rows["detector"] == detector]
    columns: dict[str, pd.Series] = {}
    names: dict[str, None] = {}
    for strategy in style.order_strategies(part["strategy"]):
        found = []
        for run in furthest_runs(part, detector, strategy):
            values, order = matrix(part, metric, run)
            names |= dict.fromkeys(order)
            found.append(pd.Series(values[-1], index=order))
        columns[strategy] = pd.concat(found, axis=1).mean(axis=1)
    return pd.DataFrame(columns).reindex(list(names))
