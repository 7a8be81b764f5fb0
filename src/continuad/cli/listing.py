"""The list command: detectors, strategies, and which pairs apply."""

from __future__ import annotations

import json
import re
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from continuad.cli.console import out_console
from continuad.models.outline import Known, known

Reasons = dict[str, dict[str, str]]
"""Detector and strategy to why they do not apply; "" where they do."""


def list_names(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Name every detector and strategy, and which pairs apply.

    Example: `continuad list --json`
    """
    there = known()
    reasons = _reasons(there)
    if as_json:
        print(json.dumps(_as_dict(there, reasons), indent=1))  # ASCII: any encoding can hold it
        return
    for title, classes in (("Detectors", there.detectors), ("Strategies", there.strategies)):
        table = Table("name", "what it is", title=title, title_justify="left", box=None)
        for name, kind in classes.items():
            table.add_row(Text(name), Text(there.summary(kind)))
        out_console.print(table, "")
    out_console.print(Text(matrix(there, reasons)), soft_wrap=True)


def _reasons(there: Known) -> Reasons:
    return {
        detector: {strategy: one.refuses(kind) or "" for strategy, one in there.strategies.items()}  # type: ignore[attr-defined]
        for detector, kind in there.detectors.items()
    }


def _as_dict(there: Known, reasons: Reasons) -> dict[str, object]:
    pairs = [
        {"detector": detector, "strategy": strategy, "applies": not reason, "reason": reason}
        for detector, row in reasons.items()
        for strategy, reason in row.items()
    ]
    detectors, strategies = (
        {name: there.summary(kind) for name, kind in classes.items()} for classes in (there.detectors, there.strategies)
    )
    return {"detectors": detectors, "strategies": strategies, "pairs": pairs}


def matrix(there: Known, reasons: Reasons) -> str:
    """Detectors down, strategies across, `+` where the pair applies, else a letter whose reason follows below."""
    letters: dict[str, str] = {}
    marks: dict[str, str] = {}
    for detector, row in reasons.items():
        found = []
        for strategy, reason in row.items():
            names = {there.detectors[detector].__name__, detector}, {there.strategies[strategy].__name__, strategy}
            found.append(
                letters.setdefault(in_general(reason, *names), chr(ord("a") + len(letters))) if reason else "+"
            )
        marks[detector] = " ".join(found)
    strategies = list(next(iter(reasons.values())))
    wide = max(map(len, reasons))
    high = max(map(len, strategies))
    heading = [" ".join(name.rjust(high)[line] for name in strategies) for line in range(high)]
    lines = ["Which pairs apply (strategies read downwards; +: applies)"]
    lines += [f"{'':{wide}}  {line}".rstrip() for line in heading]
    lines += [f"{detector:{wide}}  {row}" for detector, row in marks.items()]
    return "\n".join([*lines, "", *(f"{letter}: {reason}" for reason, letter in letters.items())])


def in_general(reason: str, detector: set[str], strategy: set[str]) -> str:
    """A pair's reason with "the detector" and "the strategy" for their names, as all pairs that share it have it.

    Args:
        detector, strategy: names that stand for each in the reason.
    """
    for names, what in ((detector, "the detector"), (strategy, "the strategy")):
        either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        reason = re.sub(rf"(?<![\w-])({either})(?![\w-])", what, reason, count=1)
    return reason
