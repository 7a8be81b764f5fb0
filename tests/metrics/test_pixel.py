from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from continuad.errors import ContinuadError
from continuad.metrics import ranking
from continuad.metrics.pixel import (
    pixel_ap,
    pixel_aupro,
    pixel_auroc,
    pixel_f1_at,
    pixel_f1_max,
    pixel_metrics,
)

from . import slow
from .test_ranking import sklearn_f1_max


def example(levels: int = 10**6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(levels)
    masks = slow.drawn_masks(rng, 6, 24)
    return np.round((rng.normal(size=masks.shape) + 1.5 * masks) * levels).astype(np.float32), masks


@pytest.mark.parametrize("levels", [1, 5, 10**6])
def test_equals_scikit_learn_and_the_definition(levels: int) -> None:
    maps, masks = example(levels)
    got = pixel_metrics(maps, masks)
    flat = masks.ravel(), maps.ravel()
    assert got["pixel_auroc"] == pytest.approx(roc_auc_score(*flat), abs=1e-12)
    assert got["pixel_ap"] == pytest.approx(average_precision_score(*flat), abs=1e-12)
    assert got["pixel_f1_max"] == pytest.approx(sklearn_f1_max(*flat), abs=1e-12)
    assert got["pixel_aupro"] == pytest.approx(slow.aupro(maps, masks), abs=1e-12)
    assert pixel_f1_at(maps, masks, got["pixel_f1_max_threshold"]) == got["pixel_f1_max"]


def test_pixel_metrics_are_the_single_functions() -> None:
    maps, masks = example()
    value, threshold = pixel_f1_max(maps, masks)
    assert pixel_metrics(maps, masks, limit=0.1) == {
        "pixel_auroc": pixel_auroc(maps, masks),
        "pixel_ap": pixel_ap(maps, masks),
        "pixel_f1_max": value,
        "pixel_aupro": pixel_aupro(maps, masks, limit=0.1),
        "pixel_f1_max_threshold": threshold,
    }


def test_any_container_dtype_and_mask_value_gives_the_same() -> None:
    maps, masks = example()
    expected = pixel_metrics(maps, masks)
    assert pixel_metrics(list(maps), list(masks)) == expected
    assert pixel_metrics(maps.astype(np.float64), masks.astype(np.uint8) * 255) == expected | {
        "pixel_f1_max_threshold": pytest.approx(expected["pixel_f1_max_threshold"])
    }
    assert pixel_metrics(maps, masks.astype(np.uint8)) == expected
    assert pixel_metrics(torch.from_numpy(maps), torch.from_numpy(masks)) == expected  # type: ignore[arg-type]
    assert pixel_metrics(maps[:, ::-1].copy()[:, ::-1], masks) == expected


def test_maps_of_different_sizes_and_dtypes() -> None:
    maps, masks = example(5)
    cut = [m[: 10 + i] for i, m in enumerate(maps)], [m[: 10 + i] for i, m in enumerate(masks)]
    assert pixel_aupro(*cut) == pytest.approx(slow.aupro(*cut), abs=1e-12)
    mixed = [m.astype(t) for m, t in zip(maps, ["i4", "f4", "f8", "i2", "f2", "f4"], strict=True)]
    assert pixel_auroc(mixed, masks) == pixel_auroc(maps, masks)


def test_large_integers_are_not_rounded() -> None:
    maps = np.array([[[2**60, 2**60 + 1]]])  # the same number in float64
    assert pixel_auroc(maps, [[[0, 1]]]) == 1.0
    assert pixel_auroc(maps, [[[1, 0]]]) == 0.0


def test_uint8_maps() -> None:
    maps, masks = example(20)
    maps = np.clip(maps + 128, 0, 255).astype(np.uint8)
    got = pixel_metrics(maps, masks)
    assert got["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert pixel_f1_at(maps, masks, got["pixel_f1_max_threshold"]) == got["pixel_f1_max"]


def test_order_of_images_and_increasing_rescaling_do_not_matter() -> None:
    maps, masks = example()
    expected = pixel_metrics(maps, masks)
    del expected["pixel_f1_max_threshold"]
    order = np.random.default_rng(0).permutation(len(maps))
    for other in (pixel_metrics(maps[order], masks[order]), pixel_metrics(maps * 4.0 + 2.0**20, masks)):
        del other["pixel_f1_max_threshold"]
        assert other == pytest.approx(expected, abs=1e-12)


def test_a_task_with_more_defect_than_good_pixels() -> None:
    maps, masks = example(5)
    got = pixel_metrics(-maps, ~masks)
    assert got["pixel_auroc"] == pytest.approx(pixel_auroc(maps, masks), abs=1e-12)
    assert got["pixel_aupro"] == pytest.approx(slow.aupro(-maps, ~masks), abs=1e-12)


@pytest.mark.parametrize("value", [0, 255])
def test_pixels_of_one_class_only_are_not_available(value: int) -> None:
    maps = example()[0]
    masks = np.full(maps.shape, value, np.uint8)
    assert all(math.isnan(v) for v in pixel_metrics(maps, masks).values())
    assert math.isnan(pixel_f1_at(maps, masks, 0.5))


def test_no_maps_at_all_is_not_available() -> None:
    assert all(math.isnan(v) for v in pixel_metrics([], []).values())


class Lazy:
    """Makes its arrays anew whenever it is iterated, as if they were read from disk."""

    def __init__(self, make: list) -> None:
        self.make = make

    def __iter__(self) -> Iterator[np.ndarray]:
        return (make() for make in self.make)


def test_memory_does_not_grow_with_the_number_of_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "CHUNK", 1 << 14)
    side, number = 128, 200

    def scores(i: int) -> np.ndarray:
        return np.random.default_rng(i).random((side, side), np.float32)

    mask = np.zeros((side, side), np.uint8)
    mask[10:20, 30:40] = 255
    maps = Lazy([lambda i=i: scores(i) for i in range(number)])
    masks = Lazy([lambda i=i: mask if i % 4 == 0 else np.zeros_like(mask) for i in range(number)])
    tracemalloc.start()
    got = pixel_metrics(maps, masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < number * side * side * 4 / 5  # a fifth of the maps alone; sorting at once needs ten-fold
    whole, truth = np.stack(list(maps)), np.stack(list(masks)) != 0
    assert got["pixel_auroc"] == pytest.approx(roc_auc_score(truth.ravel(), whole.ravel()), abs=1e-12)


def test_chunks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = example(5)
    expected = pixel_metrics(maps, masks)
    for chunk in (50, 577, 3000):
        monkeypatch.setattr(ranking, "CHUNK", chunk)
        assert pixel_metrics(maps, masks) == expected


def test_errors_name_the_map() -> None:
    maps, masks = example()
    broken = maps.copy()
    broken[3, 5, 5] = np.nan
    for call in (lambda: pixel_metrics(broken, masks), lambda: pixel_f1_at(broken, masks, 0.0)):
        with pytest.raises(ContinuadError, match="anomaly map 3 holds NaN"):
            call()
    broken[3, 5, 5] = np.inf
    with pytest.raises(ContinuadError, match="anomaly map 3 holds NaN or infinity"):
        pixel_metrics(broken, np.zeros_like(masks))
    with pytest.raises(ContinuadError, match=r"anomaly map 1 has shape \(24, 24\) and its mask \(12, 24\)"):
        pixel_metrics(list(maps[:2]), [masks[0], masks[1][:12]])
    with pytest.raises(ContinuadError, match=r"map 0 has shape \(24,\) .*: both must be \(height, width\) and equal$"):
        pixel_metrics(maps[0], masks[0])
    with pytest.raises(ContinuadError, match="differ in number: 5 pairs"):
        pixel_metrics(maps, masks[:5])
    with pytest.raises(ContinuadError, match=r"^maps is an iterator"):
        pixel_metrics(iter(maps), masks)
    with pytest.raises(ContinuadError, match=r"^masks is an iterator"):
        pixel_metrics(maps, iter(masks))


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = example()
    maps[4, 0, 0] = np.nan
    monkeypatch.setattr(ranking, "CHUNK", 100)
    with pytest.raises(ContinuadError, match="anomaly map 4"):
        pixel_metrics(maps, masks)
