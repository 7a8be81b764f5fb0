"""The check-data command: a look at product folders before anything is learned."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from continuad.cli.console import Bars, out_console
from continuad.cli.folders import HELP, Folders, Root, StreamName, product_folders
from continuad.data.decode import MAX_PIXELS
from continuad.errors import ContinuadError


def check_data(
    folders: Folders = None,
    stream: StreamName = "",
    root: Root = None,
    image_size: Annotated[
        int, typer.Option(min=1, max=32_768, help="Working size that duplicates and statistics are judged at.")
    ] = 256,
    val_share: Annotated[float, typer.Option(help=HELP["val_share"])] = 0.1,
    max_pixels: Annotated[int, typer.Option(min=1, help=HELP["max_pixels"])] = MAX_PIXELS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what is in product folders before anything is learned: counts, damage, duplicates, available metrics.

    Example: `continuad check-data parts/bottle parts/screw`
    """
    if not 0 < val_share < 1:
        raise ContinuadError(f"--val-share is {val_share}; allowed: a number between 0 and 1, such as 0.1")
    chosen = product_folders(folders, stream, root)

    from continuad.cli.audit_view import view
    from continuad.data.audit import audit

    with Bars() as bars:
        found = audit(chosen, image_size=image_size, val_share=val_share, max_pixels=max_pixels, progress=bars.step)
    if as_json:
        print(json.dumps([product.to_dict() for product in found], indent=1))  # ASCII: any name, any encoding
    else:
        out_console.print(view(found))
    if any(product.errors for product in found):
        raise typer.Exit(1)
