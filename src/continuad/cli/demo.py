"""The demo command: a synthetic product line, learned under several strategies, and a station that inspects it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from continuad.benchmark.settings import COMMAND_LINE, Settings
from continuad.cli.console import Bars
from continuad.cli.grid import run_settings

STRATEGIES = "naive,replay:60,pertask"


class Half(StrEnum):
    """What the demo shows."""

    forgetting = "forgetting"
    station = "station"
    both = "both"


def demo(
    out: Annotated[Path, typer.Option(help="Where pictures and results go.")] = Path("continuad-demo"),
    image_size: Annotated[int, typer.Option(min=32, max=4096, help="Side of the images in pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the pictures and the run.")] = 0,
    strategy: Annotated[str, typer.Option(help="Strategies with commas between, see `continuad list`.")] = STRATEGIES,
    half: Annotated[Half, typer.Option(help="The report on forgetting, the station, or both.")] = Half.both,
) -> None:
    """Render ten small products; learn them under several strategies and report what is forgotten; teach three of them
    to a station, which inspects new pictures, is corrected, and goes back.

    Needs no data and no internet. Example: `continuad demo --out my-demo`
    """
    from continuad.cli.demo_station import tell
    from continuad.demo.line import write_line

    with Bars() as bars:
        folders = write_line(out / "products", size=image_size, seed=seed, progress=bars.step)
    if half != Half.forgetting:
        tell(out, folders[:3], folders[-1])
    if half == Half.station:
        return
    asked = {
        "folders": tuple(map(str, folders)),
        "strategy": tuple(strategy.split(",")),
        "image_size": (image_size, image_size),
        "seeds": (seed,),
    }
    run_settings(Settings.of(asked, COMMAND_LINE), out, keep_models=False)
