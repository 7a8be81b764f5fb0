"""The plain answers a report opens with, computed from rows: did the old products suffer?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from continuad.metrics import continual
from continuad.report import style
from continuad.report.tables import furthest_runs, matrix

# A change of the headline metric (0..1) that a reader should call nothing, or little.
NOTHING, LITTLE = 0.01, 0.05
# Below this share of a separate model per product, "nothing was lost" is not yet "it works".
WEAK = 0.8


@dataclass(frozen=True)
class Answer:
    """What became of the old products under one strategy.

    Attributes:
        detector, strategy: who answers.
        verdict: "no", "a little", "yes", or "reference" (nothing to forget), or "open" (cannot be said).
        sentence: the same in words and numbers.
        worst: the worst change of an earlier product (negative: it fell), NaN where unknown.
        final: mean over products at the end, NaN where unknown.
    """

    detector: str
    strategy: str
    verdict: str
    sentence: str
    worst: float
    final: float


def changes(rows: pd.DataFrame, metric: str, detector: str, strategy: str) -> pd.DataFrame:
    """What each product but those of the last lesson was worth just after it was learned and at the end.

    Returns:
        Columns learned, final, change; a line per product in training order, each the mean over the runs
        (seeds, orders) in which it was not in the last lesson. Empty where there is but one lesson, or where
        no product was evaluated twice.
    """
    found = []
    for run in furthest_runs(rows, detector, strategy):
        values, names = matrix(rows, metric, run)
        learned, last = continual.when_learned(values), len(values) - 1
        for task in np.flatnonzero(continual.learned_at(values) < last):
            found.append((names[task], learned[task], values[-1, task]))
    table = pd.DataFrame(found, columns=["product", "learned", "final"]).dropna()
    table = table.groupby("product", sort=False)[["learned", "final"]].mean()
    return table.assign(change=table["final"] - table["learned"])


def answers(rows: pd.DataFrame, means: pd.DataFrame, metric: str) -> list[Answer]:
    """An answer for each line of `over_seeds`, in its order."""
    return [_answer(rows, line, means, metric) for _, line in means.iterrows()]


def _answer(rows: pd.DataFrame, line: pd.Series, means: pd.DataFrame, metric: str) -> Answer:
    detector, strategy, final = str(line["detector"]), str(line["strategy"]), float(line[metric])
    name = style.metric_name(metric).replace(" (best)", "")

    def say(verdict: str, sentence: str, worst: float = float("nan")) -> Answer:
        return Answer(detector, strategy, verdict, sentence, worst, final)

    if style.family(strategy) == "single":
        return say("reference", "A separate model for every product: nothing can be forgotten. The bar to reach.")
    if style.family(strategy) == "multitask":
        return say("reference", "Learns all products at once, with all their images at hand: nothing to forget.")
    lessons = rows.loc[(rows["detector"] == detector) & (rows["strategy"] == strategy), "after_task"].nunique()
    if lessons < 2:
        what = "Only one product is learned" if line["tasks"] < 2 else "All products are learned at once"
        return say("open", f"{what}, so there is no earlier one that could have suffered.")
    table = changes(rows, metric, detector, strategy)
    if table.empty:
        return say("open", f"{name} of the earlier products is not among the results, so it cannot be said.")
    at = table["change"].idxmin()
    learned, now, worst = (float(table.loc[at, key]) for key in ("learned", "final", "change"))
    story = f"{at} fell from {learned:.2f} to {now:.2f}"
    mean = float(table["change"].mean())
    if worst > -NOTHING:
        change = f"{style.signed(worst)} {name} ({at}, {learned:.3f} → {now:.3f})"
        text = f"No. Worst change of an earlier product: {change}."
        return say("no", text + _weak(line, means, metric), worst)
    if worst > -LITTLE:
        text = f"A little. {story.replace('fell', 'went')} in {name}; no other earlier product lost more."
        return say("a little", text + _weak(line, means, metric), worst)
    lost = int((table["change"] <= -LITTLE).sum())
    text = f"Yes. {story} in {name}"
    if len(table) > 1:
        text += f"; {lost} of {len(table)} earlier products lost more than {LITTLE}, "
        text += f"the mean change is {style.signed(mean, 2)}"
    return say("yes", text + ".", worst)


def _weak(line: pd.Series, means: pd.DataFrame, metric: str) -> str:
    """A warning for what forgets little because it never knew much."""
    gap = line.get(f"relative_gap_{metric}", float("nan"))
    if pd.isna(gap) or 1 - gap >= WEAK:
        return ""
    return f" But it is weak throughout: {100 * (1 - gap):.0f} % of what a separate model per product reaches."


def headline(found: list[Answer], metric: str, several: bool) -> str:
    """One sentence over all strategies."""
    asked = [one for one in found if one.verdict in ("no", "a little", "yes")]
    if not asked:
        return "It cannot be said yet: there is no earlier product to look back at."

    def names(verdict: str) -> str:
        own = [f"{one.detector} {one.strategy}" if several else one.strategy for one in asked if one.verdict == verdict]
        return own[0] if len(own) == 1 else f"{', '.join(own[:-1])} and {own[-1]}" if own else ""

    parts = [
        f"not with {names('no')}" if names("no") else "",
        f"a little with {names('a little')}" if names("a little") else "",
        f"yes with {names('yes')}" if names("yes") else "",
    ]
    text = "; ".join(part for part in parts if part)
    best = max(asked, key=lambda one: one.final if one.final == one.final else -1.0)
    who = f"{best.detector} {best.strategy}" if several else best.strategy
    name = style.metric_name(metric).replace(" (best)", "")
    return f"{text[0].upper()}{text[1:]}. Best at the end: {who}, with a mean {name} of {best.final:.3f}."


def unfinished(rows: pd.DataFrame, settings: dict[str, Any]) -> list[str]:
    """What is still to come, a line each; empty when every run has learned every product it should.

    The settings tell what was planned: `products`, `detector`, `strategy`, `seeds`, `orders`.
    Where they do not, the furthest run sets the measure.
    """
    learned = rows.groupby("run", sort=False)["after_task"].max() + 1
    planned = _listed(settings, "products")
    whole = max(int(learned.max()), int(rows["on_task"].max()) + 1, len(planned))
    said = [f"{run}: {count} of {whole} products" for run, count in learned.items() if count < whole]
    begun = rows.groupby(["detector", "strategy"])["run"].nunique()
    orders = settings.get("orders", 1)
    runs = max(1, len(_listed(settings, "seeds"))) * (orders if isinstance(orders, int) else 1)
    refused = [note for note in _notes(settings) if "does not apply" in note]
    for detector in _listed(settings, "detector"):
        for strategy in _listed(settings, "strategy"):
            missing = runs - int(begun.get((detector, strategy), 0))
            if missing > 0 and not any(note.startswith(f"{detector} × {strategy} ") for note in refused):
                said.append(f"{detector} with {strategy}: {missing} of {runs} runs without a product yet")
    return said


def _listed(settings: dict[str, Any], key: str) -> list[Any]:
    value = settings.get(key)
    return value if isinstance(value, list) else []


def not_available(rows: pd.DataFrame, means: pd.DataFrame, settings: dict[str, Any]) -> list[str]:
    """What a reader may miss and why, a line each: what the benchmark noted, then what rows lack."""
    said = _notes(settings)
    for kind, name, reason in (
        ("image", "Image metrics", "it lacks good or defective test images"),
        ("pixel", "Pixel metrics", "none of its test images has a known defect mask"),
    ):
        # "f1_max" needs what all others of its kind need, and nothing more.
        lacking = _lacking(rows, f"{kind}_f1_max")
        everywhere = len(lacking) and len(lacking) == rows.loc[rows["on_task"] >= 0, "on_name"].nunique()
        if everywhere:
            said.append(f"{name} of all products: {reason.replace('it lacks', 'they lack').replace('its', 'their')}.")
        elif lacking:
            said.append(f"{name} of {', '.join(lacking)}: {reason}. Means leave such products out.")
    for detector, group in means.groupby("detector", sort=False):
        if "single" not in set(group["strategy"]):
            said.append(f"Relative gap of {detector}: the strategy “single” was not run; add it to --strategy.")
    if (means["tasks"] < 2).any():
        said.append("Forgetting: needs at least two products.")
    if (means["left_out"] > 0).any():
        said.append("Means over seeds and orders leave out runs that have learned fewer products than others.")
    if settings.get("scenario") == "task":
        said.append("Task accuracy: in the scenario task the product is given to every strategy that can use it.")
    elif who := _without(means, "task_accuracy"):
        said.append(f"Task accuracy and metrics with the product given, for {who}: these do not infer the product.")
    if settings.get("unknown") and (who := _without(means, "open_set_auroc")):
        said.append(
            f"Unknown products told apart, for {who}: measured after the last product, by how far an image lies from "
            "the known ones in a pooled task_inference; strategies that have none say nothing of it."
        )
    return said


def _without(means: pd.DataFrame, metric: str) -> str:
    """Strategies that lack a metric, with commas between."""
    return ", ".join(style.order_strategies(means.loc[means[metric].isna(), "strategy"]))


def _notes(settings: dict[str, Any]) -> list[str]:
    """Notes of the benchmark: `notes` at the top or in any of [[streams]]."""
    found: list[str] = []
    for part in (settings, *(one for one in _listed(settings, "streams") if isinstance(one, dict))):
        notes, name = part.get("notes", []), part.get("name", "")
        for note in [notes] if isinstance(notes, str) else notes:
            if note:
                found.append(f"{name}: {note}" if name and part is not settings else str(note))
    return found


def _lacking(rows: pd.DataFrame, metric: str) -> list[str]:
    """Products that were evaluated but never have the metric."""
    seen = rows[rows["on_task"] >= 0]
    names = list(dict.fromkeys(seen.sort_values("on_task")["on_name"]))
    have = set(seen.loc[seen["metric"] == metric, "on_name"])
    return [name for name in names if name not in have]
