"""Which strategies differ by more than chance: paired tests over runs with the same seed and order."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import stdtr

from continuad.report.style import order_strategies

METRICS = ("pixel_f1_max", "image_auroc")
COLUMNS = ("detector", "metric", "first", "second", "runs", "difference", "difference_sd", "p", "p_holm")
EQUAL = 1e-9  # differences that scatter less than this are the same number


def paired(summary: pd.DataFrame) -> pd.DataFrame:
    """Every pair of strategies of every detector that have at least two finished runs in common.

    Args:
        summary: from `summarise`.

    Returns:
        Lines with COLUMNS: `difference` is the mean over common (seed, order) of the final mean over products of
        `first` minus that of `second`, `difference_sd` its deviation (ddof = 1), `p` that of the two-sided paired t
        test, `p_holm` the same after Holm's correction for all tests of the table. Where the differences do not
        scatter there is nothing to test by, and both are NaN. No lines where no pair has two runs in common.
    """
    whole = summary[summary["tasks"] == summary["tasks"].max()]
    lines = []
    for detector, runs in whole.groupby("detector", sort=False):
        for metric in METRICS:
            table = runs.pivot(index=["seed", "order"], columns="strategy", values=metric)
            for first, second in combinations(order_strategies(table.columns), 2):
                apart = (table[first] - table[second]).dropna().to_numpy()
                if len(apart) >= 2:
                    lines.append((detector, metric, first, second, len(apart), *_t_test(apart)))
    found = pd.DataFrame(lines, columns=list(COLUMNS[:-1]))
    return found.assign(p_holm=holm(found["p"].to_numpy(float)))


def _t_test(apart: np.ndarray) -> tuple[float, float, float]:
    """Mean and deviation of differences (N,), and the p value of a mean so far from 0: Student's t, N - 1 degrees.

    Example: 0.1, 0.2, 0.3 have mean 0.2 and deviation 0.1, so t = 0.2 / (0.1 / sqrt 3) = 3.46 and p = 0.074.
    """
    mean, deviation = float(apart.mean()), float(apart.std(ddof=1))
    if deviation < EQUAL:
        return mean, 0.0, float("nan")
    degrees = len(apart) - 1
    return mean, deviation, float(2 * stdtr(degrees, -abs(mean) / (deviation / np.sqrt(len(apart)))))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values (N,): the smallest times the number of tests, the next times one less, and so on; none
    below the one before, none above 1. NaN stays, and counts for no test.

    Example: 0.01, 0.04, 0.03 become 0.03, 0.06, 0.06.
    """
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted
