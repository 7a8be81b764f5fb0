"""Small made-up results whose numbers can be worked out by hand, and example images to go with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["run", "detector", "strategy", "seed", "order", "after_task", "after_name", "on_task", "on_name"]
COLUMNS += ["metric", "value"]
Table = list[list[float]]

# Forgetting of the first: (0.9 - 0.6) / 1 = 0.3, as in the bug log's hand-made table.
TWO = [[0.9], [0.6, 0.8]]
KEPT = [[0.8], [0.8, 0.8]]
BEST = [[1.0], [1.0, 0.75]]


def run_rows(
    strategy: str,
    matrices: dict[str, Table],
    names: list[str],
    *,
    detector: str = "padim",
    seed: int = 0,
    order: int = 0,
    costs: dict[str, float] | None = None,
) -> list[dict]:
    """Rows of one run: for each metric a lower triangle R[after][on] (nan: no row), and what each stage cost."""
    run = f"{detector}-{strategy}-seed{seed}-order{order}"
    base = {"run": run, "detector": detector, "strategy": strategy, "seed": seed, "order": order}
    found = []

    def add(after: int, on: int, metric: str, value: float) -> None:
        on_name = names[on] if on >= 0 else ""
        where = {"after_task": after, "after_name": names[after], "on_task": on, "on_name": on_name}
        found.append(base | where | {"metric": metric, "value": value})

    for after in range(max(len(table) for table in matrices.values())):
        for metric, table in matrices.items():
            for on, value in enumerate(table[after]):
                if value == value:
                    add(after, on, metric, value)
        spent = {"inference_ms": 20.0, "architecture_mb": 13.0, "additional_mb": 5.0 * (after + 1)} | (costs or {})
        add(after, after, "train_seconds", spent.pop("train_seconds", 10.0))
        for metric, value in spent.items():
            add(after, -1, metric, value)
    return found


def frame(*runs: list[dict]) -> pd.DataFrame:
    """The tidy table of some runs."""
    return pd.DataFrame([row for run in runs for row in run], columns=COLUMNS)


def line(names: list[str] | None = None) -> pd.DataFrame:
    """single, naive and pertask with two seeds each over two products; pixel F1 and image AUROC."""
    names = names or ["washer", "bolt"]
    runs = []
    for seed, shift in ((0, 0.0), (1, 0.02)):
        for strategy, table in (("single", BEST), ("naive", TWO), ("pertask", KEPT)):
            moved = [[value - shift for value in values] for values in table]
            both = {"pixel_f1_max": moved, "image_auroc": table}
            runs.append(run_rows(strategy, both, names, seed=seed))
    return frame(*runs)


def write_results(folder: Path, rows: pd.DataFrame, settings: str = "") -> Path:
    """A results folder as a report leaves it, without runs and examples."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(folder / "rows.parquet", index=False)
    if settings:
        (folder / "settings.toml").write_text(settings, encoding="utf-8")
    return folder


def write_run(folder: Path, rows: list[dict]) -> Path:
    """The rows of one run as the benchmark leaves them."""
    file = folder / "runs" / rows[0]["run"] / "rows.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"stream": "0a", "finished": True, "rows": rows}), encoding="utf-8")
    return file


def write_examples(
    folder: Path, run: str, names: list[str], size: tuple[int, int] = (24, 32), **changed: object
) -> None:
    """A good and a defective image of each product: the map is 30 on the defect and 10 elsewhere, the threshold 20."""
    height, width = size
    (folder / "examples" / run).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        image = np.full((2, height, width, 3), 180, np.uint8)
        mask = np.zeros((2, height, width), bool)
        mask[1, 4:12, 6:16] = True
        image[mask] = 40
        arrays: dict[str, object] = {
            "image": image,
            "mask": mask,
            "mask_known": np.array([True, True]),
            "map": np.where(mask, 30, 10).astype(np.float32),
            "decision": mask.copy(),
            "score": np.array([10, 30], np.float32),
            "label": np.array([False, True]),
            "flagged": np.array([False, True]),
            "name": np.array(["good/000.png", "crack/000.png"]),
            "centre": np.float32(10),
            "threshold": np.float32(20),
        }
        safe = "".join(sign if sign.isalnum() else "_" for sign in name)
        np.savez(folder / "examples" / run / f"{index:02d}_{safe}.npz", **(arrays | changed))
