"""The audit as a page in the terminal: one table, then what a person should know about each product."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from continuad.data.audit import ProductAudit
from continuad.data.examine import NAMED, Finding
from continuad.data.findings import IMAGE_METRICS, PIXEL_METRICS
from continuad.data.names import counted, printable
from continuad.data.product import GOOD

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def view(audits: Sequence[ProductAudit]) -> RenderableType:
    """Everything `audit` found, for `rich.print`; names every file that something was found out about."""
    return Group(_table(audits), *(part for one in audits for part in _details(one)), _verdict(audits))


def _table(audits: Sequence[ProductAudit]) -> Table:
    caption = (
        "train (of these, for validation); test good, test bad, with mask; statistic: the AUROC that the best of some "
        "trivial statistics reaches, such as brightness"
    )
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("product", overflow="fold", min_width=7)
    for heading in ("train", "good", "bad", "masks"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("images", "metrics", "statistic"):
        table.add_column(heading, overflow="fold")
    for one in audits:
        good = one.test.get(GOOD, 0)
        numbers = (f"{one.train} ({one.val})", str(good), str(sum(one.test.values()) - good), str(one.masks))
        kinds = Text(f"{_few(one.sizes).replace(' ', '')} {_few(one.modes)}")
        table.add_row(Text(printable(one.name)), *numbers, kinds, _metrics(one), _statistic(one))
    return table


def _metrics(one: ProductAudit) -> str:
    """Which kinds of metrics there will be; the findings say why not the others."""
    image, pixel = (one.metrics.get(metrics[0], "unusable") == "" for metrics in (IMAGE_METRICS, PIXEL_METRICS))
    return "all" if image and pixel else "image only" if image else "pixel only" if pixel else "none"


def _statistic(one: ProductAudit) -> Text:
    if not one.separations:
        return Text()
    best = one.separations[0]
    return Text(f"{best.auroc:.2f} {best.statistic}", style="bold yellow" if best.separates else "")


def _details(one: ProductAudit) -> list[RenderableType]:
    """A product's defect types and findings; nothing if there are none."""
    types = {defect: number for defect, number in one.test.items() if defect != GOOD}
    lines: list[RenderableType] = [part for finding in one.findings for part in _finding(finding)]
    if len(types) > 1:
        names = ", ".join(f"{printable(defect)} {number}" for defect, number in types.items())
        lines.append(Padding(Text(f"defects: {names}", "dim"), (0, 0, 0, 2)))
    if not lines:
        return []
    return [Text(printable(one.name), "bold"), *lines]


def _finding(finding: Finding) -> list[RenderableType]:
    """A sentence; or a heading and a line for each file, if there are many."""
    head = (f"{finding.level}: ", _COLOURS[finding.level])
    if len(finding.files) <= NAMED:
        return [Padding(Text.assemble(head, _printable(finding.text)), (0, 0, 0, 2))]
    then = f"; {finding.then}" if finding.then else ""
    what = Text.assemble(head, f"{finding.what} ({len(finding.files)}){then}:")
    return [Padding(what, (0, 0, 0, 2)), *(Padding(Text(printable(line)), (0, 0, 0, 4)) for line in finding.lines)]


def _printable(text: str) -> str:
    """`printable`, but for line breaks: an error may have several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _verdict(audits: Sequence[ProductAudit]) -> Text:
    """What happens next."""
    stopped = [printable(one.name) for one in audits if not one.usable]
    warnings = sum(finding.level == "warning" for one in audits for finding in one.findings)
    if stopped:
        return Text(f"Learning would be refused. Mend the errors of: {', '.join(stopped)}.", "bold red")
    return Text(f"{counted(len(audits), 'product')} can be learned; {counted(warnings, 'warning')}.", "bold")


def _few(counts: dict[str, int]) -> str:
    """The commonest, and how many others there are."""
    first = next(iter(counts), "")
    return f"{first} +{len(counts) - 1}" if len(counts) > 1 else first
