"""Names, order, colours and number formats that every table, figure and page of a report shares."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

# Metrics of the matrix R[after, on]; the first six are rows of the result tables.
TABLE_METRICS = ("image_auroc", "image_f1_max", "pixel_auroc", "pixel_f1_max", "pixel_ap", "pixel_aupro")
QUALITY = (*TABLE_METRICS, "image_f1", "pixel_f1", "image_ap")

VERDICTS = (
    *("image_fpr_promised", "image_fpr", "image_recall"),
    *("image_fpr_1pct", "image_recall_1pct", "image_fpr_5pct", "image_recall_5pct"),
    *("good_fpr", "good_level", "unknown_rate"),
)
"""What verdicts are worth; means at the end."""

METRIC_NAMES = {
    "image_auroc": "Image AUROC",
    "image_f1_max": "Image F1 max",
    "image_f1": "Image F1 at the threshold",
    "image_ap": "Image AP",
    "image_fpr_promised": "False alarms promised",
    "image_fpr": "False alarms",
    "image_recall": "Defects caught",
    "image_fpr_1pct": "False alarms at 1 % promised",
    "image_recall_1pct": "Defects caught at 1 % promised",
    "image_fpr_5pct": "False alarms at 5 % promised",
    "image_recall_5pct": "Defects caught at 5 % promised",
    "good_fpr": "False alarms on learned good images",
    "good_level": "Level of learned good images",
    "unknown_rate": "Called unknown",
    "pixel_auroc": "Pixel AUROC",
    "pixel_f1_max": "Pixel F1 max",
    "pixel_f1": "Pixel F1 at the threshold",
    "pixel_ap": "Pixel AP",
    "pixel_aupro": "AUPRO",
    "forgetting": "Forgetting",
    "relative_forgetting": "Relative forgetting",
    "backward_transfer": "Backward transfer",
    "relative_gap": "Relative gap",
    "task_accuracy": "Task accuracy",
    "open_set_auroc": "Open-set AUROC",
    "open_set_rejected": "Open set rejected",
    "oracle": "oracle_… (task given)",
    "train_seconds": "Learning time",
    "inference_ms": "Inference time",
    "architecture_mb": "Architecture memory",
    "additional_mb": "Additional memory",
    "learning_mb": "Memory while learning",
}

# References first. A strategy that is not named here follows, alphabetically.
STRATEGY_ORDER = (
    *("single", "multitask", "naive", "replay", "herding", "reservoir", "der", "gem", "agem"),
    *("ewc", "ewc-online", "mas", "lwf", "packnet", "accumulate", "average", "pertask"),
)

# References have nothing to forget: one holds a model per task, the other sees all tasks at once.
REFERENCES = ("single", "multitask")

# After Okabe and Ito, and Tol's muted set: they differ for any colour vision, and on white and black paper.
_COLOURS = {
    "single": "#6b7280",
    "multitask": "#9aa3af",
    "naive": "#d55e00",
    "replay": "#e69f00",
    "accumulate": "#009e73",
    "average": "#cc79a7",
    "pertask": "#0072b2",
    "ewc": "#56b4e9",
    "lwf": "#a6761d",
    "gem": "#8073ac",
    "packnet": "#44aa99",
    "generative": "#aa4499",
}
_SPARE = ("#999933", "#cc6677", "#88ccee", "#ddcc77", "#7a9a01", "#b07aa1")
_MARKERS = {"naive": "X", "replay": "o", "accumulate": "D", "average": "v", "pertask": "s"}


def family(strategy: str) -> str:
    """What stands before the colon: "replay:300" is of the family "replay"."""
    return strategy.split(":", 1)[0].strip().lower()


def is_reference(strategy: str) -> bool:
    """Whether a strategy is one of `REFERENCES`."""
    return family(strategy) in REFERENCES


def strategy_key(strategy: str) -> tuple[int, str, float, str]:
    """Sorts strategies as STRATEGY_ORDER does, and replay:300 before replay:1000."""
    name, number = family(strategy), re.search(r":\D*(\d+(?:\.\d+)?)", strategy)
    rank = STRATEGY_ORDER.index(name) if name in STRATEGY_ORDER else len(STRATEGY_ORDER)
    return rank, name, float(number[1]) if number else 0.0, strategy


def order_strategies(strategies: Iterable[str]) -> list[str]:
    """Each strategy once, in the order of STRATEGY_ORDER."""
    return sorted(set(strategies), key=strategy_key)


def colour(strategy: str) -> str:
    """The fixed colour of a strategy as "#rrggbb"; variants such as replay:800 get darker as they grow."""
    name = family(strategy)
    base = _COLOURS.get(name) or _SPARE[sum(name.encode()) % len(_SPARE)]
    number = re.search(r":\D*(\d+)", strategy)
    if not number:
        return base
    # One step for each power of four, so that the usual 100, 300, 800 differ visibly.
    keep = max(0.35, 1 - 0.16 * max(0.0, math.log(max(int(number[1]), 1) / 75, 4)))
    red, green, blue = (int(base[i : i + 2], 16) for i in (1, 3, 5))
    return f"#{round(red * keep):02x}{round(green * keep):02x}{round(blue * keep):02x}"


def marker(strategy: str) -> str:
    """The matplotlib marker of a strategy, so that lines differ without colour too."""
    return _MARKERS.get(family(strategy), "P")


def metric_name(metric: str) -> str:
    """A metric's name for people; one without a name of its own shows as it is."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def short(name: str, length: int = 16) -> str:
    """A task name that fits an axis."""
    return name if len(name) <= length else name[: length - 1] + "…"


def duration(seconds: float) -> str:
    """Seconds for people: "3 h 18 min", "6 min 10 s", "42 s", "0.8 s"."""
    if not math.isfinite(seconds):
        return "n/a"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3570:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 and whole < 600 else f"{round(whole / 60)} min"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def fraction(value: float) -> str:
    """0..1 with three decimals."""
    return f"{value + 0.0:.3f}"


def signed(value: float, digits: int = 3) -> str:
    """With its sign as a reader expects it: +0.012, −0.35, and plain 0.000."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def chance(p: float) -> str:
    """A p value: three decimals, "< 0.001" below them, "n/a" where there was nothing to test."""
    return "n/a" if math.isnan(p) else "< 0.001" if p < 0.0005 else f"{p:.3f}"


def percent(value: float) -> str:
    """A fraction as a percentage without its sign: 0.2145 is "21.45"."""
    return f"{round(100 * value, 2) + 0.0:.2f}"


def milliseconds(value: float) -> str:
    """One decimal below 100 ms, none above."""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def megabytes(value: float) -> str:
    """MB (10^6 bytes) to a decimal; what is below 0.05 keeps two digits."""
    return f"{value:.2g}" if 0 < value < 0.05 else f"{value:.1f}"
