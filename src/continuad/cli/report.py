"""The report command: summary, figures and page from the rows of a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from continuad.cli.console import Bars, print_place


def report(directory: Annotated[Path, typer.Argument(help="Results folder of `continuad bench`.")]) -> None:
    """Write summary, figures and report.html anew from the rows in a results folder.

    Example: `continuad report results`
    """
    from continuad.report.write import write_report

    with Bars() as bars:
        page = write_report(directory, progress=bars.step)
    print_place("Report", page.absolute())
