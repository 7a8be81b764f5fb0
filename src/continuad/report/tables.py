"""Rows become the matrix R[after, on] of a run, a line for each run, and a line for each strategy."""

from __future__ import annotations

import numpy as np
import pandas as pd

from continuad.errors import ContinuadError
from continuad.metrics import continual
from continuad.report.style import QUALITY, VERDICTS, strategy_key

KEYS = ("detector", "strategy", "seed", "order")
_CONTINUAL = ("forgetting", "relative_forgetting", "relative_gap", "backward_transfer", "intransigence")
TASK_INFERENCE = (
    "task_accuracy",
    "task_accuracy_pooled",
    "task_accuracy_lowest",
    "task_inference_ms_pooled",
    "task_inference_ms_lowest",
    "open_set_auroc",
    "open_set_rejected",
)
CHANCE = {"image_auroc": 0.5, "pixel_auroc": 0.5}
"""What a model that has learned nothing reaches: the baseline of forward transfer."""
_COSTS = ("inference_ms", "architecture_mb", "additional_mb", "learning_mb")


def task_names(rows: pd.DataFrame, run: str) -> list[str]:
    """Names of the tasks that a run has learned so far, in the order it met them.

    Raises:
        ContinuadError: there is no such run.
    """
    return _names(_of_run(rows, run))


def _of_run(rows: pd.DataFrame, run: str) -> pd.DataFrame:
    part = rows[rows["run"] == run]
    if part.empty:
        known = ", ".join(map(str, rows["run"].unique()[:5]))
        raise ContinuadError(f"no run {run!r} among the rows (there are: {known} …)")
    return part


def _names(part: pd.DataFrame) -> list[str]:
    """Names of one run's tasks. What was only measured later has its name in on_name alone."""
    names: dict[int, str] = {}
    for number, name in (("after_task", "after_name"), ("on_task", "on_name")):
        names |= dict(part[[number, name]].drop_duplicates().itertuples(index=False, name=None))
    return [names.get(task) or f"task {task}" for task in range(int(part["after_task"].max()) + 1)]


def matrix(rows: pd.DataFrame, metric: str, run: str) -> tuple[np.ndarray, list[str]]:
    """The matrix R of one run and the names along both its axes.

    Args:
        rows: the tidy table of results.
        metric: such as "pixel_f1_max".
        run: the run's id, such as "padim-naive-seed0-order0".

    Returns:
        R (T, T) float64 over the T tasks learned so far: R[after, on] is the metric on task `on` once task
        `after` is learned, NaN where there is no row (products learned together have the row of the last).
        And the T names in training order, whatever the alphabet says.

    Raises:
        ContinuadError: there is no such run.
    """
    names = task_names(rows, run)
    result = np.full((len(names), len(names)), np.nan)
    part = rows[(rows["run"] == run) & (rows["metric"] == metric) & rows["on_task"].between(0, len(names) - 1)]
    result[part["after_task"], part["on_task"]] = part["value"]
    return result, names


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each run: detector × strategy × seed × order.

    Returns:
        Final means over the tasks seen (plain names such as `pixel_f1_max` or `image_fpr`, and `oracle_…` with the
        task given where rows have it), then `forgetting_…`, `relative_forgetting_…`, `relative_gap_…` (against
        the strategy "single" of the same detector, seed and order), `backward_transfer_…` and
        `intransigence_…` (mean over tasks, against "multitask") for each metric, `forward_transfer_…` (against
        chance) where tasks to come were measured, how well tasks were inferred, and what it cost: seconds
        (summed over tasks), milliseconds an image and megabytes (10^6 bytes) at the last stage. All others
        are fractions; NaN where not available.
    """
    runs = [(str(run), part) for run, part in rows.groupby("run", sort=False)]
    references = {(part["strategy"].iloc[0], _key(part)): part for _, part in runs}
    lines = [
        _line(run, part, *(references.get((name, _key(part))) for name in ("single", "multitask")))
        for run, part in runs
    ]
    oracle = sorted({name for name in rows["metric"].unique() if str(name).startswith("oracle_")}, key=_oracle_key)
    columns = ["run", *KEYS, "tasks", *QUALITY, *VERDICTS, *oracle]
    columns += [f"{kind}_{metric}" for kind in _CONTINUAL for metric in QUALITY]
    columns += [f"forward_transfer_{metric}" for metric in CHANCE]
    columns += [*TASK_INFERENCE, "train_seconds", *_COSTS]
    table = pd.DataFrame(lines).reindex(columns=columns)
    rank = table["strategy"].map(strategy_key)
    order = table.assign(rank=rank).sort_values(["detector", "rank", "seed", "order"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _key(part: pd.DataFrame) -> tuple[object, ...]:
    """What a run and its reference have in common."""
    return tuple(part[name].iloc[0] for name in ("detector", "seed", "order"))


def _oracle_key(name: str) -> tuple[int, str]:
    plain = name.removeprefix("oracle_")
    return (QUALITY.index(plain) if plain in QUALITY else len(QUALITY)), name


def _line(
    run: str, part: pd.DataFrame, single: pd.DataFrame | None, multitask: pd.DataFrame | None
) -> dict[str, object]:
    last = int(part["after_task"].max())
    line: dict[str, object] = {"run": run, **{name: part[name].iloc[0] for name in KEYS}, "tasks": last + 1}
    present = set(part["metric"])
    for metric in QUALITY:
        if metric not in present:
            continue
        values, _ = matrix(part, metric, run)
        line[metric] = continual.average(values)
        line[f"forgetting_{metric}"] = continual.forgetting(values)
        line[f"relative_forgetting_{metric}"] = continual.relative_forgetting(values)
        line[f"backward_transfer_{metric}"] = continual.backward_transfer(values)
        line[f"relative_gap_{metric}"] = _gap(continual.average(values), single, metric, last)
        line[f"intransigence_{metric}"] = _intransigence(values, multitask, metric)
        if metric in CHANCE:
            line[f"forward_transfer_{metric}"] = continual.forward_transfer(values, [CHANCE[metric]] * len(values))
    for metric in present:
        if metric.startswith("oracle_") or metric in VERDICTS:
            line[metric] = continual.average(matrix(part, metric, run)[0])
    final = part[part["after_task"] == last]
    line |= {name: _final(final, name) for name in (*TASK_INFERENCE, *_COSTS)}
    line["train_seconds"] = part.loc[part["metric"] == "train_seconds", "value"].sum(min_count=1)
    return line


def _gap(value: float, single: pd.DataFrame | None, metric: str, last: int) -> float:
    """The relative gap δ over the same tasks: a run that is still going is compared with as many models."""
    if single is None or last > int(single["after_task"].max()):
        return float("nan")
    reference, _ = matrix(single, metric, str(single["run"].iloc[0]))
    return float(continual.relative_gap(value, continual.average(reference, after=last)))


def _intransigence(values: np.ndarray, multitask: pd.DataFrame | None, metric: str) -> float:
    """Mean over tasks of how much worse each was learned than by one model with all images so far."""
    if multitask is None or len(values) > int(multitask["after_task"].max()) + 1:
        return float("nan")
    reference, _ = matrix(multitask, metric, str(multitask["run"].iloc[0]))
    gaps = continual.intransigence(continual.when_learned(reference)[: len(values)], values)
    return float(gaps[~np.isnan(gaps)].mean()) if not np.isnan(gaps).all() else float("nan")


def _final(final: pd.DataFrame, metric: str) -> float:
    """The last stage's value: the mean over tasks where there is one for each, else the run's own."""
    found = final[final["metric"] == metric]
    each = found[found["on_task"] >= 0]
    return float((found if each.empty else each)["value"].mean())


def over_seeds(summary: pd.DataFrame) -> pd.DataFrame:
    """A line for each detector × strategy: mean and standard deviation over its runs.

    Args:
        summary: from `summarise`.

    Returns:
        Each number's mean under its own name and, beside it, its deviation (ddof = 1) as `…_sd`, NaN where
        there is a single run. `runs`, `seeds` and `orders` count what went in. Runs that have learned fewer
        tasks than the furthest of their group are left out (`left_out`): theirs are means over other tasks.
    """
    numbers = [name for name in summary.columns if name not in ("run", *KEYS, "tasks")]
    lines = []
    for (detector, strategy), group in summary.groupby(["detector", "strategy"], sort=False):
        whole = group[group["tasks"] == group["tasks"].max()]
        line: dict[str, object] = {
            "detector": detector,
            "strategy": strategy,
            "tasks": whole["tasks"].iloc[0],
        }
        line |= {"runs": len(whole), "seeds": whole["seed"].nunique(), "orders": whole["order"].nunique()}
        line["left_out"] = len(group) - len(whole)
        for name in numbers:
            line[name] = whole[name].mean()
            line[f"{name}_sd"] = whole[name].std(ddof=1)
        lines.append(line)
    return pd.DataFrame(lines)


def furthest_runs(rows: pd.DataFrame, detector: str, strategy: str) -> list[str]:
    """Ids of a strategy's runs that have learned the most tasks: those whose last stage means the same."""
    part = rows[(rows["detector"] == detector) & (rows["strategy"] == strategy)]
    last = part.groupby("run", sort=False)["after_task"].max()
    return [str(run) for run in last[last == last.max()].index]


def best_metric(summary: pd.DataFrame) -> str:
    """The metric that a report opens with: pixel F1 max, or image AUROC where no masks are known."""
    return "pixel_f1_max" if summary["pixel_f1_max"].notna().any() else "image_auroc"
