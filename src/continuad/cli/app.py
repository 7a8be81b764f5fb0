"""The commands. Each only gathers what it is given, calls the library and shows what came out."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from continuad.benchmark.settings import Settings
from continuad.cli.bench import (
    Download,
    Folders,
    Root,
    StreamName,
    WeightsFile,
    bench,
    product_folders,
    report_on,
    run_settings,
)
from continuad.cli.console import Bars, out_console, print_error
from continuad.errors import ContinuadError

app = typer.Typer(
    help="Visual anomaly detection that keeps learning: product after product, in bounded memory.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where drawings and results go.")] = Path("continuad-demo"),
    image_size: Annotated[int, typer.Option(help="Side of the drawn images in pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the drawings and the run.")] = 0,
) -> None:
    """Draw ten small products, learn them one after another under several strategies, and show what is forgotten.

    Needs no data and no internet. Example: `continuad demo --out my-demo`
    """
    from continuad.demo.line import write_line

    with Bars() as bars:
        folders = write_line(out / "products", size=image_size, seed=seed, progress=bars.step)
    settings = Settings(
        folders=tuple(map(str, folders)),
        strategy=("single", "multitask", "naive", "replay:60", "accumulate", "average", "pertask"),
        image_size=(image_size, image_size),
        seeds=(seed,),
    )
    run_settings(settings, out, keep_models=False)


@app.command("check-data")
def check_data(
    folders: Folders = None,
    stream: StreamName = "",
    root: Root = None,
    image_size: Annotated[int, typer.Option(help="Working size that duplicates and statistics are judged at.")] = 256,
    val_share: Annotated[float, typer.Option(help="Share of the train images that would be held out.")] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what is in product folders before anything is learned: counts, damage, duplicates, available metrics.

    Example: `continuad check-data parts/bottle parts/screw`
    """
    from continuad.cli.audit_view import view
    from continuad.data.audit import audit

    with Bars() as bars:
        found = audit(
            product_folders(folders, stream, root), image_size=image_size, val_share=val_share, progress=bars.step
        )
    if as_json:
        print(json.dumps([product.to_dict() for product in found], indent=1, ensure_ascii=False))
    else:
        out_console.print(view(found))
    if any(product.errors for product in found):
        raise typer.Exit(1)


app.command()(bench)


@app.command()
def distill(
    pictures: Annotated[Path, typer.Argument(help="Folder of pictures of anything, best photographs.")],
    out: Annotated[Path, typer.Option(help="The teacher's file.")] = Path("teacher.safetensors"),
    size: Annotated[str, typer.Option(help="s or m, for efficientad-s or efficientad-m.")] = "s",
    backbone: Annotated[str, typer.Option(help="Any timm name: whose features are taught.")] = "tf_efficientnet_lite0",
    strides: Annotated[str, typer.Option(help="Its levels, comma-separated.")] = "8,16",
    weights_file: WeightsFile = None,
    download: Download = False,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Crops a step.")] = 16,
    seed: Annotated[int, typer.Option(help="Of weights and crops.")] = 0,
) -> None:
    """Make a teacher for EfficientAD: a small network that learns a large one's features. Goes on where it stopped.

    Example: `continuad distill photographs --out teacher.safetensors`, then
    `continuad bench parts/* --detector efficientad-s --set efficientad-s.teacher=teacher.safetensors`
    """
    from continuad.vision.distill import DistillConfig, distill
    from continuad.vision.pdn import size_of

    config = DistillConfig(
        folder=str(pictures),
        size=size_of(size),
        backbone=backbone,
        strides=_strides(strides),
        weights_file=str(weights_file.expanduser().absolute()) if weights_file else None,
        download=download,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
    )
    with Bars() as bars:
        found = distill(config, out, lambda done, total: bars.step("distilling", done, total))
    out_console.print(
        f"Teacher: [bold]{out.absolute()}[/], loss {found['loss']:.3f} (1 would be no knowledge), "
        f"{found['seconds']:.0f} s",
        soft_wrap=True,
    )


@app.command()
def report(directory: Annotated[Path, typer.Argument(help="Results folder of `continuad bench`.")]) -> None:
    """Write summary, figures and report.html anew from the rows in a results folder.

    Example: `continuad report results`
    """
    report_on(directory)


@app.command("list")
def list_names(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Name every detector and strategy, and which pairs apply.

    Example: `continuad list --json`
    """
    from continuad.models.registry import detectors, strategies, summary_of

    kinds, plans = detectors(), strategies()
    refused = {d: {s: way.refuses(kind) for s, way in plans.items()} for d, kind in kinds.items()}
    if as_json:
        pairs = [
            {"detector": d, "strategy": s, "applies": reason is None, "reason": reason or ""}
            for d, row in refused.items()
            for s, reason in row.items()
        ]
        found = {name: summary_of(kind) for name, kind in kinds.items()}
        print(
            json.dumps(
                {
                    "detectors": found,
                    "strategies": {n: summary_of(w) for n, w in plans.items()},
                    "pairs": pairs,
                },
                indent=1,
            )
        )
        return
    for title, classes in (("Detectors", kinds), ("Strategies", plans)):
        table = Table("name", "what it is", title=title, title_justify="left", box=None)
        for name, kind in classes.items():
            table.add_row(name, summary_of(kind))
        out_console.print(table, "")
    reasons = [f"{d} × {s}: {reason}" for d, row in refused.items() for s, reason in row.items() if reason]
    out_console.print("Every pair applies." if not reasons else "Pairs that do not apply:\n" + "\n".join(reasons))


def _strides(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(stride) for stride in text.split(","))
    except ValueError:
        raise ContinuadError(f"--strides {text}: give whole numbers with commas between, such as 8,16") from None


def main() -> None:
    """Entry point: errors a user can mend are printed without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="note: %(message)s")
    try:
        app()
    except (ContinuadError, OSError) as error:  # OSError: disk full, no permission; it names the file
        print_error(str(error))
        sys.exit(2)
