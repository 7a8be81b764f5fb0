"""What lies in a results folder: rows, settings, example images."""

from __future__ import annotations

import json
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from continuad.errors import ContinuadError
from continuad.files import replace_file

RUNS = "runs/*/rows.json"  # what the benchmark writes, a file for each run
_TEXT = ("run", "detector", "strategy", "after_name", "on_name", "metric")
_WHOLE = ("seed", "order", "after_task", "on_task")


def load_rows(directory: Path) -> pd.DataFrame:
    """The tidy table of results: the rows of all runs, finished or not, gathered from `runs/*/rows.json`.

    A folder without runs holds rows.parquet or rows.csv, as an earlier report left them.

    Raises:
        ContinuadError: no folder, no file, no rows in it, a column is missing, or a run is there twice.
    """
    if not directory.is_dir():
        raise ContinuadError(f"{directory}: no such folder. Give the folder that `continuad bench --out` wrote.")
    files = run_files(directory)
    path, rows = (directory / RUNS, _gathered(files)) if files else _table(directory)
    missing = [name for name in (*_TEXT, *_WHOLE, "value") if name not in rows]
    if missing:
        raise ContinuadError(f"{path}: the columns {', '.join(missing)} are missing; is it a table of results?")
    if rows.empty:
        raise ContinuadError(f"{path}: has no rows yet. Wait until the first product is learned, then ask again.")
    return rows.astype(dict.fromkeys(_WHOLE, "int64") | {"value": "float64"})


def run_files(directory: Path) -> list[Path]:
    """The rows of each run that a benchmark has left in a folder."""
    return sorted(directory.glob(RUNS))


def write_rows(directory: Path, rows: pd.DataFrame) -> None:
    """Write rows.csv and rows.parquet, each replaced in one step."""
    replace_file(directory / "rows.csv", lambda new: rows.to_csv(new, index=False))
    replace_file(directory / "rows.parquet", lambda new: rows.to_parquet(new, index=False))


def _gathered(files: list[Path]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    owner: dict[tuple[Any, ...], Path] = {}
    for file in files:
        try:
            own = json.loads(file.read_text(encoding="utf-8"))["rows"]
            runs = {tuple(row[name] for name in ("detector", "strategy", "seed", "order")) for row in own}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ContinuadError(
                f"{file}: cannot be read as the rows of a run ({error}). Remove its folder to learn the run anew."
            ) from error
        for run in runs:
            if owner.setdefault(run, file) != file:
                raise ContinuadError(
                    f"{owner[run].parent} and {file.parent} hold the same run ({', '.join(map(str, run))}). Remove one."
                )
        rows += own
    return pd.DataFrame(rows)


def _table(directory: Path) -> tuple[Path, pd.DataFrame]:
    """rows.parquet, or rows.csv where that is missing."""
    parquet, csv = directory / "rows.parquet", directory / "rows.csv"
    path = parquet if parquet.is_file() else csv
    if not path.is_file():
        raise ContinuadError(
            f"{directory}: neither {RUNS} nor rows.parquet nor rows.csv is in it. Give the folder that "
            "`continuad bench --out` wrote; before its first product is learned there are no rows."
        )
    try:
        return path, pd.read_parquet(path) if path is parquet else _read_csv(path)
    except (ValueError, OSError, KeyError) as error:
        raise ContinuadError(f"{path}: cannot be read as a table of results ({error}).") from error


def _read_csv(path: Path) -> pd.DataFrame:
    # A product may well be called "NA" or "null": only the values know missing ones.
    texts = dict.fromkeys(_TEXT, str)
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={"value": ["", "nan", "NaN"]})


def load_settings(directory: Path) -> dict[str, Any]:
    """settings.toml as nested dictionaries; empty where there is none.

    Raises:
        ContinuadError: the file is not TOML.
    """
    path = directory / "settings.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContinuadError(f"{path}: is not valid TOML ({error}). Mend or remove it.") from error


@dataclass(frozen=True)
class Examples:
    """K example images of one task with what a run's last model says about them.

    Attributes:
        run: id of the run.
        index: position of the task in the run's order; -1 if the file's name does not begin with it.
        task: name of the task as in the file's name.
        image: (K, H, W, 3) uint8.
        mask: (K, H, W) bool, the truth; meaningless where `mask_known` (K,) is False.
        map: (K, H, W) float32, raw anomaly maps.
        decision: (K, H, W) bool, the predicted mask.
        score: (K,) float32.
        label: (K,) bool, True for a defective image.
        flagged: (K,) bool, True where the model calls the image defective.
        name: K names, such as "crack/000.png".
        centre: map value of an ordinary good surface of this product.
        threshold: map value above which the model calls a pixel of this product defective.
    """

    run: str
    index: int
    task: str
    image: np.ndarray
    mask: np.ndarray
    mask_known: np.ndarray
    map: np.ndarray
    decision: np.ndarray
    score: np.ndarray
    label: np.ndarray
    flagged: np.ndarray
    name: tuple[str, ...]
    centre: float
    threshold: float

    def __len__(self) -> int:
        return len(self.image)


def find_examples(directory: Path, run: str) -> list[Path]:
    """The example files of a run in training order; none where the run wrote none."""
    folder = directory / "examples" / run
    return sorted(folder.glob("*.npz"), key=lambda path: (_index(path), path.name)) if folder.is_dir() else []


def load_examples(path: Path) -> Examples:
    """One file of examples.

    Raises:
        ContinuadError: an array is missing or the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return Examples(
            run=path.parent.name,
            index=_index(path),
            task=path.stem.split("_", 1)[-1],
            name=tuple(str(name) for name in arrays.pop("name")),
            centre=float(arrays.pop("centre")),
            threshold=float(arrays.pop("threshold")),
            **{name: arrays[name] for name in _ARRAYS},
        )
    except KeyError as error:
        raise ContinuadError(
            f"{path}: the array {error} is missing. Remove the file or run the benchmark again."
        ) from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ContinuadError(f"{path}: cannot be read ({error}). Remove it or run the benchmark again.") from error


_ARRAYS = ("image", "mask", "mask_known", "map", "decision", "score", "label", "flagged")


def _index(path: Path) -> int:
    number = path.stem.split("_", 1)[0]
    return int(number) if number.isdecimal() else -1
