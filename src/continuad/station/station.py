"""The station: a folder (and a database) that holds every product, every version, and what was asked of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import torch

from continuad.data.decode import MAX_PIXELS
from continuad.errors import ContinuadError
from continuad.station import teach
from continuad.station.blobs import Blobs
from continuad.station.checks import Change, Checks, compare, worse_lines
from continuad.station.drift import Watch, follow
from continuad.station.geometry import Geometry
from continuad.station.judge import DEFECTIVE, GOOD, UNKNOWN, Inspection, Judge
from continuad.station.pictures import Pictures, Shot, each, shot
from continuad.station.tables import drift, feedback, inspections, open_database
from continuad.station.taught import OWN, Record, Taught
from continuad.station.teach import Progress
from continuad.station.versions import Versions, now
from continuad.vision.feature_cache import FeatureStore, remembering

DETECTOR = "patchcore"  # the default: its thresholds keep their promise, and memory is bounded
OPTIONS = {"patchcore": {"bank": "1MB"}}  # in place of a detector's own defaults: a product's bytes do not grow
REMEMBERED = 400 * 10**6  # bytes of features kept while a change is made, so that pictures pass the network once


class NotPromoted(ContinuadError):
    """A change would make a product worse; nothing was changed.

    Attributes:
        changes: of the products that would.
    """

    def __init__(self, verb: str, product: str, changes: Sequence[Change]):
        self.changes = changes
        lines = "\n  ".join(worse_lines(changes))
        super().__init__(
            f"{verb} {product} is not put in service, because a product would get worse:\n  {lines}\n"
            "Use --force to do it all the same"
        )


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
        self.blobs = Blobs(folder / "blobs")
        self.engine = open_database(folder, database)
        self.versions = Versions(folder, self.engine, self.blobs)
        self.checks = Checks(folder / "checks", self.engine)
        self._judge: Judge | None = None

    @classmethod
    def open(cls, path: str | Path, database: str | None = None, *, create: bool = False) -> Station:
        """The station in a folder.

        Args:
            database: URL such as "postgresql+psycopg://user@host/name"; a database serves one station.
            create: make a new one where there is none.

        Raises:
            ContinuadError: there is none, or the folder holds something else.
        """
        folder = Path(path).expanduser().absolute()
        there = (folder / "station.db").is_file() or (folder / "blobs").is_dir()
        if not there and not create:
            raise ContinuadError(
                f"{folder}: there is no station here. Begin one with `continuad learn {folder} FOLDER`"
            )
        if not there and folder.is_dir() and any(folder.iterdir()):
            raise ContinuadError(f"{folder}: this folder holds other things; give a new one for the station")
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        return cls(folder, database)

    # -- asking ------------------------------------------------------------------------------------------------------

    def products(self) -> list[Taught]:
        """The products in service, in the order they were taught."""
        return list(self._current().products.values())

    def product(self, name: str) -> Taught:
        """A product in service by its name.

        Raises:
            ContinuadError: there is none of that name.
        """
        return self._current().taught(name)

    def inspect(
        self,
        pictures: Pictures | Iterable[Pictures],
        product: str | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
        log: bool = True,
    ) -> Iterator[Inspection]:
        """A verdict for each picture, in their order.

        Args:
            pictures: files, folders, Pillow images or arrays (H, W, 3) uint8; one or many.
            product: the one they show, if it is known.
            log: write each verdict into the log of inspections.

        Raises:
            ContinuadError: nothing was taught yet, no such product, or a picture that cannot be read.
        """
        judge = self._current()
        bits = judge.bits(product)
        for found in judge.inspect(self._shots(pictures, bits, max_pixels), product):
            if log:
                self._note(found, judge.taught(found.product))
            yield found

    def history(self) -> list[dict[str, Any]]:
        """What was asked of the station and what came of it, oldest first."""
        return self.versions.history()

    def inspections(self, last: int | None = None) -> list[dict[str, Any]]:
        """The log of inspections, oldest first; the last ones alone where a number is given."""
        asked = sa.select(inspections).order_by(inspections.c.id.desc())
        with self.engine.connect() as connection:
            rows = connection.execute(asked if last is None else asked.limit(last)).mappings()
            return [dict(row) for row in rows][::-1]

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
            ContinuadError: a product of that name is there, or `check-data` has something against the folder.
            NotPromoted: an earlier product would get worse.
        """
        folder, geometry = Path(folder).expanduser(), geometry or Geometry()
        name = name or folder.absolute().name
        with self.versions.writing():
            if name in self._current().products:
                raise ContinuadError(
                    f"there is a product '{name}' already; add pictures to it with `continuad update`, or give "
                    "another --name"
                )
            good = teach.read_good(folder, geometry, None, max_pixels, progress)
            record = Record(
                detector, OPTIONS.get(detector, {}) | (options or {}), geometry, good.bits, len(good.images)
            )
            with remembering(FeatureStore(REMEMBERED)):
                taught = teach.learn(name, good, record, progress)
                self.checks.erase(name)  # of a product of that name that was forgotten, or not put in service
                self.checks.add(name, torch.from_numpy(good.images), GOOD)
                return self._promote("learn", taught, {"notes": list(good.notes)}, tolerance)

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
            tolerance: see `_put_in_service`.

        Raises:
            ContinuadError: no such product, one that cannot be updated, or a folder that `check-data` refuses.
            NotPromoted: a product would get worse.
        """
        with self.versions.writing():
            known = self._current().taught(product)
            record = known.record
            good = teach.read_good(Path(folder).expanduser(), record.geometry, record.bits, max_pixels, progress)
            with remembering(FeatureStore(REMEMBERED)):
                taught = teach.update(known, good, progress)
                return self._promote("update", taught, {"notes": list(good.notes)}, tolerance)

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
        kept as a confirmed defect: it is measured before and after every change.

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
        with self.versions.writing():
            judge = self._current()
            one = shot(picture, 0, judge.bits(product), max_pixels)
            (before,) = judge.inspect([one], product)
            if product is None and before.verdict == UNKNOWN:
                raise ContinuadError(f"{one.name}: it shows no known product; name the one it shows")
            taught = judge.taught(before.product)
            image = torch.from_numpy(taught.record.geometry.apply(one.rgb))
            self._note_feedback(taught.name, GOOD if good else DEFECTIVE, one.content)
            if not good:
                self.checks.add(taught.name, image[None], DEFECTIVE)
                return {"product": taught.name, "before": before.verdict} | _to_catch(taught, before.score)
            if before.verdict != GOOD:
                self._promote("feedback", teach.accept(taught, image), {"file": one.name}, tolerance)
            (after,) = self._current().inspect([one], taught.name)
            return {"product": taught.name, "before": before.verdict, "after": after.verdict}

    def set_threshold(self, product: str, *, false_alarms: float | None = None, value: float | None = None) -> Taught:
        """Move a product's threshold: to the one that promises a rate of false alarms, or to a score.

        Raises:
            ContinuadError: no such product; both or neither given; a rate outside [0, 1), a value that is not finite.
        """
        if (false_alarms is None) == (value is None):
            raise ContinuadError("give a rate of false alarms, or a value for the threshold")
        with self.versions.writing():
            known = self._current().taught(product)
            if value is None:
                known.calibration.thresholds(OWN, false_alarms)  # refuses what is no rate
                return self._promote("threshold", known.with_record(false_alarms=false_alarms, value=None), {}, None)
            if not math.isfinite(value):
                raise ContinuadError(f"threshold {value} must be a number")
            return self._promote("threshold", known.with_record(value=float(value)), {}, None)

    def forget(self, product: str) -> None:
        """Take a product out of service and erase its check pictures. The others answer as before, bit for bit."""
        with self.versions.writing():
            self._current().taught(product)
            rest = [taught for taught in self.products() if taught.name != product]
            self._put_in_service("forget", product, rest, {}, None)
            self.checks.erase(product)

    def undo(self, to: int | None = None) -> int:
        """Go back to the version before, or to another one; the version then in service.

        Raises:
            ContinuadError: there is none, or it lacks files.
        """
        with self.versions.writing():
            self._judge = None
            return self.versions.go_back(to)

    # -- within ------------------------------------------------------------------------------------------------------

    def _shots(self, pictures: Pictures | Iterable[Pictures], bits: int, max_pixels: int) -> Iterator[Shot]:
        for number, picture in enumerate(each(pictures)):
            yield shot(picture, number, bits, max_pixels)

    def _current(self) -> Judge:
        """The version in service, read anew when another one was put in its place."""
        head = self.versions.head()
        if self._judge is None or self._judge.version != head:
            rows = self.versions.members(head)
            self._judge = Judge([self._load(row["product"], row["blob"], row["record"]) for row in rows], head)
        return self._judge

    def _load(self, name: str, blob: str, record: dict[str, Any]) -> Taught:
        known = self._judge.products.get(name) if self._judge else None
        if known is not None and known.blob == blob:
            return known.with_record(**vars(Record.of(record)))
        return Taught.of(name, Record.of(record), blob, self.blobs.get(blob))

    def _promote(self, verb: str, taught: Taught, report: dict[str, Any], tolerance: int | None) -> Taught:
        """Put a product, new or changed, in service beside the others."""
        products = {one.name: one for one in self.products()} | {taught.name: taught}
        self._put_in_service(verb, taught.name, list(products.values()), report, tolerance)
        return self._current().taught(taught.name)

    def _put_in_service(
        self, verb: str, product: str, products: Sequence[Taught], report: dict[str, Any], tolerance: int | None
    ) -> None:
        """Make a version of these products and put it in service.

        Args:
            tolerance: how many new false alarms, lost defects and strayed pictures among a product's check pictures are
                allowed; None: any.

        Raises:
            NotPromoted: a product has more; what was made is dropped, and the history says so.
        """
        changes = compare(self.checks, self._current().products, products)
        report = report | {"changes": [change.plain() for change in changes]}
        worse = [change for change in changes if tolerance is not None and change.worse() > tolerance]
        if worse:
            self.versions.refuse(verb, product, report)
            raise NotPromoted(verb, product, worse)
        self.versions.promote(verb, product, products, report)

    def _note_feedback(self, product: str, kind: str, content: str) -> None:
        with self.engine.begin() as connection:
            row = {"at": now(), "product": product, "kind": kind, "content": content}
            connection.execute(feedback.insert().values(**row))

    def drift(self) -> list[dict[str, Any]]:
        """For each product in service: `seen`, pictures inspected since it was put in service; its two sums; `alert`,
        at which picture and in which value its pictures no longer looked as they did, or None. See `Watch`."""
        with self.engine.connect() as connection:
            states = dict(connection.execute(sa.select(drift.c.product, drift.c.state)).tuples().all())
        watches = [(one.name, states.get(one.name), one.blob) for one in self.products()]
        return [
            {"product": name, **(state if state and state["blob"] == blob else Watch(blob).plain())}
            for name, state, blob in watches
        ]

    def _note(self, found: Inspection, taught: Taught) -> None:
        row = {name: getattr(found, name) for name in ("file", "content", "product", "verdict", "score", "threshold")}
        row |= {name: getattr(found, name) for name in ("confidence", "seconds", "version")}
        with self.engine.begin() as connection:
            connection.execute(inspections.insert().values(at=now(), **row))
            mine = drift.c.product == found.product
            state = connection.scalar(sa.select(drift.c.state).where(mine).with_for_update())
            watch = follow(state, taught, found).plain()
            if state is None:
                connection.execute(drift.insert().values(product=found.product, state=watch))
            else:
                connection.execute(drift.update().where(mine).values(state=watch))


def _to_catch(taught: Taught, score: float) -> dict[str, Any]:
    """What it would cost to catch a picture with this score; nothing where it is caught."""
    if score > taught.thresholds().image:
        return {}
    catching = score - 1e-3 * abs(score)  # in other company the same picture's score differs in the last digits
    return {"threshold": catching, "false_alarms": float((taught.good_scores() > catching).float().mean())}
