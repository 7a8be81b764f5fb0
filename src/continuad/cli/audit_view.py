"""The audit as a page in the terminal: one table, then what a person should know about each product."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from continuad.data.audit import IMAGE_METRICS, PIXEL_METRICS, ProductAudit
from continuad.data.product import GOOD, counted

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def view(audits: Sequence[ProductAudit]) -> RenderableType:
    """Everything `audit` found, for `rich.print`."""
    return Group(_table(audits), *(part for one in audits for part in _details(one)), _verdict(audits))


def _table(audits: Sequence[ProductAudit]) -> Table:
    caption = (
        "train (val for thresholds); test good, test bad, with mask; trivial: the statistic of whole pictures, such as "
        "brightness, that tells defective from good best, and its AUROC"
    )
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("product", no_wrap=True)
    for heading in ("train", "good", "bad", "masks"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("images", "metrics", "trivial"):
        table.add_column(heading, overflow="fold")
    for one in audits:
        good = one.test.get(GOOD, 0)
        numbers = (f"{one.train} ({one.val})", str(good), str(sum(one.test.values()) - good), str(one.masks))
        kinds = Text(f"{_few(one.sizes).replace(' ', '')} {_few(one.modes)}")
        table.add_row(Text(one.name), *numbers, kinds, _metrics(one), _trivial(one))
    return table


def _metrics(one: ProductAudit) -> str:
    """Which kinds of metrics there will be; the findings say why not the others."""
    image, pixel = (one.metrics.get(metrics[0], "unusable") == "" for metrics in (IMAGE_METRICS, PIXEL_METRICS))
    return "all" if image and pixel else "image only" if image else "pixel only" if pixel else "none"


def _trivial(one: ProductAudit) -> Text:
    if not one.separations:
        return Text()
    best = one.separations[0]
    return Text(f"{best.auroc:.2f} {best.statistic}", style="bold yellow" if best.separates else "")


def _details(one: ProductAudit) -> list[RenderableType]:
    """A product's defect types and findings; nothing if there are none."""
    types = {defect: number for defect, number in one.test.items() if defect != GOOD}
    lines = [Text.assemble((f"{f.level}: ", _COLOURS[f.level]), f.text) for f in one.findings]
    if len(types) > 1:
        lines.append(Text(f"defects: {', '.join(f'{defect} {number}' for defect, number in types.items())}", "dim"))
    if not lines:
        return []
    return [Text(one.name, "bold"), *(Padding(line, (0, 0, 0, 2)) for line in lines)]


def _verdict(audits: Sequence[ProductAudit]) -> Text:
    """What happens next."""
    stopped = [one.name for one in audits if not one.usable]
    warnings = sum(finding.level == "warning" for one in audits for finding in one.findings)
    if stopped:
        return Text(f"Learning would be refused. Mend the errors of: {', '.join(stopped)}.", "bold red")
    return Text(f"{counted(len(audits), 'product')} can be learned; {counted(warnings, 'warning')}.", "bold")


def _few(counts: dict[str, int]) -> str:
    """The commonest, and how many others there are."""
    first = next(iter(counts), "")
    return f"{first} +{len(counts) - 1}" if len(counts) > 1 else first
