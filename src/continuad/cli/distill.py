"""The distill command: a teacher for EfficientAD."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from continuad.cli.console import Bars, print_place
from continuad.cli.folders import HELP
from continuad.core.hints import STEPS_MOST
from continuad.errors import ContinuadError


def distill(
    pictures: Annotated[Path, typer.Argument(help="Folder of pictures of anything, best photographs.")],
    out: Annotated[Path, typer.Option(help="The teacher's file.")] = Path("teacher.safetensors"),
    size: Annotated[str, typer.Option(help="s or m, for efficientad-s or efficientad-m.")] = "s",
    backbone: Annotated[str, typer.Option(help="Any timm name: whose features are taught.")] = "tf_efficientnet_lite0",
    strides: Annotated[str, typer.Option(help="Its levels, comma-separated.")] = "8,16",
    weights_file: Annotated[Path | None, typer.Option(help=HELP["weights_file"], show_default=False)] = None,
    download: Annotated[bool, typer.Option(help=HELP["download"])] = False,
    steps: Annotated[int, typer.Option(min=1, max=STEPS_MOST, help="Optimiser steps.")] = 10_000,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Crops a step.")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights and crops.")] = 0,
) -> None:
    """Make a teacher for EfficientAD: a small network that learns a large one's features. Goes on where it stopped.

    Example: `continuad distill photographs --out teacher.safetensors`, then
    `continuad bench parts/* --detector efficientad-s --set efficientad-s.teacher=teacher.safetensors`
    """
    if size not in ("s", "m"):
        raise ContinuadError(f"--size {size} is not known; there are s and m")
    levels = _strides(strides)

    from continuad.vision.distill import DistillConfig
    from continuad.vision.distill import distill as teach
    from continuad.vision.pdn import size_of

    config = DistillConfig(
        folder=str(pictures),
        size=size_of(size),
        backbone=backbone,
        strides=levels,
        weights_file=str(weights_file.expanduser().absolute()) if weights_file else None,
        download=download,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
    )
    with Bars() as bars:
        found = teach(config, out, lambda done, total: bars.step("distilling", done, total))
    more = f", loss {found['loss']:.3f} (1 would be no knowledge), {found['seconds']:.0f} s"
    print_place("Teacher", out.absolute(), more)


def _strides(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(stride) for stride in text.split(","))
    except ValueError:
        raise ContinuadError(f"--strides {text}: give whole numbers with commas between, such as 8,16") from None
