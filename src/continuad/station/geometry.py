"""How a picture becomes the working image, and how its map finds the way back into the picture's own pixels."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from continuad.data.decode import read_picture
from continuad.errors import ContinuadError
from continuad.station.align import pose_of, put_back, reference_of, straighten

Fit = Literal["stretch", "pad", "crop"]
FITS = ("stretch", "pad", "crop")
MASK = 1024  # pixels of the longer side that a region's mask is kept with
GREY = (128, 128, 128)  # where there is no picture, or none that counts


@dataclass(frozen=True)
class Geometry:
    """One geometry for learning, maps and masks.

    Attributes:
        size: (height, width) of the working image.
        fit: "stretch" to the working image; "pad" keeps the aspect ratio and all of the picture; "crop" keeps the
            aspect ratio and fills the working image with the picture's middle.
        region: (left, top, right, bottom) in shares of the picture in [0, 1]; what lies outside never counts. None:
            all of it.
        mask: a region of any form in place of the rectangle, see `mask_from`; empty: none.
        align: turn and move the part as the others of its product lie, see `align`; not with a region.
        reference: how they lie, see `with_reference`; empty before the product is taught.

    Raises:
        ContinuadError: no such fit, a region without a pixel of the working image, or a region of aligned parts.
    """

    size: tuple[int, int] = (256, 256)
    fit: Fit = "stretch"
    region: tuple[float, float, float, float] | None = None
    mask: str = ""
    align: bool = False
    reference: str = ""

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ContinuadError(f"fit '{self.fit}' is not known; use one of {', '.join(FITS)}")
        if self.region is not None:
            left, top, right, bottom = self.region
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ContinuadError(
                    f"region {self.region}: give left, top, right, bottom as shares of the picture, such as 0,0,0.5,1"
                )
        if self.align and (self.region is not None or self.mask):
            raise ContinuadError(
                "--align moves the part, and --region says where in the picture to look: give one of them"
            )
        if not self.counts(self.size).any():
            raise ContinuadError(f"the region holds no pixel of the working image ({self.size[0]} x {self.size[1]})")

    def with_reference(self, images: np.ndarray) -> Geometry:
        """The same, knowing how the working images (N, 3, H, W) of a product lie, where they are to be aligned."""
        return replace(self, reference=reference_of(images)) if self.align else self

    def apply(self, rgb: Image.Image) -> np.ndarray:
        """The working image (3, H, W) uint8 of an RGB picture."""
        return self.aligned(self._fitted(rgb))

    def aligned(self, image: np.ndarray) -> np.ndarray:
        """A working image (3, H, W) as the product's others lie."""
        return straighten(image, pose_of(image, self.reference)) if self.reference else image

    def _fitted(self, rgb: Image.Image) -> np.ndarray:
        height, width = self.size
        out = Image.new("RGB", (width, height), GREY)
        box = self._box(rgb.height, rgb.width)
        shown = self._without_outside(rgb)
        if self.fit == "crop":
            left, top, right, bottom = box
            scale_x, scale_y = rgb.width / (right - left), rgb.height / (bottom - top)
            cut = (-left * scale_x, -top * scale_y, (width - left) * scale_x, (height - top) * scale_y)
            out = shown.resize((width, height), Image.Resampling.BILINEAR, cut)
        else:
            left, top, right, bottom = box
            out.paste(shown.resize((right - left, bottom - top), Image.Resampling.BILINEAR), (left, top))
        return np.ascontiguousarray(np.asarray(out, dtype=np.uint8).transpose(2, 0, 1))

    def back(self, values: np.ndarray, rgb: Image.Image, outside: float) -> np.ndarray:
        """A map (H, W) of the working image in the picture's own pixels, float32.

        What the working image does not show, and what lies outside the region, is `outside`.
        """
        size = height, width = rgb.height, rgb.width
        if self.reference:
            values = put_back(values, pose_of(self._fitted(rgb), self.reference), outside)
        left, top, right, bottom = self._box(height, width)
        across, down = (right - left) / width, (bottom - top) / height
        corners = (left, top, left + across * width, top + down * height)
        found = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
        inside = (max(0, left), max(0, top), min(self.size[1], right), min(self.size[0], bottom))
        first_x, first_y = round((inside[0] - corners[0]) / across), round((inside[1] - corners[1]) / down)
        last_x, last_y = round((inside[2] - corners[0]) / across), round((inside[3] - corners[1]) / down)
        part = found.resize((last_x - first_x, last_y - first_y), Image.Resampling.BILINEAR, inside)
        out = np.full(size, outside, np.float32)
        out[first_y:last_y, first_x:last_x] = np.asarray(part)
        return np.where(self.counts(size), out, np.float32(outside))

    def counts(self, size: tuple[int, int]) -> np.ndarray:
        """(height, width) bool, which pixels of the picture lie inside the region."""
        if self.mask:
            scaled = _decoded(self.mask).resize(size[::-1], Image.Resampling.NEAREST)
            return np.asarray(scaled) > 0
        rows, columns = np.ones(size[0], bool), np.ones(size[1], bool)
        if self.region is not None:
            left, top, right, bottom = self.region
            y, x = (np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1]
            rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
        return rows[:, None] & columns

    def _box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the whole picture in the working image; beyond its edges for "crop"."""
        tall, wide = self.size
        if self.fit == "stretch":
            return 0, 0, wide, tall
        scales = (tall / height, wide / width)
        scale = min(scales) if self.fit == "pad" else max(scales)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        left, top = (wide - columns) // 2, (tall - rows) // 2
        return left, top, left + columns, top + rows

    def _without_outside(self, rgb: Image.Image) -> Image.Image:
        if self.region is None and not self.mask:
            return rgb
        pixels = np.array(rgb, dtype=np.uint8)
        pixels[~self.counts((rgb.height, rgb.width))] = GREY
        return Image.fromarray(pixels)

    def plain(self) -> dict[str, Any]:
        """As values that JSON holds."""
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Geometry:
        """From what `plain` gave."""
        height, width = values["size"]
        region = values.get("region")
        known = values | {"size": (height, width), "region": None if region is None else tuple(region)}
        return cls(**known)


def mask_from(path: Path) -> str:
    """A region from a picture: what is brighter than half counts. It covers the pictures it is laid over, whatever
    their size; give it their shape.

    Returns:
        a black-and-white PNG in base64, at most `MASK` pixels wide and high.

    Raises:
        ContinuadError: it cannot be read, or marks everything or nothing.
    """
    grey = read_picture(path).rgb.convert("L")
    grey.thumbnail((MASK, MASK), Image.Resampling.BOX)
    counts = np.asarray(grey) >= 128
    if counts.all() or not counts.any():
        what = "everything" if counts.all() else "nothing"
        raise ContinuadError(
            f"{path}: {what} in this mask is brighter than half; paint white what counts, black the rest"
        )
    out = io.BytesIO()
    Image.fromarray(counts).save(out, "png")
    return base64.b64encode(out.getvalue()).decode("ascii")


@lru_cache(maxsize=64)
def _decoded(mask: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(mask))).convert("L")
