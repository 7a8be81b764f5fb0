"""The bench command: from what was typed to settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from continuad.benchmark.settings import Settings
from continuad.cli.fields import settings_from, with_settings
from continuad.cli.grid import run_settings
from continuad.models.names import TILED


@with_settings
def bench(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Results folder; the same command goes on where it was stopped.")] = Path(
        "results"
    ),
    tile: Annotated[
        int,
        typer.Option(
            min=0,
            help="For large pictures: side of the tiles that are learned, scored and stitched; 0: the whole picture. "
            "Detectors are then called tiled-NAME.",
        ),
    ] = 0,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", help="TOML file with any of these; the command line goes first.", show_default=False
        ),
    ] = None,
    keep_models: Annotated[bool, typer.Option(help="Keep every run's learned model in OUT/runs.")] = False,
    estimate: Annotated[
        bool,
        typer.Option(help="Before the first run, measure two steps of each detector to say how long it will take."),
    ] = True,
    **given: Any,
) -> None:
    """Teach detectors a stream of products under continual strategies and report what was learned and forgotten.

    Example: `continuad bench parts/* --detector padim --strategy naive,replay:300,pertask --out results`

    Known stream: `continuad bench --stream thesis10 --root mvtec --strategy pertask,average --seeds 3 --out results`
    """
    settings = settings_from(context, given, settings_file)
    run_settings(_tiled(settings, tile) if tile else settings, out, keep_models, estimate)


def _tiled(settings: Settings, tile: int) -> Settings:
    """The same with every detector in its tiled form, and its options under that name."""
    new = {name: name if name.startswith(TILED) else TILED + name for name in settings.detector}
    options = {name: value for name, value in settings.options.items() if name.rpartition(".")[0] not in new}
    for name, tiles in new.items():
        own = settings.own_options(name) | {"tile": tile}
        options |= {f"{tiles}.{option}": value for option, value in own.items()}
    return replace(settings, detector=tuple(new.values()), options=options)
