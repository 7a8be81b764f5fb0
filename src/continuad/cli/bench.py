"""The bench command: from what was typed to settings, runs and a report."""

from __future__ import annotations

import shlex
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from continuad.benchmark.settings import Settings
from continuad.cli.console import Bars, BenchBars, err_console, out_console, print_error
from continuad.core.types import Task
from continuad.errors import ContinuadError
from continuad.vision.tiles import PREFIX

Folders = Annotated[list[Path] | None, typer.Argument(help="Product folders, in learning order.", show_default=False)]
StreamName = Annotated[
    str, typer.Option("--stream", help="A known stream: thesis10, mvtec15, realset, visa, btad, mpdd.")
]
WeightsFile = Annotated[Path | None, typer.Option(help="Backbone weights (.safetensors, .pth).", show_default=False)]
Download = Annotated[bool, typer.Option(help="Let timm fetch backbone weights from the internet.")]
Root = Annotated[Path | None, typer.Option(help="Folder that holds the known stream's products.", show_default=False)]


def bench(
    context: typer.Context,
    folders: Folders = None,
    stream: StreamName = "",
    root: Root = None,
    detector: Annotated[str, typer.Option(help="Comma-separated names; see `continuad list`.")] = "padim",
    strategy: Annotated[
        str, typer.Option(help="Comma-separated, with values as in replay:300 or replay:10%.")
    ] = "naive,replay:300,pertask",
    out: Annotated[Path, typer.Option(help="Results folder; the same command goes on where it was stopped.")] = Path(
        "results"
    ),
    image_size: Annotated[str, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.")] = "256",
    tile: Annotated[
        int,
        typer.Option(
            help="For large pictures: side of the tiles that are learned, scored and stitched; 0: the whole picture. "
            "Detectors are then called tiled-NAME."
        ),
    ] = 0,
    backbone: Annotated[str, typer.Option(help="Any timm name.")] = "tf_efficientnet_lite0",
    weights_file: WeightsFile = None,
    download: Download = False,
    seed: Annotated[int | None, typer.Option(help="One run with this seed.", show_default="0")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs with seeds 0 to K-1.", show_default=False)] = None,
    orders: Annotated[int, typer.Option(help="Orders of the products: as given, then seeded permutations.")] = 1,
    steps: Annotated[
        int,
        typer.Option(
            help="Optimiser steps a task for gradient detectors; 0: their own default; one: --set draem.steps=N."
        ),
    ] = 0,
    epochs: Annotated[
        int, typer.Option(help="Instead of steps: walks through a task's new images (replay adds none); 0: unset.")
    ] = 0,
    patience: Annotated[
        int,
        typer.Option(
            help="Stop a task after this many epochs without a lower loss on held-out good images, and keep "
            "the best state; 0: never."
        ),
    ] = 0,
    val_share: Annotated[float, typer.Option(help="Share of the good train images held out for thresholds.")] = 0.1,
    threshold: Annotated[
        str, typer.Option(help="far:RATE (false alarms) or area:PIXELS (smallest defect).")
    ] = "far:0.01",
    precision: Annotated[str, typer.Option(help="Of the backbone: float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="A torch device: cpu, cuda, cuda:1 …")] = "cpu",
    skip_unreadable: Annotated[bool, typer.Option(help="Go on without damaged images, naming them.")] = False,
    look_ahead: Annotated[
        bool, typer.Option(help="Test products that are still to come, too, for forward transfer.")
    ] = False,
    scenario: Annotated[
        str,
        typer.Option(
            help="task: strategies that can use the true task are given it; domain: those that need it are left out; "
            "class: those that do not infer it are left out. Default: each strategy in its own way.",
            show_default=False,
        ),
    ] = "",
    groups: Annotated[
        str,
        typer.Option(
            help="Products learned together as one task: 14-1 (14, then 1 a task), 10-5, 10-1x5 (10, then five times "
            "1), 3x5 (five tasks of 3). Default: one product a task.",
            show_default=False,
        ),
    ] = "",
    open_set: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a product that is never learned, to see whether it is noticed; may be given several times.",
            show_default=False,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Further option, e.g. padim.channels=350.", show_default=False),
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", help="TOML file with any of these; the command line goes first.", show_default=False
        ),
    ] = None,
    keep_models: Annotated[bool, typer.Option(help="Keep every run's learned model in OUT/runs.")] = False,
) -> None:
    """Teach detectors a stream of products under continual strategies and report what was learned and forgotten.

    Example: `continuad bench parts/* --detector padim --strategy naive,replay:300,pertask --out results`

    Known stream: `continuad bench --stream thesis10 --root mvtec --strategy pertask,average --seeds 3 --out results`
    """
    if seed is not None and seeds is not None:
        raise ContinuadError("--seed N runs one seed and --seeds K runs 0 to K-1; give one of them")
    given = {
        "folders": tuple(str(f) for f in folders or ()),
        "stream": stream,
        "root": str(root or ""),
        "detector": _names(detector),
        "strategy": _names(strategy),
        "image_size": _size(image_size),
        "backbone": backbone,
        "weights_file": str(weights_file.expanduser().absolute()) if weights_file else "",
        "download": download,
        "seeds": tuple(range(seeds)) if seeds is not None else (seed or 0,),
        "orders": orders,
        "steps": steps,
        "epochs": epochs,
        "patience": patience,
        "val_share": val_share,
        "threshold": threshold,
        "precision": precision,
        "device": device,
        "skip_unreadable": skip_unreadable,
        "look_ahead": look_ahead,
        "scenario": scenario,
        "groups": groups,
        "open_set": tuple(map(str, open_set or ())),
        "options": _options(option or []),
    }
    said = {name for name in context.params if _was_said(context, name)}
    said |= {"seeds"} if "seed" in said else set()
    said |= {"options"} if "option" in said else set()
    settings = _merge(given, said, settings_file)
    run_settings(_tiled(settings, tile) if tile else settings, out, keep_models)


def run_settings(settings: Settings, out: Path, keep_models: bool) -> None:
    from continuad.benchmark.grid import cells, run_grid
    from continuad.benchmark.grouping import group_sizes
    from continuad.benchmark.open_set import refuse_learned
    from continuad.data.discover import discover_all
    from continuad.data.stream import Stream, open_stream, orders
    from continuad.models.registry import about_strategy

    root = Path(settings.root) if settings.root else None
    folders = product_folders([Path(f) for f in settings.folders], settings.stream, root)
    grid, refused = cells(settings)  # builds every pair once: mistakes are found before anything is written
    learned = discover_all(folders)
    lessons = len(group_sizes(settings.groups, len(learned)))
    if settings.open_set:
        refuse_learned(discover_all(settings.open_set), learned)
    _same_settings(settings, out)
    notes = [f"{pair} does not apply: {reason}" for pair, reason in refused.items()]
    products = [product.name for product in learned]
    about = {strategy: about_strategy(strategy) for strategy in settings.strategy}

    def write_settings() -> None:
        command = shlex.join(["continuad", *sys.argv[1:]])
        settings.write(out / "settings.toml", command, products, notes, about)

    write_settings()
    with BenchBars(len(grid), lessons) as bars:

        def opened(some: Iterable[str | Path], seed: int) -> Stream:
            stream = open_stream(
                some,
                image_size=settings.image_size,
                val_share=settings.val_share,
                seed=seed,
                skip_unreadable=settings.skip_unreadable,
                progress=bars.step,
            )
            if fresh := [note for note in stream.notes if note not in notes]:
                notes.extend(fresh)
                write_settings()
            return stream

        def tasks_of(seed: int, order: int) -> list[Task]:
            stream = opened(folders, seed)
            turn = orders(len(stream), settings.orders)[order]
            return [replace(stream[i], index=place) for place, i in enumerate(turn)]

        open_set = opened(settings.open_set, 0) if settings.open_set else []
        try:
            diverged = run_grid(
                settings,
                grid,
                out,
                tasks_of,
                open_set=open_set,
                keep_models=keep_models,
                notify=bars.step,
                on_cell=bars.cell,
            )
        except KeyboardInterrupt:
            err_console.print("stopped; the same command goes on where it was")
            raise typer.Exit(130) from None
    if diverged:
        notes.extend(f"{run} diverged: {how}" for run, how in diverged.items())
        write_settings()
    report_on(out)
    for run, how in diverged.items():
        print_error(f"{run} diverged: {how}")
    if diverged:
        raise typer.Exit(1)


def report_on(directory: Path) -> None:
    from continuad.report.write import write_report

    with Bars() as bars:
        page = write_report(directory, progress=bars.step)
    out_console.print(f"Report: [bold]{page.absolute()}[/]", soft_wrap=True)


def _same_settings(settings: Settings, out: Path) -> None:
    """Results of other settings must not mix with these."""
    file = out / "settings.toml"
    out.mkdir(parents=True, exist_ok=True)
    if file.exists() and (out / "runs").exists() and (conflict := settings.conflict(Settings.read(file))):
        raise ContinuadError(f"{out} holds results of other settings ({conflict}); choose another --out")


def product_folders(folders: Sequence[Path] | None, stream: str, root: Path | None) -> list[Path]:
    from continuad.data.stream import named_stream

    if stream and folders:
        raise ContinuadError("give product folders or --stream with --root, not both")
    if stream:
        if root is None:
            raise ContinuadError(f"--stream {stream} needs --root, the folder that holds its products")
        return named_stream(stream, root)
    if not folders:
        raise ContinuadError("give product folders, or a known stream: --stream thesis10 --root FOLDER")
    return list(folders)


def _merge(given: dict[str, Any], said: set[str], file: Path | None) -> Settings:
    """Settings of the file, if any, under those said on the command line."""
    if file is None:
        return Settings.of(given, "command line")
    named = {name: value for name, value in given.items() if name in said}
    return replace(Settings.read(file), **named)


def _was_said(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise ContinuadError(f"--image-size {text}: give a side in pixels (256) or HEIGHTxWIDTH (256x384)") from None


def _options(texts: Sequence[str]) -> dict[str, Any]:
    """`padim.channels=350` and the like; values are read as TOML, or else taken as text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            raise ContinuadError(f"--set {text}: write NAME.OPTION=VALUE, e.g. padim.channels=350")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = _whole_path(value)
    return found


def _tiled(settings: Settings, tile: int) -> Settings:
    """The same with every detector in its tiled form, and its options under that name."""
    new = {name: name if name.startswith(PREFIX) else PREFIX + name for name in settings.detector}
    options = {name: value for name, value in settings.options.items() if name.partition(".")[0] not in new}
    for name, tiles in new.items():
        own = settings.own_options(name) | {"tile": tile}
        options |= {f"{tiles}.{option}": value for option, value in own.items()}
    return replace(settings, detector=tuple(new.values()), options=options)


def _whole_path(text: str) -> str:
    """A file or folder here is named in full: the model may be loaded from another folder."""
    path = Path(text).expanduser()
    return str(path.absolute()) if (path.suffix and path.is_file()) or path.is_dir() else text
