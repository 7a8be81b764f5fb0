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
    assert (found.task, found.verdict) == ("", "unknown")  # no bottle and no cable
    (given,) = continuad.predict_files(taught[1], [tmp_path / "magenta.png"], task="cable")
    assert (given.task, given.verdict) == ("cable", "defective")
    verdicts = {v.verdict for v in continuad.predict_files(taught[1], taught[0][0].train.paths)}
    assert verdicts == {"good"}


def test_a_folder_and_a_single_file_are_taken_as_they_are_meant(taught) -> None:
    stream, strategy = taught
    folder = stream[0].test.paths[0].parent
    in_folder = [v.path for v in continuad.predict_files(strategy, str(folder))]
    assert in_folder == sorted(folder.glob("*.png"))
    assert [v.path for v in continuad.predict_files(strategy, str(in_folder[0]))] == in_folder[:1]


def test_an_empty_folder_is_refused(taught, tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match="no images in this folder"):
        list(continuad.predict_files(taught[1], tmp_path))


def test_the_true_task_is_given_by_name(taught) -> None:
    stream, strategy = taught
    (found,) = continuad.predict_files(strategy, stream[0].test.paths[0], task="cable")
    assert found.task == "cable"
    with pytest.raises(ContinuadError, match="there is no task 'hazelnut'"):
        list(continuad.predict_files(strategy, stream[0].test.paths[0], task="hazelnut"))


@pytest.fixture
def twelve_bit(tmp_path: Path) -> list[Path]:
    """Two products of a 12-bit camera: 16-bit PNGs whose values stay below 4,096."""
    rng = np.random.default_rng(0)
    folders = []
    for name, level in (("dark", 900), ("bright", 3000)):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        for i in range(8):
            values = rng.normal(level, 40, (64, 64)).clip(0, 4095).astype(np.uint16)
            Image.fromarray(values).save(folders[-1] / f"{i}.png")
    return folders


def test_a_reloaded_model_reads_a_12_bit_camera_as_it_learned_it(twelve_bit: list[Path], tmp_path: Path) -> None:
    """Without the white level its own training pictures would come out sixteen times too dark, and be rejected."""
    stream = continuad.open_stream(twelve_bit, image_size=64, cache=None)
    assert [task.bits for task in stream] == [12, 12]
    strategy = continuad.make_strategy("pertask", continuad.make_detector("padim", image_size=64, channels=12))
    for task in stream:
        strategy.learn(task)
    in_memory = strategy.predict(next(in_order(stream[0].train, 16)).image).score
    continuad.save_model(strategy, tmp_path / "model")
    again, _ = continuad.load_model(tmp_path / "model")
    from_files = [v.score for v in continuad.predict_files(again, stream[0].train.paths)]
    np.testing.assert_allclose(from_files, in_memory[: len(from_files)], rtol=1e-4, atol=1e-4)


def test_white_levels_that_differ_need_the_task_or_the_level(twelve_bit: list[Path]) -> None:
    for path in twelve_bit[1].glob("*.png"):
        Image.fromarray((np.asarray(Image.open(path)) // 4).astype(np.uint16)).save(path)  # a 10-bit camera
    stream = continuad.open_stream(twelve_bit, image_size=64, cache=None)
    strategy = continuad.make_strategy("pertask", continuad.make_detector("padim", image_size=64, channels=12))
    for task in stream:
        strategy.learn(task)
    path = stream[1].train.paths[0]
    with pytest.raises(ContinuadError, match=r"dark 12, bright 10 bits"):
        list(continuad.predict_files(strategy, path))
    (by_task,) = continuad.predict_files(strategy, path, task="bright")
    (by_bits,) = continuad.predict_files(strategy, path, bits=10)
    assert by_task.score == pytest.approx(by_bits.score)


def test_deep_pictures_are_not_darkened_for_a_model_of_8_bit_pictures(taught, tmp_path: Path) -> None:
    """Whether 12 bits of a camera lie in a 16-bit file, only its owner knows."""
    stream, strategy = taught
    assert [task.bits for task in stream] == [8, 8]
    grey = np.asarray(Image.open(stream[0].test.paths[0]).convert("L"))
    deep, shallow = tmp_path / "deep.png", tmp_path / "shallow.png"
    Image.fromarray(grey.astype(np.uint16) * 16).save(deep)
    Image.fromarray(grey.astype(np.uint16)).save(shallow)
    for given in (None, "bottle"):
        with pytest.raises(ContinuadError, match=r"deep\.png: above 8 bits, and .* set the option bits"):
            list(continuad.predict_files(strategy, deep, task=given))
    (by_bits,) = continuad.predict_files(strategy, deep, task="bottle", bits=12)
    (plain,) = continuad.predict_files(strategy, shallow, task="bottle")
    assert by_bits.score == pytest.approx(plain.score, rel=0.05)


def test_a_path_that_is_not_there_names_its_first_missing_part(taught, tmp_path: Path) -> None:
    with pytest.raises(ContinuadError) as missing:
        list(continuad.predict_files(taught[1], tmp_path / "incoming" / "today" / "1.png"))
    assert str(missing.value).endswith(f"there is no {tmp_path / 'incoming'}. Name an image or a folder of images.")


def test_a_threshold_of_ones_own_replaces_the_models(taught) -> None:
    stream, strategy = taught
    path = stream[0].test.paths[0]
    (found,) = continuad.predict_files(strategy, path)
    for threshold, anomalous in ((found.score - 0.01, True), (found.score + 0.01, False), (10**6, False)):
        (other,) = continuad.predict_files(strategy, path, threshold=threshold)
        assert (other.threshold, other.anomalous, other.score) == (threshold, anomalous, found.score)
        assert anomalous or not other.mask.any()
    for wrong in (float("nan"), float("inf"), "0.5", True):
        with pytest.raises(ContinuadError, match=r"threshold=.* must be a finite number"):
            list(continuad.predict_files(strategy, path, threshold=wrong))  # type: ignore[arg-type]
