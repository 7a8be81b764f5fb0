"""Files in, verdicts out: in the picture's own size, by the same way as in learning."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import continuad
from continuad.core.batches import in_order
from continuad.demo.line import write_line
from continuad.errors import ContinuadError


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("line")
    folders = write_line(root, products=("bottle", "cable"), size=(75, 100), train=8, test_good=3, per_defect=1)
    stream = continuad.open_stream(folders, image_size=64, cache=None)
    strategy = continuad.make_strategy("pertask", continuad.make_detector("padim", image_size=64, channels=12))
    for task in stream:
        strategy.learn(task)
    return stream, strategy


def test_map_and_mask_have_the_size_of_the_original(taught) -> None:
    stream, strategy = taught
    found = list(continuad.predict_files(strategy, stream[1].test.paths))
    assert all(v.map.shape == v.mask.shape == (75, 100) for v in found)
    assert [v.task for v in found] == ["cable"] * len(found)
    assert all(v.anomalous == (v.score > v.threshold) for v in found)


def test_files_and_batches_score_the_same(taught) -> None:
    stream, strategy = taught
    batch = next(in_order(stream[0].test, 16))
    together = strategy.predict(batch.image)
    alone = [v.score for v in continuad.predict_files(strategy, stream[0].test.paths)]
    np.testing.assert_allclose(alone, together.score, rtol=1e-4, atol=1e-5)


def test_a_damaged_file_is_named(taught, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(ContinuadError, match=r"bad\.png"):
        list(continuad.predict_files(taught[1], [tmp_path / "bad.png"]))


def test_the_verdict_of_a_blank_picture_is_anomalous(taught, tmp_path: Path) -> None:
    Image.new("RGB", (100, 75), (250, 0, 250)).save(tmp_path / "magenta.png")
    (found,) = continuad.predict_files(taught[1], [tmp_path / "magenta.png"])
    assert found.anomalous
    assert found.mask.any()
