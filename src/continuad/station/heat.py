"""Heat maps and masks as pictures, in the size of the picture that was inspected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from continuad.data.decode import UnreadableImage
from continuad.data.names import printable
from continuad.files import replace_file, safe_name
from continuad.station.judge import SCHEMA, Inspection

# Blue up to the threshold, amber above it; lightness rises throughout, so it also reads without colour.
STOPS = np.array([0.0, 0.49, 0.51, 0.75, 1.0])
COLOURS = np.array([(13, 27, 42), (63, 113, 150), (217, 116, 31), (249, 177, 60), (255, 243, 184)], float)
OUTLINE = (235, 40, 125)
UNREADABLE = "unreadable"  # in the place of a verdict


def heat_map(rgb: Image.Image, values: np.ndarray, mask: np.ndarray, centre: float, pixel: float) -> Image.Image:
    """The picture with its anomaly map laid over, and the mask outlined.

    Heat shows in proportion to its value, fully from the threshold on: a good surface keeps its own look.

    Args:
        values: (H, W) map in the picture's size. mask: (H, W) bool.
        centre: value of an ordinary good surface, the scale's bottom. pixel: the threshold, its middle.
    """
    span = 2 * (pixel - centre) or 1.0
    share = ((values - centre) / span).clip(0, 1)
    colours = np.stack([np.interp(share, STOPS, COLOURS[:, channel]) for channel in range(3)], -1)
    weight = (0.62 * np.minimum(2 * share, 1) ** 1.5)[..., None]
    mixed = ((1 - weight) * np.asarray(rgb, float) + weight * colours).round().astype(np.uint8)
    width = max(1, round(max(mask.shape) / 250))
    mixed[mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=0)] = OUTLINE
    return Image.fromarray(mixed)


def save_pictures(folder: Path, found: Inspection) -> dict[str, str]:
    """Write `<name>_heat.png` and `<name>_mask.png`; their paths as `heat_map` and `mask`."""
    name = f"{safe_name(Path(found.file).stem)}-{found.content[:8]}"
    heat = heat_map(found.rgb, found.map, found.mask, found.scale.centre, found.scale.pixel)
    mask = Image.fromarray(found.mask.astype(np.uint8) * 255)
    paths = {"heat_map": folder / f"{name}_heat.png", "mask": folder / f"{name}_mask.png"}
    for picture, path in zip((heat, mask), paths.values(), strict=True):
        replace_file(path, picture.save)
    return {what: str(path) for what, path in paths.items()}


def line_of(found: Inspection, out: Path | None = None) -> dict[str, Any]:
    """What `--json` and `--csv` hold of a verdict; its heat map and mask are written where a folder is given."""
    return found.plain() | ({} if out is None else save_pictures(out, found))


def unreadable_line(error: UnreadableImage) -> dict[str, Any]:
    """The same of a picture that cannot be read."""
    return {"schema": SCHEMA, "file": printable(error.source), "verdict": UNREADABLE, "reason": error.reason}
