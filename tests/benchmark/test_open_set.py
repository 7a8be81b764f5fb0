"""Products that are never learned, and whether a model notices them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import ToyAutoencoder, stream

from continuad.benchmark.grid import Cell, run_grid
from continuad.benchmark.open_set import open_set_values, refuse_learned
from continuad.benchmark.run import run
from continuad.benchmark.settings import Settings
from continuad.core.types import ImageSet, Task
from continuad.data.product import Item, Product
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.strategies.naive import Naive
from continuad.strategies.packnet import PackNet
from continuad.strategies.pertask import PerTask


class ByBrightness(Naive):
    """An image's distance is its brightness in steps of 45."""

    infers_task_by = ("pooled",)

    def infer_task(self, images: Tensor, how: str | None = None) -> Tensor:
        return torch.zeros(len(images), dtype=torch.long)

    def task_distance(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 2, 3)) / 45


def grey(*levels: int, defective: tuple[int, ...] = ()) -> ImageSet:
    """One image of each level, those of `defective` at the end."""
    every = (*levels, *defective)
    images = np.full((len(every), 3, 64, 64), np.array(every)[:, None, None, None], np.uint8)
    labels = np.arange(len(every)) >= len(levels)
    masks, known = np.zeros((len(every), 64, 64), bool), np.ones(len(every), bool)
    paths = tuple(Path(f"{i}.png") for i in range(len(every)))
    return ImageSet(images, labels, masks, known, ("good",) * len(every), paths, ((64, 64),) * len(every))


def test_every_good_image_of_the_open_set_is_compared_with_every_learned_test_image() -> None:
    learned = [
        Task(0, "a", grey(200), grey(200), grey(10)),
        Task(1, "b", grey(200), grey(200), grey(defective=(30,))),
        Task(2, "untested", grey(200), grey(200), grey()),
    ]
    open_set = [Task(0, "u", grey(20), grey(40), grey(50, defective=(1,)))]
    assert open_set_values(Naive(ToyAutoencoder()), learned, open_set) == {}, "it has no distance to compare by"
    strategy = ByBrightness(ToyAutoencoder())
    # 20, 40 and 50 against 10 and 30: five of six pairs are in order, and 50 alone lies beyond a distance of 1. The
    # defective 1 takes no part.
    found = open_set_values(strategy, learned, open_set)
    assert found == {"open_set_auroc": pytest.approx(5 / 6), "open_set_rejected": pytest.approx(1 / 3)}
    at_its_edge = [Task(0, "u", grey(45), grey(45), grey(46))]
    assert open_set_values(strategy, learned, at_its_edge)["open_set_rejected"] == pytest.approx(1 / 3)
    assert open_set_values(strategy, learned[2:], open_set) == {}, "no learned image to compare with"


def test_it_is_measured_once_at_the_end_of_a_run() -> None:
    *learned, egg = stream()
    rows = run(learned, PerTask(Padim(image_size=64, channels=12)), open_set=[egg])
    found = rows[rows.metric.isin(["open_set_auroc", "open_set_rejected"])]
    assert found[["after_task", "on_task"]].values.tolist() == [[1, -1]] * 2
    assert found.set_index("metric").value["open_set_auroc"] > 0.9
    assert found.set_index("metric").value["open_set_rejected"] == 1.0
    rows = run(learned, Naive(Padim(image_size=64, channels=12)), open_set=[egg])
    assert not {"open_set_auroc", "open_set_rejected"} & set(rows.metric)


def test_packnet_infers_tasks_too() -> None:
    *learned, chess = stream(2)
    assert "open_set_auroc" in set(run(learned, PackNet(ToyAutoencoder()), open_set=[chess]).metric)


def test_a_finished_run_with_another_open_set_is_refused(tmp_path: Path) -> None:
    *learned, egg = stream()
    asked = Settings(image_size=(64, 64), strategy=("pertask",), options={"padim.channels": 12})
    grid = [Cell("padim", "pertask", 0, 0)]
    run_grid(asked, grid, tmp_path, lambda *_: learned, open_set=[egg])
    with pytest.raises(ContinuadError, match="other images"):
        run_grid(asked, grid, tmp_path, lambda *_: learned)


def test_a_product_of_the_stream_is_refused_in_the_open_set(tmp_path: Path) -> None:
    (tmp_path / "bolt").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "bolt")
    bolt, alias, nut = (
        Product(name, tmp_path / name, "plain", (Item(tmp_path / name / "0.png"),), ())
        for name in ("bolt", "alias", "nut")
    )
    refuse_learned([nut], [bolt])
    with pytest.raises(ContinuadError, match=r"--open-set .*alias: this product is learned"):
        refuse_learned([nut, alias], [bolt])
