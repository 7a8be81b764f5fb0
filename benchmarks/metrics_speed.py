"""Time the full set of pixel metrics against named peers, on the same maps in one run.

    PYTHONPATH=src python benchmarks/metrics_speed.py [--maps 100] [--size 256] [--repeats 3]

Run it in an environment that has the peers (`pip install anomalib==2.7.0 adeval`): continuad's metrics need
only NumPy and SciPy there. Prints a Markdown table: best time of the repeats, the ratio to continuad, and the
difference of each value from continuad's. A peer that is not installed gets a row that says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from continuad.metrics.pixel import pixel_metrics

Values = dict[str, float]


def draw(number: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed noise, half of the maps with three raised boxes; (number, size, size) float32 and bool."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((number, size, size), bool)
    for mask in masks[number // 2 :]:
        for _ in range(3):
            y, x = rng.integers(0, size * 7 // 8, 2)
            height, width = rng.integers(size // 50 + 1, size // 7, 2)
            mask[y : y + height, x : x + width] = True
    noise = 4 * rng.standard_normal(masks.shape, np.float32) + 3 * masks
    return np.stack([ndimage.gaussian_filter(m, 3) for m in noise]), masks


def ours(maps: np.ndarray, masks: np.ndarray) -> Values:
    values = pixel_metrics(maps, masks)
    return {"AUROC": values["pixel_auroc"], "AP": values["pixel_ap"], "F1 max": values["pixel_f1_max"]} | {
        "AUPRO": values["pixel_aupro"]
    }


def scikit_learn(maps: np.ndarray, masks: np.ndarray) -> Values:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    truth, scores = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(truth, scores)
    return {
        "AUROC": roc_auc_score(truth, scores),
        "AP": average_precision_score(truth, scores),
        "F1 max": float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))),
    }


def anomalib(maps: np.ndarray, masks: np.ndarray) -> Values:
    import torch
    from anomalib.metrics.aupro import _AUPRO

    metric = _AUPRO()
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks.astype(np.int64)))
    return {"AUPRO": float(metric.compute())}


def adeval(maps: np.ndarray, masks: np.ndarray) -> Values:
    if not hasattr(np, "trapz"):  # ADEval 1.1 was written for NumPy 1
        setattr(np, "trapz", np.trapezoid)  # noqa: B010
    from adeval import auroc_aupr_aupro

    auroc, aupr, aupro = auroc_aupr_aupro(maps, masks.astype(np.uint8))
    return {"AUROC": auroc, "AP": aupr, "AUPRO": aupro}


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], Values]] = {
    "continuad (all four, exact)": ours,
    "scikit-learn AUROC + AP + F1 max": scikit_learn,
    "anomalib AUPRO": anomalib,
    "ADEval (binned, no F1)": adeval,
}


def best_times(maps: np.ndarray, masks: np.ndarray, repeats: int) -> dict[str, tuple[float, Values] | str]:
    """Best seconds and values of each peer. The peers take turns, so that a busy moment hits all alike."""
    found: dict[str, tuple[float, Values] | str] = {}
    for turn in range(repeats + 1):
        for name, peer in PEERS.items():
            if isinstance(found.get(name), str):
                continue
            start = time.perf_counter()
            try:
                values = peer(maps, masks)
            except ImportError as error:
                found[name] = f"not installed ({error.name})"
                continue
            seconds = time.perf_counter() - start
            before = found[name][0] if turn > 1 else np.inf  # the first turn imports: not the metric's cost
            found[name] = (min(seconds, before), values)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=100)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    maps, masks = draw(options.maps, options.size)
    found = best_times(maps, masks, options.repeats)
    (own, exact), sklearn, aupro = list(found.values())[:3]
    if not isinstance(sklearn, str) and not isinstance(aupro, str):
        found["scikit-learn + anomalib (all four, sum)"] = (sklearn[0] + aupro[0], sklearn[1] | aupro[1])

    print(f"{options.maps} maps of {options.size}², {masks.mean():.2%} defect pixels; best of {options.repeats}")
    print(f"turns on {os.cpu_count()} cores ({platform.machine()}), NumPy {np.__version__}\n")
    print("| | seconds | ratio to continuad | difference |")
    print("|---|---:|---:|---|")
    for name, result in found.items():
        if isinstance(result, str):
            print(f"| {name} | {result} | | |")
            continue
        values = {} if result[1] is exact else result[1]
        difference = ", ".join(f"{k} {abs(v - exact[k]):.1e}" for k, v in values.items())
        print(f"| {name} | {result[0]:.3f} | {result[0] / own:.1f} | {difference} |")
    print("\n" + ", ".join(f"{k} {v:.6f}" for k, v in exact.items()))


if __name__ == "__main__":
    main()
