"""The station: a folder (and a database) that holds every product, every version, and what was asked of them."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import torch

from continuad.data.decode import MAX_PIXELS
from continuad.data.names import printable
from continuad.errors import ContinuadError
from continuad.station import teach
from continuad.station.blobs import Blobs, Damaged
from continuad.station.checks import Checks
from continuad.station.compare import NotPromoted, compare
from continuad.station.database import is_read_only, open_database
from continuad.station.geometry import Geometry
from continuad.station.guards import is_station, outside, refuse_others, to_catch, usable_name
from continuad.station.judge import DEFECTIVE, GOOD, UNKNOWN, Inspection, Judge
from continuad.station.log import Also, Log
from continuad.station.page import Event, Pages, page
from continuad.station.pictures import Pictures, Unreadable, shot, shots
from continuad.station.taught import OWN, Record, Taught, refuse_code
from continuad.station.teach import Progress
from continuad.station.versions import Versions, now
from continuad.vision.feature_cache import FeatureStore, remembering

DETECTOR = "patchcore"  # the default: its thresholds keep their promise, and memory is bounded
OPTIONS = {"patchcore": {"bank": "1MB"}}  # in place of a detector's own defaults: a product's bytes do not grow
REMEMBERED = 400 * 10**6  # bytes of features kept while a change is made, so that pictures pass the network once


class Station:
    """Products taught one after another, inspected, corrected and undone.

    Every change makes a version: which products there are, what each has learned, where its threshold lies. It is
    written whole before it is put in service in one transaction; what was learned lies in files that are never changed.
    So a process that is killed, a full disk or a lost connection leaves the last good version in service.

    One process writes at a time, and any number read.

    Args:
        folder: the station's. database: URL of a database in place of the `station.db` in it.
    """

    def __init__(self, folder: Path, database: str | None = None):
        self.folder = folder
        self.read_only = is_read_only(folder, database)
        self.blobs = Blobs(folder / "blobs")
        self.engine = open_database(folder, database)
        self.versions = Versions(folder, self.engine, self.blobs)
        self.checks = Checks(folder / "checks", self.engine)
        self.pages = Pages(folder / "reports")
        self.log = Log(self.engine)
        self._judge: Judge | None = None

    @classmethod
    def open(cls, path: str | Path, database: str | None = None, *, create: bool = False) -> Station:
        """The station in a folder.

        Args:
            database: URL such as "postgresql+psycopg://user@host/name"; a database serves one station.
            create: make a new one where there is none.

        Raises:
            ContinuadError: there is none, the folder holds something else, or the database cannot be used.
        """
        folder = Path(path).expanduser().absolute()
        if not is_station(folder):
            if not create:
                raise ContinuadError(
                    f"{folder}: there is no station here. Begin one with `continuad learn {folder} FOLDER`"
                )
            if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
                raise ContinuadError(f"{folder}: this folder holds other things; give a new one for the station")
            (folder / "blobs").mkdir(parents=True, exist_ok=True)
        return cls(folder, database)

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    # -- asking ------------------------------------------------------------------------------------------------------

    def products(self, *, damaged: bool = True) -> list[Taught]:
        """The products in service, in the order they were taught.

        Args:
            damaged: one whose file is damaged is an error; False: it is left out, see `Station.damaged`.

        Raises:
            ContinuadError: one of them is damaged.
        """
        judge = self._current()
        return judge.whole() if damaged else list(judge.products.values())

    def damaged(self) -> dict[str, str]:
        """Products in service whose file is damaged or missing, and what is wrong."""
        return {name: str(error) for name, error in self._current().damaged.items()}

    def product(self, name: str) -> Taught:
        """A product in service by its name.

        Raises:
            ContinuadError: there is none of that name, or its file is damaged.
        """
        return self._current().taught(name)

    def inspect(
        self,
        pictures: Pictures | Iterable[Pictures],
        product: str | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
        log: bool = True,
        unreadable: Unreadable | None = None,
        also: Also | None = None,
    ) -> Iterator[Inspection]:
        """A verdict for each picture, in their order.

        Args:
            pictures: files, folders, Pillow images or arrays (H, W, 3) uint8; one or many.
            product: the one they show, if it is known.
            log: write each verdict into the log of inspections, unless the station can only be read.
            unreadable: called with the reason when a picture cannot be read, some verdicts early; None: it is raised.
            also: see `Log.note`.

        Raises:
            ContinuadError: nothing was taught yet, no such product, or a picture that cannot be read.
        """
        judge = self._current()
        bits = {view.bits for view in judge.views(product)}
        for found in judge.inspect(shots(pictures, bits, max_pixels, unreadable), product):
            if log and not self.read_only:
                self.log.note(found, judge, also)
            yield from found

    def history(self) -> list[dict[str, Any]]:
        """What was asked of the station and what came of it, oldest first."""
        return self.versions.history()

    def inspections(self, last: int | None = None) -> list[dict[str, Any]]:
        """The log of inspections, oldest first; the last ones alone where a number is given."""
        return self.log.inspections(last)

    def drift(self) -> list[dict[str, Any]]:
        """For each product in service: `seen`, pictures inspected since it was put in service; its two sums; `alert`,
        at which picture and in which value its pictures no longer looked as they did, or None. See `Watch`."""
        return self.log.drift(self._current())

    @property
    def version(self) -> int:
        """The version in service; 0 before the first product."""
        return self.versions.head()

    # -- changing ----------------------------------------------------------------------------------------------------

    def learn(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        detector: str = DETECTOR,
        options: dict[str, Any] | None = None,
        geometry: Geometry | None = None,
        max_pixels: int = MAX_PIXELS,
        tolerance: int | None = 0,
        progress: Progress | None = None,
    ) -> Taught:
        """Teach a new product from a folder of good pictures.

        Args:
            name: the product's; None: the folder's.
            detector, options: its kind, as `make_detector` takes it.
            tolerance: see `_put_in_service`.
            progress: called with (what, done, total).

        Raises:
            ContinuadError: the name is taken or cannot be used, or `check-data` has something against the folder.
            NotPromoted: an earlier product would get worse.
        """
        folder, geometry = outside(folder, self.folder), geometry or Geometry()
        name = usable_name(folder.name if name is None else name)
        with self._writing() as judge:
            judge.whole()
            if name in judge.products:
                raise ContinuadError(
                    f"there is a product '{name}' already; add pictures to it with `continuad update`, or give "
                    "another --name"
                )
            refuse_code(detector, options or {})
            good = teach.read_good(folder, geometry, None, max_pixels, progress)
            geometry = geometry.with_reference(good.images)
            good = good.aligned(geometry)
            options = OPTIONS.get(detector, {}) | (options or {})
            record = Record(detector, options, geometry, good.bits, len(good.images), f"{name} {uuid.uuid4().hex[:8]}")
            taught = teach.learn(name, good, record, progress)
            self.checks.add(record.origin, torch.from_numpy(good.images), GOOD)
            report = {"promise": teach.promise(None, taught, self.checks.good(record.origin))}
            return self._promote("learn", taught, report, tolerance)

    def update(
        self,
        product: str,
        folder: str | Path,
        *,
        max_pixels: int = MAX_PIXELS,
        tolerance: int | None = 0,
        progress: Progress | None = None,
    ) -> Taught:
        """Teach a product further good pictures, without those it was taught before.

        Args:
            tolerance: see `_put_in_service`; None also allows pictures that show another product.

        Raises:
            ContinuadError: no such product, a folder that `check-data` refuses, or one that mostly shows other things.
            NotPromoted: a product would get worse.
        """
        folder = outside(folder, self.folder)
        with self._writing() as judge:
            judge.whole()
            known = judge.taught(product)
            record = known.record
            good = teach.read_good(folder, record.geometry, record.bits, max_pixels, progress)
            if tolerance is not None:
                refuse_others(judge, known, good)
            shown = self.checks.good(record.origin)
            taught = teach.update(known, good, shown, progress)
            report = {"promise": teach.promise(known, taught, shown)}
            return self._promote("update", taught, report, tolerance)

    def feedback(
        self,
        picture: Pictures,
        *,
        good: bool,
        product: str | None = None,
        tolerance: int | None = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> dict[str, Any]:
        """Say what a picture really is.

        A good picture that was called defective is learned, so that it and near copies of it pass. A defective one is
        kept as a confirmed defect: it is measured before and after every change. What was said last of a picture holds.

        Args:
            product: the one it shows; None: the one it is taken for.
            tolerance: see `_put_in_service`.

        Returns:
            product; before and after, the verdicts on it; and of a defective one that passes, `threshold` that would
            catch it and `false_alarms`, the share of good pictures that such a threshold would call defective.

        Raises:
            ContinuadError: the picture cannot be read, or shows no known product and none is given.
            NotPromoted: a product would get worse.
        """
        with self._writing() as judge:
            judge.whole()
            one = shot(picture, 0, {view.bits for view in judge.views(product)}, max_pixels)
            ((before,),) = judge.inspect([one], product)
            if product is None and before.verdict == UNKNOWN:
                raise ContinuadError(f"{one.name}: it shows no known product; name the one it shows")
            taught = judge.taught(before.product)
            origin, image = taught.record.origin, torch.from_numpy(taught.record.geometry.apply(before.rgb))
            self.log.said(taught.name, GOOD if good else DEFECTIVE, one.content)
            if not good:
                self.checks.add(origin, image[None], DEFECTIVE)
                return {"product": taught.name, "before": before.verdict} | to_catch(taught, before.score)
            self.checks.drop(origin, image, DEFECTIVE)
            if before.score > before.threshold:
                self._promote("feedback", teach.accept(taught, image), {"file": printable(one.name)}, tolerance)
            ((after,),) = self._current().inspect([one], taught.name)
            return {"product": taught.name, "before": before.verdict, "after": after.verdict}

    def set_threshold(self, product: str, *, false_alarms: float | None = None, value: float | None = None) -> Taught:
        """Move a product's threshold: to the one that promises a rate of false alarms, or to a score.

        Raises:
            ContinuadError: no such product; both or neither given; a rate outside [0, 1), a value that is not finite.
        """
        if (false_alarms is None) == (value is None):
            raise ContinuadError("give a rate of false alarms, or a value for the threshold")
        with self._writing() as judge:
            known = judge.taught(product)
            if value is None:
                known.calibration.thresholds(OWN, false_alarms)  # refuses what is no rate
                return self._promote("threshold", known.with_record(false_alarms=false_alarms, value=None), {}, None)
            if not math.isfinite(torch.tensor(value, dtype=torch.float32).item()):
                raise ContinuadError(f"threshold {value} must be a number such as scores are")
            return self._promote("threshold", known.with_record(value=float(value)), {}, None)

    def forget(self, product: str) -> None:
        """Take a product out of service and erase its check pictures. The others answer as before, bit for bit.

        What it had learned stays on disk for `undo`, unless that holds pictures, as what trained detectors keep does.

        Raises:
            ContinuadError: no such product, or another one is damaged.
        """
        with self._writing() as judge:
            origins = {row["product"]: row["record"]["origin"] for row in self.versions.members(judge.version)}
            if product not in origins:
                judge.taught(product)
            rest = judge.whole(but=product)
            erase = partial(self.checks.forget, origin=origins[product])
            self._put_in_service("forget", product, rest, {}, None, erase)
            self._sweep()

    def undo(self, to: int | None = None) -> int:
        """Go back to the version before, or to another one; the version then in service.

        Raises:
            ContinuadError: there is none, or it lacks files.
        """
        with self._writing():
            return self.versions.go_back(to)

    # -- within ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[Judge]:
        """The version in service, while no other process changes it; what earlier changes left behind is swept."""
        with self.versions.writing(), remembering(FeatureStore(REMEMBERED)):
            self._sweep()
            yield self._current()

    def _sweep(self) -> None:
        """Remove what interrupted changes, changes not put in service and forgotten products left on disk."""
        self.checks.sweep()
        shown = self.checks.origins()
        self.versions.sweep(shown)
        self.pages.sweep(shown)

    def _current(self) -> Judge:
        """The version in service, read anew when another one was put in its place."""
        head, known = self.versions.head(), self._judge
        if known is None or known.version != head or known.damaged:
            loaded, damaged = [], {}
            for row in self.versions.members(head):
                try:
                    loaded.append(self._load(known, row["product"], row["blob"], Record.of(row["record"])))
                except Damaged as error:
                    damaged[row["product"]] = error
            known = self._judge = Judge(loaded, head, damaged)
        return known

    def _load(self, known: Judge | None, name: str, blob: str, record: Record) -> Taught:
        there = known.products.get(name) if known else None
        if there is not None and there.blob == blob:
            return there.with_record(**vars(record))
        return Taught.of(name, record, blob, self.blobs.get(blob))

    def _promote(self, verb: str, taught: Taught, report: dict[str, Any], tolerance: int | None) -> Taught:
        """Put a product, new or changed, in service beside the others."""
        products = {one.name: one for one in self.products()} | {taught.name: taught}
        self._put_in_service(verb, taught.name, list(products.values()), report, tolerance)
        return self._current().taught(taught.name)

    def _put_in_service(
        self,
        verb: str,
        product: str,
        products: Sequence[Taught],
        report: dict[str, Any],
        tolerance: int | None,
        also: Callable[[sa.Connection], None] | None = None,
    ) -> None:
        """Make a version of these products and put it in service.

        Args:
            tolerance: how many new false alarms, lost defects and strayed pictures among a product's check pictures are
                allowed; None: any.
            also: done in the same transaction.

        Raises:
            NotPromoted: a product has more; what was made is dropped, and the history says so.
        """
        products = [self.versions.written(one) for one in products]
        before = self._current()
        changes = compare(self.checks, before, Judge(products, before.version))
        worse = [change for change in changes if tolerance is not None and change.count() > tolerance]
        report = report | {"changes": [change.plain() for change in changes]}
        after = next((one for one in products if one.name == product), None)
        if after is not None and changes:
            event = Event(verb, product, now(), before.version, not worse)
            whole = page(event, changes, self.checks, before.products.get(product), after)
            report["page"] = str(self.pages.keep(event, after.record.origin, whole))
        if worse:
            self.versions.refuse(verb, product, report)
            raise NotPromoted(verb, product, worse, report.get("page", ""))
        self.versions.promote(verb, product, products, report, also)
