"""Image, mask, heat map, predicted mask and overlay of example images, on one colour scale per product."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from continuad.report import style
from continuad.report.drawing import INK
from continuad.report.files import Examples

PANELS = ("image", "mask", "heat map", "predicted mask", "overlay")

# Blue up to the threshold, amber above it: lightness rises throughout, so it also reads without colour.
HEAT = LinearSegmentedColormap.from_list(
    "heat", [(0.0, "#0d1b2a"), (0.49, "#3f7196"), (0.51, "#d9741f"), (0.75, "#f9b13c"), (1.0, "#fff3b8")]
)
TRUTH, PREDICTED = (255, 255, 255), (235, 40, 125)
_BLANK, _HATCH = 236, 222
_WRONG = "#b3261e"
# In pixels: white around a panel; left margin, room for labels and for the colour bar, head, between products.
_EDGE, _MARGIN, _LABELS, _BAR, _HEAD, _GAP = 3, 18, 262, 216, 93, 36


def scale(centre: float, threshold: float, maps: np.ndarray) -> tuple[float, float]:
    """The colour scale of one product: an ordinary good surface at its bottom, the threshold in its middle.

    Args:
        centre: map value of an ordinary good surface.
        threshold: map value above which the model calls a pixel defective.
        maps: the product's maps, of any shape; only used where centre and threshold span no scale (equal,
            the wrong way round or not finite).

    Returns:
        vmin < vmax, with vmin = centre and vmax = centre + 2 (threshold - centre). Without a usable threshold
        the scale ends at the highest value, so that a product without any contrast stays dark.
    """
    finite = maps[np.isfinite(maps)]
    if not np.isfinite(centre):
        centre = float(np.median(finite)) if finite.size else 0.0
    span = 2 * (threshold - centre)
    if not (np.isfinite(span) and span > 0):
        span = float(finite.max(initial=centre)) - centre
    # Below float32's resolution at this height a span would vanish again.
    return centre, centre + max(span, 1e-6 * max(1.0, abs(centre)))


def heat(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Maps (..., H, W) as colours (..., H, W, 3) uint8 between `low` and `high`; NaN is low."""
    share = np.nan_to_num((values.astype(np.float64) - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    return HEAT(share.clip(0, 1), bytes=True)[..., :3]


def contour(mask: np.ndarray, width: int = 1) -> np.ndarray:
    """The inner edge of a mask (H, W), `width` pixels wide; the image's border counts as an edge.

    So a mask of the whole image has a visible frame, and an empty one has nothing.
    """
    return mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=0)


def panels(examples: Examples, at: int, size: int) -> list[np.ndarray]:
    """The five pictures of one example as in PANELS, each (h, w, 3) uint8, its longer side `size`."""
    low, high = scale(examples.centre, examples.threshold, examples.map)
    image = _resized(examples.image[at], size)
    shape = image.shape[:2]
    # The map is enlarged before it is coloured: blending colours would show values that are not there.
    values = np.asarray(
        Image.fromarray(examples.map[at].astype(np.float32)).resize(shape[::-1], Image.Resampling.BILINEAR)
    )
    colours, decision = heat(values, low, high), _mask(examples.decision[at], shape)
    known = bool(examples.mask_known[at])
    truth = _mask(examples.mask[at], shape) if known else np.zeros(shape, bool)
    return [
        image,
        _two_tone(truth) if known else _no_mask(shape),
        colours,
        _two_tone(decision),
        overlay(image, values, truth, decision, low, high),
    ]


def overlay(
    image: np.ndarray, values: np.ndarray, truth: np.ndarray, decision: np.ndarray, low: float, high: float
) -> np.ndarray:
    """The image with its heat laid over and two outlines: white the truth, magenta the predicted mask.

    Heat shows in proportion to its value, fully from the threshold on: a good surface keeps its own look.
    """
    share = np.nan_to_num((values - low) / (high - low), nan=0.0).clip(0, 1)
    weight = (0.62 * np.minimum(2 * share, 1) ** 1.5)[..., None]
    result = ((1 - weight) * image + weight * heat(values, low, high)).round().astype(np.uint8)
    width = max(1, round(max(image.shape[:2]) / 110))
    for mask, colour in ((decision, PREDICTED), (truth, TRUTH)):
        edge = contour(mask, width)
        result[ndimage.binary_dilation(edge) & ~edge] //= 3  # a dark rim, so that white shows on white
        result[edge] = colour
    return result


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    factor = size / max(height, width)
    to = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(image).resize(to, Image.Resampling.LANCZOS))


def _mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    grey = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(grey) > 127


def _two_tone(mask: np.ndarray) -> np.ndarray:
    return np.repeat(np.where(mask, 255, 22).astype(np.uint8)[..., None], 3, axis=-1)


def _no_mask(shape: tuple[int, int]) -> np.ndarray:
    """A pale hatched panel: not "no defect" but "nobody drew one"."""
    y, x = np.indices(shape)
    stripes = np.where((x + y) // max(3, max(shape) // 28) % 2, _BLANK, _HATCH).astype(np.uint8)
    return np.repeat(stripes[..., None], 3, axis=-1)


def verdict(examples: Examples, at: int) -> tuple[str, bool]:
    """What the image is and what the model decided, in words; and whether that was right."""
    truth = "defective" if examples.label[at] else "good"
    said = "rejected" if examples.flagged[at] else "passed"
    return f"{truth}, {said}", bool(examples.label[at]) == bool(examples.flagged[at])


def gallery(products: Sequence[tuple[str, Examples]], title: str, size: int = 192) -> Image.Image:
    """A row per example, five panels, a colour bar per product, as in figures 5.2, 5.5 and 5.6 of Bugaric 2023.

    Pasted pixel by pixel: photographs in a plotting library would be resampled, and take five times as long.

    Args:
        products: (name, examples) in training order, at least one.
        title: stands above.
        size: longer side of a panel in pixels.
    """
    tall = max(one.image.shape[1] / max(one.image.shape[1:3]) for _, one in products)
    # A row has room for four lines of text, however wide its pictures are.
    column, row = size + 2 * _EDGE, max(round(size * tall) + 2 * _EDGE, 112)
    right = _LABELS + 5 * column
    paper = Image.new("RGB", (right + _BAR, _HEAD + sum(len(one) * row + _GAP for _, one in products)), "white")
    draw = ImageDraw.Draw(paper)
    _text(draw, _MARGIN, 30, title, 23, bold=True)
    for number, head in enumerate(PANELS):
        _text(draw, _LABELS + (number + 0.5) * column, 74, head, 19, anchor="mm")
    top = _HEAD
    for name, examples in products:
        _text(draw, _MARGIN, top + 21, style.short(name, 18), 20, bold=True)
        _colour_bar(paper, draw, examples, (right + 16, top + 12, right + 31, top + len(examples) * row - 12))
        for at in range(len(examples)):
            paper.paste(Image.fromarray(_strip(examples, at, size, row)), (_LABELS, top))
            _row_label(draw, examples, at, top + 21)
            if not examples.mask_known[at]:
                _text(draw, _LABELS + 1.5 * column, top + row / 2, "no mask", 18, anchor="mm")
            top += row
        top += _GAP
    return paper


def _strip(examples: Examples, at: int, size: int, height: int) -> np.ndarray:
    """One row of the mosaic: five panels centred on white, with a thin gap around each."""
    width = size + 2 * _EDGE
    row = np.full((height, 5 * width, 3), 255, np.uint8)
    for number, panel in enumerate(panels(examples, at, size)):
        h, w = panel.shape[:2]
        top, left = (height - h) // 2, number * width + (width - w) // 2
        row[top : top + h, left : left + w] = panel
    return row


def _row_label(draw: ImageDraw.ImageDraw, examples: Examples, at: int, top: float) -> None:
    """Example, verdict and score, under the line that is left for the product's name."""
    said, correct = verdict(examples, at)
    lines = [(style.short(examples.name[at], 22), INK), (said, INK if correct else _WRONG)]
    lines.append((f"score {examples.score[at]:.4g}", INK))
    for number, (text, colour) in enumerate(lines, start=1):
        _text(draw, _MARGIN, top + 25 * number, text, colour=colour)


def _colour_bar(
    paper: Image.Image, draw: ImageDraw.ImageDraw, examples: Examples, box: tuple[int, int, int, int]
) -> None:
    """Paint a product's scale into `box` (left, top, right, bottom), and beside it its ends and the threshold."""
    low, high = scale(examples.centre, examples.threshold, examples.map)
    left, top, right, bottom = box
    column = heat(np.linspace(high, low, bottom - top)[:, None], low, high)
    paper.paste(Image.fromarray(column).resize((right - left, bottom - top)), (left, top))
    marks = [(low, f"{low:.3g}"), (high, f"{high:.3g}")]
    if low < examples.threshold < high:
        marks.append((examples.threshold, f"threshold {examples.threshold:.3g}"))
    for value, text in marks:
        y = top + (high - value) / (high - low) * (bottom - top)
        draw.line([(right, y), (right + 5, y)], fill=INK)
        _text(draw, right + 9, y, text)


def _text(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    size: int = 17,
    *,
    bold: bool = False,
    colour: str = INK,
    anchor: str = "lm",
) -> None:
    draw.text((x, y), text, fill=colour, font=_font(size, bold), anchor=anchor)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """The figures' font, which comes with matplotlib."""
    return ImageFont.truetype(findfont(FontProperties(weight="bold" if bold else "normal")), size)
