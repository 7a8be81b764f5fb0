"""Check pictures: some good ones of every product and every confirmed defect, measured before and after a change."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import sqlalchemy as sa
import torch
from PIL import Image
from torch import Tensor

from continuad.core.detector import OutOfFold, ask
from continuad.errors import ContinuadError
from continuad.files import replace_file, safe_name
from continuad.station.blobs import digest_of
from continuad.station.geometry import Geometry
from continuad.station.judge import DEFECTIVE, GOOD
from continuad.station.tables import check_pictures, measured, members
from continuad.station.taught import Taught
from continuad.station.teach import look_features
from continuad.station.versions import head_of, now

LOOK = "look "  # begins the name of what is measured by a geometry
BUDGET = {GOOD: 2 * 10**6, DEFECTIVE: 20 * 10**6}  # bytes of a product's check pictures, as PNG files


class Checks:
    """The check pictures of a station: working images as PNG files, a table of what they are, and what was measured of
    them. A picture is measured once by each state of its product, so that a change costs what it changes.

    Args:
        folder: of the files. engine: the station's database.
    """

    def __init__(self, folder: Path, engine: sa.Engine):
        self.folder, self.engine = folder, engine

    def add(self, origin: str, images: Tensor, kind: str) -> None:
        """Keep working images (N, 3, H, W): good ones, drawn at random, until their budget is spent; defective ones
        all, and the oldest make room. A picture that was kept as the other kind is that no more."""
        spent = self._bytes(origin, kind)
        order = np.random.default_rng(0).permutation(len(images)) if kind == GOOD else range(len(images))
        for place in order:
            out = io.BytesIO()
            Image.fromarray(images[place].permute(1, 2, 0).numpy()).save(out, "png")
            whole = out.getvalue()
            spent += len(whole)
            if kind == GOOD and spent > BUDGET[kind] and spent > len(whole):  # one at least is kept
                break
            self._keep(origin, whole, kind)
        if kind == DEFECTIVE and spent > BUDGET[kind]:
            self._drop_oldest(origin)

    def drop(self, origin: str, image: Tensor, kind: str) -> None:
        """Keep a working image (3, H, W) no longer, if it was kept as this kind."""
        out = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(out, "png")
        self._erase(origin, digest_of(out.getvalue()), kind)

    def of(self, origin: str) -> tuple[list[str], np.ndarray]:
        """Names (N,) of check pictures by their content, good ones first, and bool (N,) which are defective."""
        good, defective = (self._contents(origin, kind) for kind in (GOOD, DEFECTIVE))
        return [*good, *defective], np.repeat([False, True], [len(good), len(defective)])

    def good(self, origin: str) -> Tensor:
        """The good check pictures (N, 3, H, W)."""
        images = [self.image(origin, content) for content in self._contents(origin, GOOD)]
        return torch.stack(images) if images else torch.empty(0, 3, 1, 1, dtype=torch.uint8)

    def origins(self) -> set[str]:
        """All that have check pictures."""
        with self.engine.connect() as connection:
            return set(connection.scalars(sa.select(check_pictures.c.origin).distinct()))

    def image(self, origin: str, content: str) -> Tensor:
        """A working image (3, H, W) uint8.

        Raises:
            ContinuadError: its file is damaged.
        """
        path = self._path(origin, content)
        try:
            if digest_of(path.read_bytes()) != content:
                raise ValueError("its content has changed since it was written")
            pixels = np.array(Image.open(path).convert("RGB"))
        except (OSError, ValueError) as error:
            raise ContinuadError(
                f"{path}: this check picture cannot be used ({error}); put a copy in its place, or delete it"
            ) from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def scores(self, taught: Taught) -> np.ndarray:
        """(N,) scores of a product's check pictures, each as if it had not been learned where that is possible."""

        def measure(images: Tensor) -> Iterable[Tensor]:
            detector = taught.detector()
            return ask(detector, images, isinstance(detector, OutOfFold)).score

        return self._measured(taught.record.origin, taught.blob, measure)

    def features(self, origin: str, own: Geometry, other: Geometry) -> Tensor:
        """(N, C) pooled features of check pictures of one geometry, as they look in another one.

        Only the working images were kept, so what a geometry left out of them no other one can show.
        """

        def measure(images: Tensor) -> Iterable[Tensor]:
            return look_features(images if own == other else _again(images, other))

        by = f"{LOOK}{digest_of(repr(other).encode())}"
        return torch.from_numpy(np.stack(list(self._measured(origin, by, measure))))

    def forget(self, connection: sa.Connection, origin: str) -> None:
        """Within a transaction: a product has no check pictures from then on. `sweep` removes their files."""
        connection.execute(check_pictures.delete().where(check_pictures.c.origin == origin))

    def sweep(self) -> None:
        """Remove what belongs to no version: rows, and files that no row names; and what was measured by products as
        they are no longer in service."""
        with self.engine.begin() as connection:
            origins = set(connection.scalars(sa.select(members.c.record["origin"].as_string()).distinct()))
            connection.execute(check_pictures.delete().where(check_pictures.c.origin.not_in(origins)))
            kept = connection.execute(sa.select(check_pictures.c.origin, check_pictures.c.content)).all()
            blobs = sa.select(members.c.blob).where(members.c.version == head_of(connection))
            by, contents = measured.c.by, sa.select(check_pictures.c.content)
            connection.execute(measured.delete().where(by.not_like(f"{LOOK}%"), by.not_in(blobs)))
            connection.execute(measured.delete().where(measured.c.content.not_in(contents)))
        named = {self._path(origin, content) for origin, content in kept}
        for file in [path for path in self.folder.glob("*/*") if path not in named]:
            file.unlink(missing_ok=True)
        for folder in [path for path in self.folder.glob("*") if path.is_dir() and not any(path.iterdir())]:
            folder.rmdir()

    def _measured(self, origin: str, by: str, measure: Callable[[Tensor], Iterable[Tensor]]) -> np.ndarray:
        """What `measure` finds of each check picture, (N,) or (N, C) float32; looked up where it was found before."""
        contents, _ = self.of(origin)
        asked = sa.select(measured.c.content, measured.c.found).where(measured.c.by == by)
        with self.engine.connect() as connection:
            there = {row.content: row.found for row in connection.execute(asked)}
        missing = [content for content in contents if content not in there]
        for start in range(0, len(missing), 16):
            some = missing[start : start + 16]
            values = measure(torch.stack([self.image(origin, content) for content in some]))
            found = {name: np.asarray(value, np.float32).tobytes() for name, value in zip(some, values, strict=True)}
            with self.engine.begin() as connection:
                new = [{"content": content, "by": by, "found": value} for content, value in found.items()]
                connection.execute(measured.insert(), new)
            there |= found
        rows = np.array([np.frombuffer(there[content], np.float32) for content in contents])
        return rows[:, 0] if rows.shape[1:] == (1,) else rows

    def _keep(self, origin: str, whole: bytes, kind: str) -> None:
        content = digest_of(whole)
        replace_file(self._path(origin, content), lambda new: new.write_bytes(whole))
        with self.engine.begin() as connection:
            same = check_pictures.c.origin == origin, check_pictures.c.content == content
            connection.execute(check_pictures.delete().where(*same))
            row = {"origin": origin, "content": content, "kind": kind, "at": now()}
            connection.execute(check_pictures.insert().values(**row))

    def _drop_oldest(self, origin: str) -> None:
        while self._bytes(origin, DEFECTIVE) > BUDGET[DEFECTIVE]:
            self._erase(origin, self._contents(origin, DEFECTIVE, oldest_first=True)[0], DEFECTIVE)

    def _erase(self, origin: str, content: str, kind: str) -> None:
        mine = check_pictures.c.origin == origin, check_pictures.c.content == content, check_pictures.c.kind == kind
        with self.engine.begin() as connection:
            connection.execute(check_pictures.delete().where(*mine))

    def _contents(self, origin: str, kind: str, oldest_first: bool = False) -> Sequence[str]:
        asked = sa.select(check_pictures.c.content).where(
            check_pictures.c.origin == origin, check_pictures.c.kind == kind
        )
        asked = asked.order_by(*([check_pictures.c.at] if oldest_first else []), check_pictures.c.content)
        with self.engine.connect() as connection:
            found = list(connection.scalars(asked))
        return [content for content in found if self._path(origin, content).is_file()]

    def _bytes(self, origin: str, kind: str) -> int:
        return sum(self._path(origin, content).stat().st_size for content in self._contents(origin, kind))

    def _path(self, origin: str, content: str) -> Path:
        return self.folder / safe_name(origin) / f"{content}.png"


def _again(images: Tensor, geometry: Geometry) -> Tensor:
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    return torch.from_numpy(np.stack([geometry.apply(picture) for picture in pictures]))
