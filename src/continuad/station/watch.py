"""A watched folder: pictures are inspected as they arrive, each exactly once in the log."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import sqlalchemy as sa

from continuad.data.decode import MAX_PIXELS, UnreadableImage
from continuad.data.names import printable
from continuad.data.product import images_in
from continuad.errors import ContinuadError
from continuad.station.guards import outside
from continuad.station.heat import line_of, unreadable_line
from continuad.station.judge import AT_ONCE, Inspection
from continuad.station.outbox import Outbox
from continuad.station.station import Station
from continuad.station.tables import inspections, meta, watched
from continuad.station.versions import now

MANY = 100  # pictures waiting, from which on that is said
REST = 4  # times as long as a look at the folder took, until the next one: very many files keep no processor busy
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A file as it was seen: a file that was replaced, or written further, is another one.

    Attributes:
        path: where it lies. size: bytes. modified: in nanoseconds.
    """

    path: Path
    size: int
    modified: int

    @property
    def key(self) -> str:
        """A hash of its path, whatever bytes that has."""
        return hashlib.blake2b(os.fsencode(self.path), digest_size=16).hexdigest()


class Watcher:
    """Inspects the pictures of a folder, and of the folders in it, as they arrive.

    A picture is taken once its size and its time of change have been the same for `settle` seconds: whoever writes it
    has finished by then. Up to `AT_ONCE` pictures are inspected together, the oldest first; the others wait on disk.
    Verdict, mark that the file is done, and messages to be sent are written in one transaction. So a watcher that is
    stopped at any moment, and started again, goes on with the file it had not finished; and of two that watch the same
    folder one finishes each file. A file that changes while it is inspected is left until it is still again. One with
    another time but the picture that was inspected last under its name is the same file.

    Args:
        station: what to ask. A version that is put in service meanwhile is asked from then on.
        folder: to watch. product: the one that all pictures show, if it is known.
        settle: seconds. out: folder for heat maps and masks. outboxes: of the messages to send.

    Raises:
        ContinuadError: there is no such folder, the station lies in it, or can only be read.
    """

    def __init__(
        self,
        station: Station,
        folder: Path,
        product: str | None = None,
        *,
        settle: float = 1.0,
        out: Path | None = None,
        max_pixels: int = MAX_PIXELS,
        outboxes: Sequence[Outbox] = (),
    ):
        self.station, self.folder, self.product = station, outside(folder, station.folder), product
        self.settle, self.out, self.max_pixels, self.outboxes = settle, out, max_pixels, outboxes
        if not self.folder.is_dir():
            raise ContinuadError(f"{folder}: there is no such folder to watch")
        if station.read_only:
            raise ContinuadError(f"{station.folder}: this station can only be read, so that nothing could be logged")
        self._mark = (station.folder / "station.id").read_text(encoding="ascii")  # no other station has it
        self._seen: dict[Path, tuple[File, float]] = {}
        self._done: dict[Path, File] = {}
        self._unread: list[dict[str, Any]] = []  # lines of files that cannot be read, in the log and not yet given
        self._complaint = ""

    def ready(self) -> list[File]:
        """Look at the folder once: files that are settled and not done, the oldest first."""
        try:
            files = [file for path in images_in(self.folder) if (file := _seen(path)) is not None]
        except ContinuadError as error:  # it has vanished, and may come back
            self._complain(str(error))
            return []
        self._complaint = ""
        at = monotonic()
        seen = {file.path: self._seen.get(file.path, (file, at)) for file in files}
        self._seen = {file.path: before if (before := seen[file.path])[0] == file else (file, at) for file in files}
        self._done = {path: file for path, file in self._done.items() if path in self._seen}
        open_ = [file for file in files if self._done.get(file.path) != file and not self._was_done(file)]
        settled = [file for file in open_ if at - self._seen[file.path][1] >= self.settle]
        if len(settled) > MANY:
            _log.warning("%d pictures wait in %s", len(settled), self.folder)
        return sorted(settled, key=lambda file: (file.modified, file.path))

    def pending(self) -> int:
        """How many files of the last look are not done."""
        return sum(self._done.get(path) != file for path, (file, _) in self._seen.items())

    def inspect(self, files: Sequence[File]) -> Iterator[dict[str, Any]]:
        """Inspect files; a line for each as `inspect --json` gives it, once it is in the log.

        Raises:
            ContinuadError: the station, its disk or its database cannot be used; files without a line are not done.
        """
        for start in range(0, len(files), AT_ONCE):
            yield from self._some([file for file in files[start : start + AT_ONCE] if _seen(file.path) == file])

    def _some(self, files: Sequence[File]) -> Iterator[dict[str, Any]]:
        some = _Together(self, files)
        options: dict[str, Any] = {"max_pixels": self.max_pixels, "unreadable": some.unreadable, "also": some}
        try:
            for one in self.station.inspect([file.path for file in files], self.product, **options):
                yield from self._given()
                self._done[some.files[one.file].path] = some.files[one.file]
                yield some.lines.pop(one.file)
        except _LeaveOut as left:
            yield from self._some([file for file in files if not self._was_done(file) and file not in left.files])
        yield from self._given()

    def _given(self) -> Iterator[dict[str, Any]]:
        while self._unread:
            yield self._unread.pop(0)

    def finish(self, connection: sa.Connection, file: File, line: dict[str, Any], **about: Any) -> None:
        """Mark a file as done and put its messages into the outboxes.

        Raises:
            _LeaveOut: it has changed, or another watcher has finished it.
        """
        # Another watcher waits here until this transaction is over, and then sees what it wrote.
        connection.execute(meta.update().where(meta.c.key == "station").values(value=self._mark))
        if _seen(file.path) not in (file, None) or connection.scalar(_done_before(file)) is not None:
            raise _LeaveOut([file])
        number = connection.execute(_mark(file, **about).returning(watched.c.id)).scalar_one()
        for outbox in self.outboxes:
            outbox.put(connection, line | {"id": f"{self._mark}-{number}"})

    def same_picture(self, file: File, content: str) -> bool:
        """Whether the picture is the one that was inspected last under the file's name; then it is done."""
        last = sa.select(watched, inspections.c.content).where(watched.c.key == file.key)
        last = last.outerjoin(inspections, watched.c.inspection == inspections.c.id)
        with self.station.engine.begin() as connection:
            found = connection.execute(last.order_by(watched.c.id.desc()).limit(1)).first()
            if found is None or found.content != content:
                return False
            if (found.size, found.modified) != (file.size, file.modified):
                connection.execute(_mark(file, inspection=found.inspection))
        self._done[file.path] = file
        return True

    def unreadable(self, file: File, error: UnreadableImage) -> None:
        """Mark a file that cannot be read as done, unless it was replaced or taken away meanwhile."""
        if _seen(file.path) != file:
            return
        line = unreadable_line(error)
        with self.station.engine.begin() as connection:
            self.finish(connection, file, line, reason=error.reason)
        self._done[file.path] = file
        self._unread.append(line)

    def _was_done(self, file: File) -> bool:
        """Whether an earlier watcher, or another one, finished a file; asked once."""
        with self.station.engine.connect() as connection:
            found = connection.scalar(_done_before(file)) is not None
        if found:
            self._done[file.path] = file
        return found

    def _complain(self, what: str) -> None:
        """Say something once, until it changes."""
        if what != self._complaint:
            _log.warning("%s; waiting for it", what)
        self._complaint = what


class _LeaveOut(Exception):
    """Files that changed while they were inspected, or are done: the others are inspected without them."""

    def __init__(self, files: Collection[File]):
        super().__init__(files)
        self.files = files


class _Together:
    """Files that are inspected together; see `Also`.

    Attributes:
        files: by their path. lines: of those that are in the log, by the same.
    """

    def __init__(self, watcher: Watcher, files: Sequence[File]):
        self.watcher, self.files = watcher, {str(file.path): file for file in files}
        self.lines: dict[str, dict[str, Any]] = {}

    def before(self, found: Sequence[Inspection]) -> None:
        """Leave out pictures that were inspected; write heat maps and masks."""
        inspected = [(self.files[one.file], one.content) for one in found]
        if same := [file for file, content in inspected if self.watcher.same_picture(file, content)]:
            raise _LeaveOut(same)
        self.lines = {one.file: line_of(one, self.watcher.out) for one in found}

    def within(self, connection: sa.Connection, one: Inspection, number: int) -> None:
        """Mark its file as done."""
        self.watcher.finish(connection, self.files[one.file], self.lines[one.file], inspection=number)

    def unreadable(self, error: UnreadableImage) -> None:
        """Mark a file that cannot be read as done."""
        file = next(file for file in self.files.values() if printable(file.path) == error.source)
        self.watcher.unreadable(file, error)


def watch(watcher: Watcher, once: bool, wait: Callable[[float], object]) -> Iterator[dict[str, Any]]:
    """Lines as pictures arrive.

    Args:
        once: end when everything that was there at the start is done, or does not settle within ten looks.
        wait: sleeps for some seconds.

    Raises:
        ContinuadError: with `once`, the station cannot be used; else that is said, and tried again.
    """
    looks, pause = 0, 1.0
    while True:
        began = monotonic()
        try:
            files = watcher.ready()
            looked = monotonic() - began
            yield from watcher.inspect(files)
            pause = 1.0
        except (ContinuadError, OSError) as error:
            if once:
                raise
            _log.warning("%s; trying again in %.0f seconds", error, pause)
            wait(pause)
            pause = min(60.0, 2 * pause)
            continue
        looks += 1
        if once and (not watcher.pending() or looks == 10):
            return
        wait(watcher.settle if once else max(0.1, watcher.settle / 2, REST * looked))


def _mark(file: File, **about: Any) -> sa.Insert:
    """The row of a file that is done; `about` is its inspection, or why it cannot be read."""
    row = {"at": now(), "file": printable(file.path), "key": file.key, "size": file.size, "modified": file.modified}
    return watched.insert().values(**row, **about)


def _done_before(file: File) -> sa.Select[tuple[int]]:
    mine = watched.c.key == file.key, watched.c.size == file.size, watched.c.modified == file.modified
    return sa.select(watched.c.id).where(*mine).limit(1)


def _seen(path: Path) -> File | None:
    try:
        found = path.stat()
    except OSError:  # taken away meanwhile
        return None
    return File(path, found.st_size, found.st_mtime_ns)
