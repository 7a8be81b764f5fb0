"""Choosing PatchCore's bank: seconds and covering radius beside anomalib 2.7's selection, in one run.

    PYTHONPATH=src python benchmarks/coreset_speed.py FOLDER [--images 40] [--share 0.1]

in an environment with anomalib 2.7.0. FOLDER is a product in MVTec layout. Both choose from the same patches: ResNet-18
with seeded random weights, levels 2 and 3, 384 numbers a patch. The radius is the largest distance of a patch from
its nearest chosen one, over all numbers of a patch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from anomalib.models.components.sampling import KCenterGreedy
from padim_speed import read

from continuad.detectors.patchcore import PatchCore
from continuad.memory.coreset import covering_radius, greedy_coreset
from continuad.vision.backbones import BackboneSpec

BACKBONE = BackboneSpec("resnet18", "random")


def patches_of(folder: Path, images: int) -> torch.Tensor:
    detector = PatchCore(256, BACKBONE)
    files = sorted((folder / "train" / "good").iterdir())[:images]
    with torch.no_grad():
        return torch.cat([detector.patches(detector.embed(part)).flatten(0, 2) for part in read(files).split(8)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    patches = patches_of(asked.folder, asked.images)
    size = int(len(patches) * asked.share)
    detector = PatchCore(256, BACKBONE, projection=128)
    methods = {
        "continuad, 128 projected numbers": lambda: greedy_coreset(detector._projected(patches), size),
        "continuad, all numbers (exact greedy)": lambda: greedy_coreset(patches, size),
        "anomalib": lambda: torch.as_tensor(KCenterGreedy(patches, asked.share).select_coreset_idxs()),
    }
    print(f"{len(patches)} patches of {patches.shape[1]} numbers, {size} chosen, {asked.threads} threads\n")
    print("| method | seconds | ratio | covering radius |\n|---|---:|---:|---:|")
    base = None
    for name, method in methods.items():
        start = time.perf_counter()
        chosen = method()
        seconds = time.perf_counter() - start
        base = base or seconds
        radius = covering_radius(patches, patches[chosen])
        print(f"| {name} | {seconds:.1f} | {seconds / base:.1f} | {radius:.3f} |", flush=True)


if __name__ == "__main__":
    main()
