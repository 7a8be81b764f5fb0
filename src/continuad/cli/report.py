"""The report command: summary, figures and page from the rows of a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from continuad.cli.console import Bars, print_place
from continuad.data.names import missing_part, printable
from continuad.errors import ContinuadError


def report(directory: Annotated[Path, typer.Argument(help="Results folder of `continuad bench`.")]) -> None:
    """Write summary, figures and report.html anew from the rows in a results folder.

    Example: `continuad report results`
    """
    if not directory.is_dir():
        why = missing_part(directory.absolute()) or "this is a file, not a folder"
        raise ContinuadError(f"{printable(directory)}: {why}. Give the folder that `continuad bench --out` wrote.")

    from continuad.report.write import write_report

    with Bars() as bars:
        page = write_report(directory, progress=bars.step)
    print_place("Report", page.absolute())
