"""Draw each detector's map of one real defect for its page: the map alone, with the outline of the true defect.

    PYTHONPATH=src python benchmarks/map_pictures.py RESULTS PRODUCT --defect hole --out docs/images/maps

RESULTS is a folder of `continuad bench` with strategy single. No photograph is drawn: the data's licences differ.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from continuad.report.files import load_examples
from continuad.report.gallery import contour, heat, scale

SIZE = 256  # longer side in pixels


def picture(values: np.ndarray, truth: np.ndarray, low: float, high: float) -> Image.Image:
    """A map (H, W) in the report's colours with the truth's outline in white."""
    factor = SIZE / max(values.shape)
    size = (round(values.shape[1] * factor), round(values.shape[0] * factor))
    larger = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    colours = heat(larger, low, high).copy()
    mask = np.asarray(Image.fromarray(truth.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) > 127
    colours[contour(mask)] = 255
    return Image.fromarray(colours).quantize(96)


def main() -> None:
    parser = argparse.ArgumentParser(description="Maps of one real defect, detector by detector.")
    parser.add_argument("results", type=Path)
    parser.add_argument("product")
    parser.add_argument("--defect", required=True, help="Folder name of the defect; its first example is drawn.")
    parser.add_argument("--out", type=Path, default=Path("docs/images/maps"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for run in sorted((asked.results / "examples").iterdir()):
        found = next(e for e in map(load_examples, sorted(run.glob("*.npz"))) if e.task == asked.product)
        at = next(i for i, name in enumerate(found.name) if name.startswith(f"{asked.defect}/"))
        low, high = scale(found.centre, found.threshold, found.map)
        file = asked.out / f"{run.name.partition('_single_')[0]}.png"
        picture(found.map[at], found.mask[at], low, high).save(file, optimize=True)
        print(file, f"{file.stat().st_size} bytes, {found.name[at]}, score {found.score[at]:.4g}")


if __name__ == "__main__":
    main()
