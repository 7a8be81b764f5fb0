"""The demo command: a synthetic product line, learned under several strategies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from continuad.benchmark.settings import COMMAND_LINE, Settings
from continuad.cli.console import Bars
from continuad.cli.grid import run_settings


def demo(
    out: Annotated[Path, typer.Option(help="Where pictures and results go.")] = Path("continuad-demo"),
    image_size: Annotated[int, typer.Option(min=32, max=4096, help="Side of the images in pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the pictures and the run.")] = 0,
) -> None:
    """Render ten small products, learn them one after another under several strategies, and show what is forgotten.

    Needs no data and no internet. Example: `continuad demo --out my-demo`
    """
    from continuad.demo.line import write_line

    with Bars() as bars:
        folders = write_line(out / "products", size=image_size, seed=seed, progress=bars.step)
    asked = {
        "folders": tuple(map(str, folders)),
        "strategy": ("single", "multitask", "naive", "replay:60", "accumulate", "average", "pertask"),
        "image_size": (image_size, image_size),
        "seeds": (seed,),
    }
    run_settings(Settings.of(asked, COMMAND_LINE), out, keep_models=False)
