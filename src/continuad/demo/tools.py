"""What every drawn product is made with: sample points, shapes, shading, grain and paint.

A drawing is a (3, H, W) float32 array of samples (0 black, 1 white), finer than the image that is made of it.
Geometry is relative: the shorter side of the picture runs from -1 to 1, x to the right and y down, so a part
looks the same at every size. Shapes are signed distances (negative inside), which `cover` turns into smooth
edges; solid bodies are heights, which `relief` lights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray
Colour = Sequence[float | Array]
Light = tuple[float, float, float]
Points = Sequence[tuple[float, float]]


# ---------------------------------------------------------------------------------------------------------
# Where the samples lie


@dataclass(frozen=True)
class Grid:
    """Sample points in the coordinates of a part.

    Attributes:
        x, y: (h, w) float32, where each sample lies.
        step: the distance between neighbouring samples.
        turn, shift: the part's (2, 2) rotation and scale, and its (2,) place, in samples of the drawing.
        at: the rows and columns of the drawing that this grid covers.
    """

    x: Array
    y: Array
    step: float
    turn: Array
    shift: Array
    at: tuple[slice, slice]

    def moved(self, angle: float = 0.0, dx: float = 0.0, dy: float = 0.0, scale: float = 1.0) -> Grid:
        """The same samples seen from a part that is scaled, then turned (radians), then shifted."""
        c, s = math.cos(angle), math.sin(angle)
        x, y = (self.x - dx) / scale, (self.y - dy) / scale
        forth = np.array([[c, -s], [s, c]]) * scale
        return replace(
            self,
            x=c * x + s * y,
            y=c * y - s * x,
            step=self.step / scale,
            turn=self.turn @ forth,
            shift=self.turn @ np.array([dx, dy]) + self.shift,
        )

    def to_samples(self, points: Points | Array) -> Array:
        """(n, 2) columns and rows of part coordinates, counted from this grid's own corner."""
        corner = (self.at[1].start, self.at[0].start)
        return np.asarray(points, dtype=float) @ self.turn.T + self.shift - corner

    def near(self, x: float, y: float, reach: float, down: float | None = None) -> Grid:
        """The samples within `reach` of (x, y), at least one: small things are painted faster on few samples.

        With `down` they are those in a rectangle of ± `reach` × ± `down` (and what its turning takes in).
        """
        rows, columns = self.at
        if down is None:
            centre, radius = self.to_samples([(x, y)])[0], reach / self.step
            low, high = centre - radius, centre + radius
        else:
            corners = self.to_samples([(x + i * reach, y + j * down) for i in (-1, 1) for j in (-1, 1)])
            low, high = corners.min(axis=0), corners.max(axis=0)
        span = []
        for first, last, count in zip(low, high, self.x.shape[::-1], strict=True):
            start = min(max(int(first) - 1, 0), count - 1)
            span.append(slice(start, min(max(int(last) + 3, start + 1), count)))
        cut = (span[1], span[0])
        at = (
            slice(rows.start + cut[0].start, rows.start + cut[0].stop),
            slice(columns.start + cut[1].start, columns.start + cut[1].stop),
        )
        return replace(self, x=self.x[cut], y=self.y[cut], at=at)

    def within(self, larger: Grid) -> tuple[slice, slice]:
        """The rows and columns of `larger` that this grid, cut from it by `near`, covers."""
        top, left = larger.at[0].start, larger.at[1].start
        rows, columns = self.at
        return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)


def sample_grid(height: int, width: int) -> Grid:
    """All samples of a drawing of `height` × `width` samples."""
    step = 2.0 / min(height, width)
    x = ((np.arange(width) + 0.5) * step - width * step / 2).astype(np.float32)
    y = ((np.arange(height) + 0.5) * step - height * step / 2).astype(np.float32)
    wide, tall = np.meshgrid(x, y)
    shift = np.array([width / 2 - 0.5, height / 2 - 0.5])
    return Grid(wide, tall, step, np.eye(2) / step, shift, (slice(0, height), slice(0, width)))


# ---------------------------------------------------------------------------------------------------------
# Shapes: signed distances, negative inside


def box(g: Grid, cx: float, cy: float, half_width: float, half_height: float, corner: float = 0.0) -> Array:
    """A rectangle with round corners."""
    qx = np.abs(g.x - cx) - (half_width - corner)
    qy = np.abs(g.y - cy) - (half_height - corner)
    outside = norm(np.maximum(qx, 0), np.maximum(qy, 0))
    return outside + np.minimum(np.maximum(qx, qy), 0) - corner


def norm(x: Array, y: Array) -> Array:
    """The length of (x, y); quicker than hypot, and nothing here overflows."""
    return np.sqrt(x * x + y * y)


def disc(g: Grid, cx: float, cy: float, radius: float) -> Array:
    """A circle."""
    return norm(g.x - cx, g.y - cy) - radius


def stick(g: Grid, ax: float, ay: float, bx: float, by: float) -> Array:
    """Distance to the line from (ax, ay) to (bx, by)."""
    dx, dy = bx - ax, by - ay
    along = ((g.x - ax) * dx + (g.y - ay) * dy) / max(dx * dx + dy * dy, 1e-9)
    along = np.clip(along, 0, 1)
    return norm(g.x - ax - along * dx, g.y - ay - along * dy)


def path(g: Grid, points: Points) -> Array:
    """Distance to a chain of lines."""
    legs = [stick(g, *start, *end) for start, end in pairwise(points)]
    return np.minimum.reduce(legs)


def cover(distance: Array, step: float, soft: float = 0.0) -> Array:
    """How much of each sample lies inside (0 to 1); `soft` widens the edge."""
    return np.clip(0.5 - distance / (step + soft), 0, 1)


def polygon(g: Grid, points: Points | Array) -> Array:
    """How much of each sample a polygon covers (0 or 1)."""
    image = Image.new("L", (g.x.shape[1], g.x.shape[0]))
    ImageDraw.Draw(image).polygon([tuple(p) for p in g.to_samples(points)], fill=255)
    return np.asarray(image, dtype=np.float32) / 255


def strokes(g: Grid, chains: Sequence[Points | Array], width: float) -> Array:
    """How much of each sample chains of lines `width` wide cover (0 or 1)."""
    image = Image.new("L", (g.x.shape[1], g.x.shape[0]))
    pen = ImageDraw.Draw(image)
    for chain in chains:
        pen.line(
            [tuple(p) for p in g.to_samples(chain)],
            fill=255,
            width=max(1, round(width / g.step)),
            joint="curve",
        )
    return np.asarray(image, dtype=np.float32) / 255


_LETTERS: dict[str, list[list[tuple[float, float]]]] = {
    "0": [[(0.31 * math.sin(a), -0.5 * math.cos(a)) for a in np.linspace(0, 2 * math.pi, 17).tolist()]],
    "5": [
        [
            (0.28, -0.5),
            (-0.24, -0.5),
            (-0.28, -0.06),
            (0.05, -0.13),
            (0.28, 0.04),
            (0.3, 0.26),
            (0.12, 0.48),
            (-0.28, 0.44),
        ]
    ],
    "F": [[(-0.25, 0.5), (-0.25, -0.5), (0.3, -0.5)], [(-0.25, -0.02), (0.2, -0.02)]],
    "K": [[(-0.27, -0.5), (-0.27, 0.5)], [(0.3, -0.5), (-0.25, 0.06)], [(-0.08, -0.1), (0.32, 0.5)]],
}


def letters(text: str, x: float, y: float, height: float) -> list[list[tuple[float, float]]]:
    """The pen strokes of a short text (0, 5, F, K) about (x, y)."""
    start = x - 0.84 * height * (len(text) - 1) / 2
    return [
        [(start + 0.84 * height * i + height * u, y + height * v) for u, v in chain]
        for i, letter in enumerate(text)
        for chain in _LETTERS[letter]
    ]


def blot(
    rng: np.random.Generator, cx: float, cy: float, radius: float, rough: float = 0.35
) -> list[tuple[float, float]]:
    """The outline of an irregular spot, 28 points."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    wave = np.zeros_like(angle)
    for k in (1, 2, 3, 5, 8):
        wave += rng.normal() / k**0.8 * np.sin(k * angle + rng.uniform(0, 2 * np.pi))
    r = radius * np.clip(1 + rough * 0.5 * wave, 0.35, 1.8)
    return [(cx + a, cy + b) for a, b in zip(r * np.cos(angle), r * np.sin(angle), strict=True)]


def wander(
    rng: np.random.Generator, x: float, y: float, angle: float, length: float, bend: float, pieces: int = 7
) -> list[tuple[float, float]]:
    """A crooked line of `pieces` lines from (x, y) in direction `angle`; `bend` is its unrest in radians."""
    points = [(x, y)]
    for turn in rng.normal(0, bend, pieces):
        heading = angle + turn
        x, y = x + length / pieces * math.cos(heading), y + length / pieces * math.sin(heading)
        points.append((x, y))
    return points


# ---------------------------------------------------------------------------------------------------------
# Grain: noise that belongs to the part, not to the sensor


def lattice(rng: np.random.Generator) -> Array:
    """64 × 64 normal values that `grain` looks up; it repeats endlessly."""
    return rng.standard_normal((64, 64), dtype=np.float32)


def grain(values: Array, u: Array, v: Array) -> Array:
    """Smooth noise at any coordinates, one wave per unit, standard deviation about 0.6."""
    cell_u, cell_v = np.floor(u), np.floor(v)
    a, b = u - cell_u, v - cell_v
    a *= a * (3 - 2 * a)
    b *= b * (3 - 2 * b)
    left, top = cell_u.astype(np.int32) & 63, (cell_v.astype(np.int32) & 63) << 6
    right, below = (left + 1) & 63, (top + 64) & 4095
    flat = values.ravel()
    upper, lower = flat.take(top + left), flat.take(below + left)
    upper += a * (flat.take(top + right) - upper)
    lower += a * (flat.take(below + right) - lower)
    lower -= upper
    lower *= b
    return lower + upper


def cloud(values: Array, g: Grid, waves: float, octaves: int = 3, stretch: float = 1.0) -> Array:
    """Fractal noise, deviation about 0.8; it moves and grows with the part but doesn't turn, which makes it fast.

    Args:
        waves: the coarsest octave's waves per unit; each further octave is twice as fine and 0.6 as strong.
        stretch: how many times longer the grain is in x than in y.
    """
    total = np.zeros(g.x.shape, np.float32)
    rows, columns = level(g)
    for octave in range(octaves):
        down, t = _cells(rows * (waves * 2**octave) + 7.9 * octave)
        bands = values.take(down & 63, axis=0) * (1 - t) + values.take((down + 1) & 63, axis=0) * t
        across, t = _cells(columns * (waves / stretch * 2**octave) + 17.3 * octave)
        bands = np.ascontiguousarray(bands.T)  # whole rows are quicker to pick than single columns
        field = bands.take(across & 63, axis=0)
        field += t * (bands.take((across + 1) & 63, axis=0) - field)
        field *= 0.6**octave
        total += field.T
    return total


def _cells(at: Array) -> tuple[Array, Array]:
    """The lattice line below each of n places, and a smooth (n, 1) share of the way to the next."""
    cell = np.floor(at)
    t = (at - cell)[:, None]
    return cell.astype(np.int32), t * t * (3 - 2 * t)


def level(g: Grid) -> tuple[Array, Array]:
    """Heights of the grid's rows and places of its columns as if the part weren't turned."""
    rows = (np.arange(g.at[0].start, g.at[0].stop) - g.shift[1]) * g.step
    columns = (np.arange(g.at[1].start, g.at[1].stop) - g.shift[0]) * g.step
    return rows.astype(np.float32), columns.astype(np.float32)


# ---------------------------------------------------------------------------------------------------------
# Light on solid bodies


def lamp(rng: np.random.Generator, spread: float = 0.5, height: float = 1.2) -> Light:
    """Where the light comes from: from above left, give or take `spread` radians."""
    angle = -2.2 + rng.uniform(-spread, spread)
    length = math.sqrt(1 + height * height)
    return math.cos(angle) / length, math.sin(angle) / length, height / length


def slopes(height: Array, step: float) -> tuple[Array, Array]:
    """The height's rise to the right and downwards (per unit)."""
    right, down = np.zeros_like(height), np.zeros_like(height)
    right[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * (0.5 / step)
    down[1:-1] = (height[2:] - height[:-2]) * (0.5 / step)
    return right, down


def relief(height: Array, step: float, light: Light, power: int = 4) -> tuple[Array, Array]:
    """Light on a surface seen from above.

    Args:
        height: (h, w), in the same unit as `step`.
        power: the highlight's sharpness: the cosine is squared so many times.

    Returns:
        matt: (h, w), 0 in shadow, about 1 facing the lamp (Lambert); gloss: (h, w) 0 to 1 (Blinn, Phong).
    """
    right, down = slopes(height, step)
    upright = 1 / np.sqrt(1 + right * right + down * down)
    lx, ly, lz = light
    matt = np.maximum((lz - lx * right - ly * down) * upright, 0)
    half = math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    gloss = np.maximum((lz + 1 - lx * right - ly * down) * upright / half, 0)
    for _ in range(power):
        gloss = gloss * gloss
    return matt, gloss


def dome(distance: Array, width: float) -> Array:
    """The height of a rounded edge `width` wide, from 0 on the outline to `width` further in."""
    t = np.clip(1 + distance / width, 0, 1)
    return width * np.sqrt(1 - t * t)


def bell(x: Array, middle: float, width: float) -> Array:
    """A smooth bump of height 1 that ends at `middle` ± `width`."""
    t = np.clip(1 - ((x - middle) / width) ** 2, 0, 1)
    return t * t


# ---------------------------------------------------------------------------------------------------------
# Paint


def rgb(code: str) -> tuple[float, float, float]:
    """A colour such as "8a5a2b" as three fractions."""
    red, green, blue = (int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


def blank(g: Grid, colour: Colour, shade: float | Array = 1.0) -> Array:
    """A new drawing, (3, H, W) float32, all of one colour times `shade`."""
    drawing = np.empty((3, *g.x.shape), np.float32)
    for plane, value in zip(drawing, colour, strict=True):
        plane[:] = value * shade
    return drawing


def paint(
    drawing: Array,
    g: Grid,
    amount: Array,
    colour: Colour,
    shade: float | Array = 1.0,
    shine: float | Array = 0.0,
) -> None:
    """Lays `colour` × `shade` + `shine` over what is there, where `amount` (0 to 1) says."""
    for plane, value in zip(drawing[:, g.at[0], g.at[1]], colour, strict=True):
        plane += amount * (value * shade + shine - plane)


def darken(drawing: Array, g: Grid, amount: Array) -> None:
    """Takes away the given share of light (negative: adds), in place."""
    drawing[:, g.at[0], g.at[1]] *= 1 - amount


def shadow(drawing: Array, g: Grid, distance: Array, width: float, strength: float) -> None:
    """A soft shadow that fades out within `width` of a shape."""
    fade = np.clip(1 - np.maximum(distance, 0) / width, 0, 1)
    darken(drawing, g, strength * fade * fade)
