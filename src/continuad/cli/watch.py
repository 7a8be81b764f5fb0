"""`continuad watch`: inspects the pictures of a folder as they arrive."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from continuad.cli.console import say
from continuad.cli.inspection import (
    AsJson,
    Database,
    MaxPixels,
    Where,
    exit_code,
    open_station,
    refuse_within,
    show,
    table,
)
from continuad.data.decode import MAX_PIXELS

if TYPE_CHECKING:
    from continuad.station.outbox import Outbox
    from continuad.station.station import Station

PATIENCE = 30.0  # seconds that the end waits for messages to be sent


def watch(
    station: Where,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where pictures arrive.")],
    product: Annotated[str, typer.Option(help="The product they show, if it is known.", show_default=False)] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for heat maps and masks.", show_default=False)] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Add lines to a table.", show_default=False)] = None,
    mqtt: Annotated[str, typer.Option(help="Send verdicts to mqtt://HOST/TOPIC.", show_default=False)] = "",
    webhook: Annotated[str, typer.Option(help="Send verdicts to http://HOST/PATH.", show_default=False)] = "",
    settle: Annotated[float, typer.Option(min=0, help="Seconds a file must not change before it is taken.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Inspect what is there, then end.")] = False,
    database: Database = "",
    max_pixels: MaxPixels = MAX_PIXELS,
    as_json: AsJson = False,
) -> None:
    """Inspect pictures as they arrive in a folder, until Ctrl-C; each one once, also after a restart.

    Exit code with --once: as `inspect`.

    Example: `continuad watch line1 inbox --out heat --mqtt mqtt://broker/line1`
    """
    from continuad.station import watch as watching

    made, seen = open_station(station, database), set()
    refuse_within(out, [folder])
    outboxes = _outboxes(made, mqtt, webhook)
    watcher = watching.Watcher(
        *(made, folder, product or None),
        settle=settle,
        out=out,
        max_pixels=max_pixels,
        outboxes=outboxes,
    )
    with ExitStack() as stack:
        write = stack.enter_context(table(csv_file, go_on=True))
        for outbox in outboxes:
            stack.enter_context(outbox.sending(PATIENCE))
        for line in watching.watch(watcher, once, time.sleep):
            seen.add(line["verdict"])
            try:
                write(line)
            except OSError as error:
                say(f"{csv_file}: cannot be written now ({error.strerror}); the station's log has {line['file']}")
            show(line, as_json)
    if left := watcher.pending():
        say(f"{left} files in {folder} are still being written, or could not be taken; they were left")
    raise typer.Exit(exit_code(seen))


def _outboxes(station: Station, mqtt: str, webhook: str) -> list[Outbox]:
    from continuad.station.outbox import Outbox
    from continuad.station.senders import Mqtt, Webhook

    senders = [kind(url) for kind, url in ((Mqtt, mqtt), (Webhook, webhook)) if url]
    return [Outbox(station.engine, sender) for sender in senders]
