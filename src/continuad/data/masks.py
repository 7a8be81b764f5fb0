"""From a mask's grey values to defect or not, and to the working size; regions that scaling loses are counted.

**Which values are defect** (`defective`). Any value above the background is, so label masks (1, 2, 3 on 0) and
masks in two values of any height (0 and 1, 0 and 236-254) keep everything. But a mask that was saved as JPEG,
scaled with smoothing or scanned holds its two values only up to noise, and there counting every value would mark
ringing and blurred edges as defects. So the values in the lower half of the range are looked at:

- They are labels if they lie in areas of one value (most of these pixels have five of eight neighbours of their own
  value, or only neighbours of their own value and background), or, above a tenth of the largest, on plateaus.
- Otherwise they are noise, and values above half of the largest are defect; a mask whose largest value is below
  `NOISE` then has none. `Reading.noisy` says so.
- Where no pixel is 0, the lowest value is the background, unless the whole mask has one value.

**Scaling** (`shrink`). Every pixel of the working size takes the nearest pixel of the mask. A region (8-connected)
that this loses, breaks into pieces or shortens by more than a pixel is also drawn where it covers at least half of a
pixel, or else a quarter, an eighth, a sixteenth: the largest share that leaves it whole. A region that covers less than
a sixteenth of every pixel is dropped, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

NOISE = 32
"""Grey values: a mask of noise alone stays below."""

_TINY = 0.1  # of the largest value: as far as noise of the background reaches
_TWO_VALUED = 64  # largest value from which on noise and labels near 0 are distinguished more strictly
_SHARES = (1 / 2, 1 / 4, 1 / 8, 1 / 16)


@dataclass(frozen=True)
class Reading:
    """A mask at its own size.

    Attributes:
        mask: (H, W) bool, True where defective.
        noisy: what lies below half of the largest value was taken for noise.
        background: the lowest value, where it is not 0.
    """

    mask: np.ndarray
    noisy: bool = False
    background: int = 0


@dataclass(frozen=True)
class Shrunk:
    """A mask at the working size.

    Attributes:
        mask: (h, w) bool.
        regions: connected regions there were.
        dropped: how many of them are too small to be seen at this size.
    """

    mask: np.ndarray
    regions: int = 0
    dropped: int = 0


def defective(values: np.ndarray) -> Reading:
    """Which of a mask's (H, W) grey values, 0 or above, say "defect"."""
    lowest = values.min()
    largest = values.max() - lowest
    if lowest and not largest:
        return Reading(np.ones(values.shape, dtype=bool))
    above = values - lowest if lowest else values
    background = int(np.ceil(lowest))
    if not _between(above, 0, largest / 2).any():
        return Reading(above > 0, background=background)
    tiny = _TINY * largest if largest >= _TWO_VALUED else 0
    if tiny and _are_labels(above, _between(above, 0, tiny), plateau=0, strict=True):
        return Reading(above > 0, background=background)
    if _are_labels(above, _between(above, tiny, largest / 2), plateau=tiny):
        return Reading(above > tiny, bool(_between(above, 0, tiny).any()), background)
    return Reading(above > largest / 2 if largest >= NOISE else np.zeros(above.shape, dtype=bool), True, background)


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) at (height, width), each pixel from the nearest; of any type that Pillow knows as "L" or "I"."""
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


def shrink(mask: np.ndarray, size: tuple[int, int]) -> Shrunk:
    """(H, W) bool at (height, width) by the rule of this module."""
    if mask.shape == size:
        return Shrunk(mask)
    from scipy import ndimage  # slow to import, and needed for masks of another size only

    eight = np.ones((3, 3), dtype=int)
    labels, number = ndimage.label(mask, eight)
    if not number:
        return Shrunk(np.zeros(size, dtype=bool))
    small = nearest(labels.astype(np.int32), size)
    result = small > 0
    left = np.bincount(small.ravel(), minlength=number + 1)
    area = np.bincount(labels.ravel(), minlength=number + 1) * (result.size / mask.size)  # in working pixels
    places = ndimage.find_objects(small, number)
    scale = mask.shape[0] / size[0], mask.shape[1] / size[1]
    dropped = int(((left == 0) & (area < _SHARES[-1]))[1:].sum())
    for region, where in enumerate(ndimage.find_objects(labels), start=1):
        if left[region] == 0 and area[region] < _SHARES[-1]:
            continue
        own, place = labels[where] == region, places[region - 1]
        if place is None or not _is_whole(small[place] == region, place, where, scale):
            drawn, at = _drawn(own, where, mask.shape, size)
            result[at] |= drawn
            dropped += int(place is None and not drawn.any())
    return Shrunk(result, number, dropped)


Place = tuple[slice, slice]


def _is_whole(region: np.ndarray, place: Place, where: Place, scale: tuple[float, float]) -> bool:
    """Whether a region scaled from `where` to `place` is in one piece, and reaches as far as it did."""
    from scipy import ndimage

    reaches = all(
        (new.start - 1) * by <= old.start and old.stop <= (new.stop + 1) * by
        for new, old, by in zip(place, where, scale, strict=True)
    )
    return reaches and ndimage.label(region, np.ones((3, 3), dtype=int))[1] == 1


def _drawn(
    region: np.ndarray, where: Place, original: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, Place]:
    """Pixels of the working size that a region covers well enough, and the part of the picture they lie in."""
    from scipy import ndimage

    down, top = _overlap(where[0], original[0], size[0])
    across, left = _overlap(where[1], original[1], size[1])
    covered = down @ region.astype(np.float32) @ across.T
    at = (slice(top, top + len(down)), slice(left, left + len(across)))
    scale = original[0] / size[0], original[1] / size[1]
    for share in _SHARES:
        drawn = covered >= share - 1e-6
        if found := ndimage.find_objects(drawn.astype(np.int8)):
            place = (_moved(found[0][0], top), _moved(found[0][1], left))
            if _is_whole(drawn, place, where, scale):
                break
    return drawn, at


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _overlap(where: slice, original: int, size: int) -> tuple[np.ndarray, int]:
    """(n, m): the share of each of n working pixels that each of the m pixels of `where` covers; the first of the n."""
    scale = original / size
    first, last = int(where.start / scale), min(size, int(np.ceil(where.stop / scale)))
    working, own = np.arange(first, last)[:, None], np.arange(where.start, where.stop)
    ends = np.minimum((working + 1) * scale, own + 1)
    return np.clip(ends - np.maximum(working * scale, own), 0, None) / scale, first


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values > low) & (values <= high)


def _are_labels(values: np.ndarray, these: np.ndarray, plateau: float, strict: bool = False) -> bool:
    """Whether most of some pixels lie in areas of one value rather than in noise or on an edge.

    Args:
        plateau: how far a pixel's neighbourhood may reach to count as one value; 0: not at all.
        strict: areas of one value only, less than half of the picture: values so near to the background may be its
            noise, which can look like anything else.
    """
    number = int(these.sum())
    if not number or (strict and number > these.size / 2):
        return False
    padded = np.pad(values, 1, mode="edge")
    same = np.zeros(values.shape, dtype=np.uint8)
    alone = np.ones(values.shape, dtype=bool)
    least, most = values, values
    rows, columns = values.shape
    for dy, dx in np.ndindex(3, 3):
        beside = padded[dy : dy + rows, dx : dx + columns]
        same += beside == values
        alone &= (beside == values) | (beside == 0)
        least, most = np.minimum(least, beside), np.maximum(most, beside)
    flat = same > 5  # itself and five neighbours
    if not strict:
        flat |= alone | ((most - least <= plateau) if plateau else False)
    return int((flat & these).sum()) * 2 >= number
