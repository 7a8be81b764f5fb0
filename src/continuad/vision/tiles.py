"""Large pictures: any detector learns and scores tiles, and their maps are stitched."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from continuad.core.detector import (
    Detector,
    HasMoments,
    OutOfFold,
    distance_of,
    features_of,
    owners_of,
    validation_loss_of,
)
from continuad.core.hints import ImageSize, Range
from continuad.core.state import Policy
from continuad.core.types import Prediction
from continuad.errors import ContinuadError


class Tiled(Detector):
    """A detector of tiles inside a detector of whole pictures. `tiled` makes the class for a kind of detector.

    Tiles of one size cover the picture evenly, neighbours overlapping at least as asked. All tiles are images of one
    kind to the detector inside, wherever they lie. By statistics it learns every tile of every picture; by gradient a
    step takes one random tile of each picture, so that a batch stays what it was.

    Maps are stitched by a mean in which a tile counts less toward its edges, so that no seam is left; the score is the
    highest of all tiles. Thresholds are set on whole stitched pictures.

    Args:
        image_size: of the whole picture, side or (H, W).
        tile: side of a tile or (H, W), not larger than the picture.
        overlap: pixels that neighbours share at least, smaller than a tile.
        options: the inner detector's.

    Raises:
        ContinuadError: the tile does not fit the picture, or the overlap the tile.
    """

    kind: ClassVar[type[Detector]]

    def __init__(
        self,
        image_size: ImageSize,
        tile: ImageSize = 256,
        overlap: Annotated[int, Range(0, 32_768)] = 32,
        **options: Any,
    ):
        super().__init__(image_size)
        self.inner = self.kind(image_size=tile, **options)
        self.tile, self.overlap = tile, overlap
        height, width = self.inner.image_size
        if height > self.image_size[0] or width > self.image_size[1]:
            raise ContinuadError(
                f"tile {height} x {width} is larger than the picture, {' x '.join(map(str, self.image_size))}"
            )
        if not 0 <= overlap < min(height, width):
            raise ContinuadError(f"overlap={overlap} must be at least 0 and smaller than the tile, {height} x {width}")
        for name in inspect.signature(self.kind).parameters:
            if name != "image_size":
                setattr(self, name, getattr(self.inner, name))
        self.stats = self.inner.stats  # one store: what is learned lies there
        self.batch_size, self.steps = self.inner.batch_size, self.inner.steps
        rows, columns = (
            starts(whole, part, overlap) for whole, part in zip(self.image_size, self.inner.image_size, strict=True)
        )
        self.corners = [(top, left) for top in rows for left in columns]

    def __reduce__(self) -> tuple[Any, ...]:
        """Its class has no name of its own, so pickle makes it again from the kind."""
        return _unfilled, (self.kind,), vars(self)

    def cut(self, images: Tensor) -> Tensor:
        """Tiles (B, T, 3, h, w) of pictures (B, 3, H, W), row by row."""
        height, width = self.inner.image_size
        return torch.stack([images[..., y : y + height, x : x + width] for y, x in self.corners], 1)

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Let the detector inside look at all tiles."""
        self.inner.begin(self._tiles(images), statistics)

    def step(self, images: Tensor) -> Tensor | None:
        """One random tile of each picture, or all tiles for statistics."""
        if self.learns_by == "gradient":
            chosen = torch.randint(len(self.corners), (len(images),)).to(images.device)
            return self.inner.step(self.cut(images)[torch.arange(len(images), device=images.device), chosen])
        if isinstance(self, OutOfFold):
            self.step_of(images, owners_of(images))
        else:
            for tiles in self._tiles([images]):
                self.inner.step(tiles)
        return None

    def finish(self) -> None:
        """As the detector inside."""
        self.inner.finish()

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Calibrate the detector inside on tiles."""
        self.inner.calibrate(self._tiles(images))

    def _predict(self, images: Tensor) -> Prediction:
        """Highest score of all tiles, and their maps stitched."""
        found = [self._one(image) for image in images]
        return Prediction(torch.stack([p.score for p in found]), torch.stack([p.map for p in found]))

    def _one(self, image: Tensor, owner: Tensor | None = None) -> Prediction:
        """One picture (3, H, W): its score () and map (H, W); with an owner, as if nothing of it had been learned."""
        parts = [
            self.inner.predict(tiles) if owner is None else self.inner.predict_without(tiles, owner.expand(len(tiles)))  # type: ignore[operator]
            for tiles in self._tiles([image[None]])
        ]
        return Prediction(torch.cat([p.score for p in parts]).amax(), self.stitch(torch.cat([p.map for p in parts])))

    def _step_of(self, images: Tensor, owners: Tensor) -> None:
        """All tiles of every picture, each its picture's."""
        for picture, owner in zip(images, owners, strict=True):
            for tiles in self._tiles([picture[None]]):
                self.inner.step_of(tiles, owner.expand(len(tiles)))  # type: ignore[operator]

    def _predict_without(self, images: Tensor, owners: Tensor) -> Prediction:
        """As `_predict`, each picture as if none of its tiles had been learned."""
        found = [self._one(picture, owner) for picture, owner in zip(images, owners, strict=True)]
        return Prediction(torch.stack([p.score for p in found]), torch.stack([p.map for p in found]))

    def stitch(self, maps: Tensor) -> Tensor:
        """(H, W) from the maps of a picture's tiles (T, h, w)."""
        height, width = maps.shape[1:]
        weight = _ramp(height, self.overlap, maps)[:, None] * _ramp(width, self.overlap, maps)
        total, weights = maps.new_zeros(2, *self.image_size)
        for (y, x), tile in zip(self.corners, maps, strict=True):
            total[y : y + height, x : x + width] += weight * tile
            weights[y : y + height, x : x + width] += weight
        return total / weights

    def forward(self, images: Tensor) -> list[Tensor]:
        """The inner detector's answers to all tiles, (B T, C, ...)."""
        return self.inner(self.cut(images).flatten(0, 1))

    def distance(self, new: list[Tensor], old: list[Tensor]) -> Tensor:
        """The inner detector's."""
        return distance_of(self.inner, new, old)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(B, C): mean over the tiles."""
        tiles = self.cut(images)
        return torch.stack([features_of(self.inner, of_one).mean(0) for of_one in tiles])

    def optimiser(self) -> torch.optim.Optimizer:
        """The inner detector's."""
        return self.inner.optimiser()

    def learning_rate(self, progress: float) -> float:
        """The inner detector's."""
        return self.inner.learning_rate(progress)

    def validation_loss(self, images: Tensor) -> Tensor:
        """Mean over all tiles."""
        losses = [validation_loss_of(self.inner, tiles) * len(tiles) for tiles in self._tiles([images])]
        return torch.stack(losses).sum() / (len(images) * len(self.corners))

    def _tiles(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """All tiles of all pictures in batches of the inner detector's, picture by picture."""
        for some in images:
            for picture in some:
                yield from self.cut(picture[None])[0].to(self.device).split(self.batch_size)


@cache
def tiled(kind: type[Detector]) -> type[Detector]:
    """The tiled form of a kind of detector; its options are those of `Tiled` and the detector's own."""
    body: dict[str, Any] = {"kind": kind, "learns_by": kind.learns_by, "__doc__": f"{kind.__name__} on tiles."}
    if issubclass(kind, OutOfFold) and getattr(kind, "leaves_out_groups", False):
        body["step_of"], body["predict_without"] = Tiled._step_of, Tiled._predict_without
        body["leaves_out_groups"] = True
    if issubclass(kind, HasMoments):
        body["moments"] = lambda self: self.inner.moments()
        body["set_moments"] = lambda self, moments: self.inner.set_moments(moments)
    made = type(f"Tiled{kind.__name__}", (Tiled,), body)
    own = [p for p in inspect.signature(Tiled.__init__).parameters.values() if p.name not in ("self", "options")]
    inner = [p for p in inspect.signature(kind).parameters.values() if p.name != "image_size"]
    made.__signature__ = inspect.Signature([*own, *inner])  # type: ignore[attr-defined]
    return made


def _unfilled(kind: type[Detector]) -> Detector:
    """A tiled detector of a kind without its attributes."""
    made = tiled(kind)  # type: ignore[arg-type]
    return made.__new__(made)


def starts(whole: int, part: int, overlap: int) -> list[int]:
    """Where parts begin that cover a whole evenly, each overlapping the next by at least `overlap`.

    >>> starts(100, 40, 10)  # [0, 30, 60]
    """
    number = -(-(whole - overlap) // (part - overlap))
    return [round(i * (whole - part) / max(1, number - 1)) for i in range(number)]


def _ramp(length: int, overlap: int, like: Tensor) -> Tensor:
    """(length,) weights of a tile's rows: rising to 1 over the overlap, and falling again."""
    rising = torch.arange(1, length + 1, device=like.device) / (overlap + 1)
    return torch.minimum(rising, rising.flip(0)).clamp_max(1).to(like.dtype)
