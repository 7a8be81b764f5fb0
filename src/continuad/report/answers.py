"""The answers a report opens with, computed from rows: did the old products suffer?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from continuad.report import style
from continuad.report.tables import furthest_runs, matrix

# Losses, in shares of a product's images or in the metric (0..1), below which an answer is "no", and "a little".
NOTHING, LITTLE = 0.01, 0.05
# A strategy below this share of what separate models reach is called weak, even where nothing was lost.
WEAK = 0.8
# What is lost at the thresholds in use: the metric, whether a rise is a loss, and how it is called.
LOSSES = (
    ("image_recall", False, "defects caught"),
    ("image_fpr", True, "false alarms"),
    ("good_fpr", True, "false alarms on its good images"),
)


@dataclass(frozen=True)
class Answer:
    """Whether the old products suffered under one strategy.

    Attributes:
        detector, strategy: whose answer it is.
        verdict: "no", "a little", "yes", or "reference" (it never learns one product after another), or "open" (it
            cannot be said).
        sentence: the same in words and numbers.
        worst: the worst change of an earlier product in the metric (negative: it fell), NaN where none was measured.
        final: mean over products at the end, NaN where none was measured.
        products: how many were learned.
    """

    detector: str
    strategy: str
    verdict: str
    sentence: str
    worst: float
    final: float
    products: int


def changes(rows: pd.DataFrame, metric: str, detector: str, strategy: str) -> pd.DataFrame:
    """What each product that was learned before the last step was worth when just learned, and is at the end.

    Returns:
        Columns learned, final, change; a line per product in training order, each the mean over the runs (seeds,
        orders) in which it was learned before the last step and measured both times. Empty where there is none.
    """
    table = _then_and_now(rows, metric, detector, strategy).dropna()
    table = table.groupby("product", sort=False)[["learned", "final"]].mean()
    return table.assign(change=table["final"] - table["learned"])


def _then_and_now(rows: pd.DataFrame, metric: str, detector: str, strategy: str) -> pd.DataFrame:
    """A line for each run and each product learned before its last step; NaN where it was not measured."""
    found = []
    for run in furthest_runs(rows, detector, strategy):
        values, names = matrix(rows, metric, run)
        ends = np.unique(rows.loc[rows["run"] == run, "after_task"])  # the last product of each step
        step = np.searchsorted(ends, np.arange(len(names)))  # in which each product is learned
        for task in np.flatnonzero(step < len(ends) - 1):
            found.append((names[task], values[ends[step[task]], task], values[-1, task]))
    return pd.DataFrame(found, columns=["product", "learned", "final"])


def answers(rows: pd.DataFrame, means: pd.DataFrame, metric: str) -> list[Answer]:
    """An answer for each line of `over_seeds`, in its order."""
    return [_answer(rows, line, means, metric) for _, line in means.iterrows()]


def _answer(rows: pd.DataFrame, line: pd.Series, means: pd.DataFrame, metric: str) -> Answer:
    detector, strategy, final = str(line["detector"]), str(line["strategy"]), float(line[metric])
    name, products = style.metric_name(metric), int(line["tasks"])

    def say(verdict: str, sentence: str, worst: float = float("nan")) -> Answer:
        return Answer(detector, strategy, verdict, sentence, worst, final, products)

    if style.family(strategy) == "single":
        return say("reference", "A reference: a separate model for every product, so none can be forgotten.")
    if style.family(strategy) == "multitask":
        return say("reference", "A reference: learned anew at every step from the images of all products so far.")
    earlier = set(_then_and_now(rows, metric, detector, strategy)["product"])
    if not earlier:
        what = "Only one product was learned" if products < 2 else f"All {products} products were learned in one step"
        return say("open", f"{what}, so there is no earlier one that could have suffered.")
    table, weak = changes(rows, metric, detector, strategy), _weak(line, means, metric)
    used = losses_in_use(rows, detector, strategy)
    if not used.empty:
        return say(*_verdict_in_use(used, table, name, weak, len(earlier)))
    if table.empty:
        return say("open", f"No earlier product has {name} both when it was learned and at the end.")
    return say(*_verdict(table, name, weak, len(earlier) - len(table)))


def losses_in_use(rows: pd.DataFrame, detector: str, strategy: str) -> pd.DataFrame:
    """What earlier products lost in verdicts at the thresholds in use, from when they were learned to the end.

    A strategy that infers the task is judged as it is, any other with the product given.

    Returns:
        Columns product, what (as in `LOSSES`), learned, final, loss (positive: worse); sorted, the worst first. Empty
        where rows have no such verdicts.
    """
    mine = rows[(rows["detector"] == detector) & (rows["strategy"] == strategy)]
    measured, found = set(mine["metric"]), []
    for metric, rises, what in LOSSES:
        table = changes(rows, in_use(metric, measured), detector, strategy)
        found.append(table.assign(what=what, loss=table["change"] if rises else -table["change"]).reset_index())
    return (
        pd.concat(found).drop(columns="change").sort_values("loss", ascending=False, kind="stable", ignore_index=True)
    )


def in_use(metric: str, measured: set[str]) -> str:
    """Under which name rows hold a metric of verdicts as a strategy is used: the task inferred, or else given."""
    given = f"oracle_{metric}"
    return metric if "task_accuracy" in measured or given not in measured else given


def _verdict_in_use(
    used: pd.DataFrame, table: pd.DataFrame, name: str, weak: str, earlier: int
) -> tuple[str, str, float]:
    """Verdict, sentence and worst change of the metric, where verdicts at the thresholds in use were measured."""
    worst = used.iloc[0]
    product, what, then, now = worst["product"], worst["what"], float(worst["learned"]), float(worst["final"])
    story = f"at the threshold in use, {what} of {product} went from {then:.3f} to {now:.3f}"
    unmeasured = earlier - used["product"].nunique()
    after = f" {unmeasured} of {earlier} earlier products could not be measured." if unmeasured else ""
    if unseen := set(used["product"]) - set(used.loc[used["what"] == LOSSES[0][2], "product"]):
        names = ", ".join(sorted(unseen))
        after += f" Whether defects of {names} are still caught cannot be known without pictures of any."
    least = float("nan")
    if not table.empty:
        at = table["change"].idxmin()
        least = float(table.loc[at, "change"])
        after += f" Worst change in {name}: {style.signed(least)} ({at})."
    if worst["loss"] <= 0:
        return "no", f"No: at the thresholds in use no earlier product lost a verdict.{after}{weak}", least
    if worst["loss"] < NOTHING:
        return "no", f"No. Most changed: {story}.{after}{weak}", least
    if worst["loss"] < LITTLE:
        return "a little", f"A little: {story}.{after}{weak}", least
    lost = used.loc[used["loss"] >= LITTLE, "product"].nunique()
    return "yes", f"Yes: {story}; {lost} of {earlier} earlier products lost {LITTLE} or more.{after}", least


def _verdict(table: pd.DataFrame, name: str, weak: str, unmeasured: int) -> tuple[str, str, float]:
    """Verdict, sentence and worst change for a table of `changes`, from results without verdicts in use."""
    at = table["change"].idxmin()
    learned, now, worst = (float(table.loc[at, key]) for key in ("learned", "final", "change"))
    left_out = f" {unmeasured} without {name} {'is' if unmeasured == 1 else 'are'} not counted." if unmeasured else ""
    if worst > -NOTHING:
        change = f"{style.signed(worst)} {name} ({at}, {learned:.3f} → {now:.3f})"
        return "no", f"No. Worst change of an earlier product: {change}.{left_out}{weak}", worst
    story = f"{at} fell from {learned:.2f} to {now:.2f} in {name}"
    if worst > -LITTLE:
        return "a little", f"A little. {story}; no other earlier product lost more.{left_out}{weak}", worst
    lost = int((table["change"] <= -LITTLE).sum())
    if len(table) > 1:
        story += f"; {lost} of {len(table)} earlier products lost {LITTLE} or more, "
        story += f"the mean change is {style.signed(float(table['change'].mean()), 2)}"
    return "yes", f"Yes. {story}.{left_out}", worst


def _weak(line: pd.Series, means: pd.DataFrame, metric: str) -> str:
    """A warning for a strategy that has little to forget."""
    gap = line.get(f"relative_gap_{metric}", float("nan"))
    if pd.isna(gap) or 1 - gap >= WEAK:
        return ""
    return f" But it is weak: at the end it reaches {100 * (1 - gap):.0f} % of what a separate model per product does."


def headline(found: list[Answer], metric: str, several: bool) -> str:
    """One sentence over all strategies."""
    asked = [one for one in found if one.verdict in ("no", "a little", "yes")]
    unsaid = [one for one in found if one.verdict == "open"]
    if not asked:
        reasons = {one.sentence for one in unsaid}
        if not reasons:
            return "It cannot be said: only references were run, which do not learn one product after another."
        return f"It cannot be said yet. {reasons.pop() if len(reasons) == 1 else 'The table says why.'}"

    def names(those: list[Answer]) -> str:
        own = [f"{one.detector} {one.strategy}" if several else one.strategy for one in those]
        return own[0] if len(own) == 1 else f"{', '.join(own[:-1])} and {own[-1]}"

    parts = [
        (word, [one for one in found if one.verdict == verdict])
        for word, verdict in (
            ("not with", "no"),
            ("a little with", "a little"),
            ("yes with", "yes"),
            ("cannot be said of", "open"),
        )
    ]
    text = "; ".join(f"{word} {names(those)}" for word, those in parts if those)
    # Means over fewer products are means over other products: who has learned fewer takes no part.
    whole = [one for one in asked if one.products == max(one.products for one in asked)]
    best = max(whole, key=lambda one: one.final if one.final == one.final else -1.0)
    name = style.metric_name(metric)
    text = f"{text[0].upper()}{text[1:]}."
    if len(whole) > 1 and best.final == best.final:  # a number: folders of good images alone have none
        text += f" Best of these at the end: {names([best])}, with a mean {name} of {best.final:.3f}."
    return text


def unfinished(rows: pd.DataFrame, settings: dict[str, Any]) -> list[str]:
    """What is not learned yet, a line each; empty when every run has learned every product it should.

    The settings say what was planned: `products`, `detector`, `strategy`, `seeds`, `orders`.
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
    said += _promises(rows, settings)
    for detector, group in means.groupby("detector", sort=False):
        if "single" not in set(group["strategy"]):
            said.append(f"Relative gap of {detector}: the strategy “single” was not run; add it to --strategy.")
    steps = rows.groupby(["strategy", "run"])["after_task"].nunique().groupby("strategy").max()
    short = [name for name in style.order_strategies(steps.index[steps < 2]) if not style.is_reference(name)]
    if short:
        said.append(f"Forgetting, for {', '.join(short)}: needs products learned in two steps or more.")
    if (means["left_out"] > 0).any():
        said.append("Means over seeds and orders leave out runs that have learned fewer products than others.")
    if settings.get("scenario") == "task":
        said.append("Task accuracy: in the scenario task the true task is given to every strategy that can use it.")
    elif who := _without(means, "task_accuracy"):
        said.append(
            f"Task accuracy, and metrics with the task given, for {who}: these strategies do not infer the task."
        )
    if settings.get("open_set") and (who := _without(means, "open_set_auroc")):
        said.append(
            f"{style.metric_name('open_set_auroc')}, for {who}: it is measured after the last step, from how far an "
            "image lies from its nearest learned task, which only strategies with pooled task inference measure."
        )
    return said


def _promises(rows: pd.DataFrame, settings: dict[str, Any]) -> list[str]:
    """Products whose good images are too few for the rate of false alarms that was asked for."""
    promised = rows.loc[rows["metric"].isin(["image_fpr_promised", "oracle_image_fpr_promised"])]
    if promised.empty:
        return []
    own = promised.groupby("on_name", sort=False)["value"].max()
    asked = re.match(r"far:([\d.eE+-]+)", str(settings.get("threshold", "")))
    lowest = float(asked[1]) if asked else float(promised["value"].min())
    few = [f"{name} 1 in {1 / rate:.0f}" for name, rate in own.items() if rate > lowest + 1e-9]
    if not few:
        return []
    return [
        "The rate of false alarms that was asked for, where thresholds rest on too few good images; the lowest that "
        f"can be promised is {', '.join(few)}. More good images promise a lower one."
    ]


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
