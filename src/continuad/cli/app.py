"""The command line. Each command only gathers what it is given, calls the library and shows what came out.

Nothing here imports torch before a command needs it, so that help, names and mistakes are answered at once.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import continuad
from continuad.cli import environment, station
from continuad.cli.bench import bench
from continuad.cli.console import print_error, say
from continuad.cli.data import check_data
from continuad.cli.demo import demo
from continuad.cli.distill import distill
from continuad.cli.listing import list_names
from continuad.cli.report import report
from continuad.errors import ContinuadError

GO_ON = ("bench", "demo", "distill")  # commands that, stopped and called again, repeat no more than a minute
STOPPED = 130  # exit code after Ctrl-C, as shells have it


class Command(TyperCommand):
    """A command in which an option that takes one value may be given once: the last of two would win in silence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what was typed.

        Raises:
            ContinuadError: an option is given twice.
        """
        given = self.make_parser(ctx).parse_args(args=list(args))[2]
        for option in given:
            if option.param_type_name == "option" and not option.multiple and given.count(option) > 1:
                raise ContinuadError(f"{'/'.join([*option.opts, *option.secondary_opts])} is given twice")
        return super().parse_args(ctx, args)


class Once(logging.Filter):
    """Lets every message through once."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it was not said yet."""
        text = record.getMessage()
        new = text not in self.said
        self.said.add(text)
        return new


class Commands(TyperGroup):
    """The commands. Ctrl-C ends whichever runs with one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("stopped; the same command goes on where it was" if ctx.invoked_subcommand in GO_ON else "stopped")
            raise typer.Exit(STOPPED) from None


app = typer.Typer(
    cls=Commands,
    help="Visual anomaly detection that keeps learning: product after product, in bounded memory.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, check_data, bench, distill, report):
    app.command(cls=Command)(command)
app.command("list", cls=Command)(list_names)
for command in station.COMMANDS:
    app.command(cls=Command, rich_help_panel="Station")(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"continuad {continuad.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: errors a user can mend are printed without a traceback."""
    environment.prepare()
    logging.basicConfig(level=logging.WARNING, format="note: %(message)s")
    logging.getLogger("continuad.core.strategy").addFilter(Once())  # what holds of a product holds in every run
    try:
        app()
    except (ContinuadError, OSError) as error:  # OSError: disk full, no permission; it names the file
        print_error(str(error))
        sys.exit(2)
