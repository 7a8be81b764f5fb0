"""A model on disk: what is in it, who can read it, and that learning goes on from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import SIZE, ToyAutoencoder, stream

from continuad.core.fit import Budget
from continuad.core.thresholds import parse_rule
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.models.registry import make_detector, make_strategy
from continuad.models.store import MANIFEST, describe, load_into, load_model, save_model, undo_save
from continuad.strategies.naive import Naive
from continuad.strategies.replay import Replay
from continuad.vision.backbones import DEFAULT, BackboneSpec

TRUST = ["toys:ToyAutoencoder"]


def test_a_model_learned_on_a_gpu_loads_without_one(tmp_path: Path) -> None:
    """In a process that sees no GPU; where this machine has none, it shows that files name no device."""
    strategy = Replay(ToyAutoencoder(), 6).to("cuda" if torch.cuda.is_available() else "cpu")
    strategy.learn(stream(1)[0])
    save_model(strategy, tmp_path)
    code = (
        "import sys; from continuad.models.store import load_model;"
        "strategy, _ = load_model(sys.argv[1], trust=['toys:ToyAutoencoder']);"
        "print({str(t.device) for t in strategy.state_dict().values()})"
    )
    here = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": here, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "{'cpu'}", done.stderr


def test_a_model_holds_tensors_and_plain_values_only(tmp_path: Path) -> None:
    """Paths, too, are written as text."""
    strategy = Naive(ToyAutoencoder())
    strategy.learn(stream(1)[0])
    save_model(strategy, tmp_path, {"note": "äöü"})
    assert {f.suffix for f in tmp_path.iterdir()} == {".safetensors", ".json", ".lock"}
    assert load_model(tmp_path, TRUST)[1] == {"note": "äöü"}
    detector = Padim(image_size=32, channels=4)
    detector.backbone = BackboneSpec(DEFAULT, Path("weights") / f"{DEFAULT}.pth")  # type: ignore[arg-type]
    options = describe(Naive(detector))["detector"]["options"]
    assert options["backbone"]["weights_file"] == os.path.join("weights", f"{DEFAULT}.pth")


def test_learning_goes_on_from_a_saved_model_with_its_memory(tmp_path: Path) -> None:
    whole, first, second = (Replay(ToyAutoencoder(), 6) for _ in range(3))
    one, two = stream(2)
    whole.learn(one)
    whole.learn(two)
    first.learn(one)
    save_model(first, tmp_path)
    load_into(second, tmp_path)
    second.learn(two)
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in whole.state_dict().items())


def test_the_budget_is_saved_with_the_model(tmp_path: Path) -> None:
    strategy = Naive(ToyAutoencoder())
    strategy.budget = Budget(epochs=2, patience=3)
    strategy.learn(stream(1)[0])
    save_model(strategy, tmp_path)
    assert load_model(tmp_path, TRUST)[0].budget == Budget(epochs=2, patience=3)
    with pytest.raises(ContinuadError, match="other settings of its strategy"):
        load_into(Naive(ToyAutoencoder()), tmp_path)


@pytest.mark.parametrize("name", ["naive", "pertask"])
@pytest.mark.parametrize("rule", ["far:0.1", "far:0.3:confidence=0.9:pixels=peaks", "area:5"])
def test_a_loaded_model_has_the_same_thresholds_at_any_rate(name: str, rule: str, tmp_path: Path) -> None:
    model = make_strategy(name, make_detector("padim", image_size=SIZE, channels=12))
    model.calibration.rule = parse_rule(rule)
    for task in stream(2):
        model.learn(task)
    save_model(model, tmp_path)
    loaded, _ = load_model(tmp_path)
    assert loaded.calibration.rule == model.calibration.rule
    for task in (0, 1, None):
        for rate in (None, 0.01, 0.2, 0.5):
            assert loaded.thresholds(task, rate) == model.thresholds(task, rate)
        assert loaded.calibration.confidence(7.0, task) == model.calibration.confidence(7.0, task)
    assert loaded.thresholds(0, 0.01).image > loaded.thresholds(0, 0.5).image


@pytest.mark.parametrize("source", ["train", "val", "crossfit:3"])
def test_where_thresholds_come_from_is_saved_with_the_model(source: str, tmp_path: Path) -> None:
    model = make_strategy("naive", make_detector("padim", image_size=SIZE, channels=12))
    model.thresholds_from = source
    first, second = stream(2)
    model.learn(first)
    save_model(model, tmp_path)
    loaded, _ = load_model(tmp_path)
    assert loaded.thresholds_from == source
    for each in (model, loaded):
        each.learn(second)
    assert loaded.thresholds(1) == model.thresholds(1)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | {"thresholds_from": "test"}))
    with pytest.raises(ContinuadError, match="thresholds from 'test'"):
        load_model(tmp_path)


def test_models_of_another_format_are_refused_with_the_remedy(tmp_path: Path) -> None:
    strategy = Naive(ToyAutoencoder())
    strategy.learn(stream(1)[0])
    save_model(strategy, tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    manifest = json.loads((tmp_path / "old" / MANIFEST).read_text())
    manifest["format"] = 1
    (tmp_path / "old" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ContinuadError, match=r"format 1.*learn it again"):
        load_model(tmp_path / "old", TRUST)


def test_a_model_file_runs_no_code_that_is_not_trusted(tmp_path: Path) -> None:
    """A name in a manifest is data: `os:system` with a command among its options is refused, and so is any class."""
    strategy = Naive(Padim(image_size=32, channels=4))
    strategy.learn(stream(1, size=32)[0])
    save_model(strategy, tmp_path)
    plain = json.loads((tmp_path / MANIFEST).read_text())
    touched = tmp_path / "touched"
    attacks = [
        {"detector": {"name": "os:system", "options": {"command": f"touch {touched}"}}},
        {"detector": {"name": "tiled-os:system", "options": {"command": f"touch {touched}"}}},
        {"strategy": plain["strategy"] | {"name": "subprocess:run", "options": {"args": ["touch", str(touched)]}}},
        {"strategy": plain["strategy"] | {"name": "combined", "options": {"strategies": "os:system:x+ewc", "seed": 0}}},
    ]
    for attack in attacks:
        (tmp_path / MANIFEST).write_text(json.dumps(plain | attack))
        with pytest.raises(ContinuadError, match="not part of continuad"):
            load_model(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps(plain | attacks[0]))
    with pytest.raises(ContinuadError, match="'os:system' is no detector"):
        load_model(tmp_path, trust=["os:system"])
    assert not touched.exists()


def test_the_version_before_can_be_had_back(tmp_path: Path) -> None:
    strategy = Naive(Padim(image_size=32, channels=4))
    one, two = stream(2, size=32)
    images = torch.from_numpy(one.test.images)
    strategy.learn(one)
    save_model(strategy, tmp_path)
    before = strategy.predict(images)
    strategy.learn(two)
    save_model(strategy, tmp_path)
    assert torch.equal(load_model(tmp_path)[0].predict(images).map, strategy.predict(images).map)
    undo_save(tmp_path)
    again, _ = load_model(tmp_path)
    assert torch.equal(again.predict(images).map, before.map)
    assert [task.name for task in again.tasks] == ["zebra"]
    with pytest.raises(ContinuadError, match="no version before"):
        undo_save(tmp_path)


def test_a_damaged_version_takes_the_place_of_no_good_one(tmp_path: Path) -> None:
    strategy = Naive(Padim(image_size=32, channels=4))
    for task in stream(2, size=32):
        strategy.learn(task)
        save_model(strategy, tmp_path)
    first = {place["file"] for place in json.loads((tmp_path / "previous.json").read_text())["tensors"].values()}
    for file in set(tmp_path.glob("*.safetensors")) - {tmp_path / name for name in first}:
        file.write_bytes(file.read_bytes()[:-1])
    strategy.learn(stream(3, size=32)[2])
    save_model(strategy, tmp_path)
    undo_save(tmp_path)
    assert [task.name for task in load_model(tmp_path)[0].tasks] == ["zebra"]


def test_files_of_versions_that_nobody_can_go_back_to_are_removed(tmp_path: Path) -> None:
    strategy = Naive(Padim(image_size=32, channels=4))
    counts = []
    for task in stream(3, size=32):
        strategy.learn(task)
        save_model(strategy, tmp_path)
        counts.append(len(list(tmp_path.glob("*.safetensors"))))
    assert counts == [counts[0], 2 * counts[0], 2 * counts[0]]


def test_a_full_disk_leaves_the_version_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = Naive(Padim(image_size=32, channels=4))
    one, two = stream(2, size=32)
    strategy.learn(one)
    save_model(strategy, tmp_path)
    before = load_model(tmp_path)[0].state_dict()
    strategy.learn(two)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("continuad.models.tensors.save_file", full)
    with pytest.raises(ContinuadError, match="No space left"):
        save_model(strategy, tmp_path)
    after = load_model(tmp_path)[0].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("tensors", {"detector.stats.mean": {"file": "../other/a.safetensors", "key": "detector.stats.mean"}}),
        ("tensors", {"detector.stats.mean": {"file": "/etc/passwd", "key": "x"}}),
        ("tensors", "abc"),
        ("tasks", [{"index": "0", "name": 5, "bits": "x"}]),
        ("tasks", None),
        ("detector", {"name": 3, "options": {}}),
        ("strategy", {"name": "naive", "options": {}, "budget": {"foo": 1}}),
        ("threshold", 5),
        ("extra", None),
    ],
)
def test_a_manifest_that_is_not_as_it_was_written_is_refused(part: str, value: object, tmp_path: Path) -> None:
    strategy = Naive(Padim(image_size=32, channels=4))
    strategy.learn(stream(1, size=32)[0])
    save_model(strategy, tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | {part: value}))
    with pytest.raises(ContinuadError, match="is damaged"):
        load_model(tmp_path)
    del manifest[part]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ContinuadError, match="is damaged"):
        load_model(tmp_path)


@torch.inference_mode()
def test_a_model_made_or_loaded_in_inference_mode_learns_on(tmp_path: Path) -> None:
    one, two = stream(2)
    strategy = make_strategy("ewc", make_detector("vae", image_size=64, latent=4, width=0.1))
    strategy.budget = Budget(steps=2)
    strategy.learn(one)
    save_model(strategy, tmp_path)
    again, _ = load_model(tmp_path)
    for each in (strategy, again):
        each.learn(two)
    images = torch.from_numpy(one.test.images)
    assert torch.equal(strategy.predict(images).map, again.predict(images).map)


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "combined:evil:Cls", "options": {}},
        {"name": "combined", "options": {"strategies": "combined:evil:Cls"}},
        {"name": "combined", "options": {"strategies": "ewc+combined:evil:Cls"}},
        {"name": "evil:Cls:300", "options": {}},
    ],
)
def test_no_way_of_writing_a_strategy_gets_past_trust(strategy: dict[str, object], tmp_path: Path) -> None:
    made = Naive(Padim(image_size=32, channels=4))
    made.learn(stream(1, size=32)[0])
    save_model(made, tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["strategy"] |= strategy
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ContinuadError, match="not part of continuad"):
        load_model(tmp_path)


def test_saving_removes_no_file_but_its_own(tmp_path: Path) -> None:
    others = tmp_path / "resnet18.safetensors"
    others.write_bytes(b"weights of somebody else")
    strategy = Naive(Padim(image_size=32, channels=4))
    for task in stream(3, size=32):
        strategy.learn(task)
        save_model(strategy, tmp_path)
    assert others.read_bytes() == b"weights of somebody else"


def test_what_cannot_be_gone_back_to_is_not_gone_back_to(tmp_path: Path) -> None:
    strategy = Naive(Padim(image_size=32, channels=4))
    one, two = stream(2, size=32)
    strategy.learn(one)
    save_model(strategy, tmp_path)
    strategy.learn(two)
    save_model(strategy, tmp_path)
    save_model(strategy, tmp_path)  # nothing new: the version before stays that of one task
    undo_save(tmp_path)
    assert [task.name for task in load_model(tmp_path)[0].tasks] == ["zebra"]
    save_model(strategy, tmp_path)
    (tmp_path / "previous.json").write_text("")
    with pytest.raises(ContinuadError, match="no version before"):
        undo_save(tmp_path)
    assert len(load_model(tmp_path)[0].tasks) == 2
    (tmp_path / MANIFEST).write_text("{")
    save_model(strategy, tmp_path)  # damage does not become the version before
    assert len(load_model(tmp_path)[0].tasks) == 2


def test_a_task_without_images_is_refused() -> None:
    task = stream(1, size=32)[0]
    empty = task.train.subset([])
    for part in ({"train": empty}, {"val": empty}):
        with pytest.raises(ContinuadError, match=r"has no (train|val) images"):
            Naive(Padim(image_size=32, channels=4)).learn(replace(task, **part))


def test_trust_is_a_list_of_whole_names(tmp_path: Path) -> None:
    """A text would be searched for parts: "my_toys:ToyAutoencoderTwin" holds the name of another class."""
    strategy = Naive(ToyAutoencoder())
    strategy.learn(stream(1)[0])
    save_model(strategy, tmp_path)
    with pytest.raises(ContinuadError, match="give a list of classes"):
        load_model(tmp_path, trust="my_toys:ToyAutoencoderTwin")
    with pytest.raises(ContinuadError, match="not part of continuad"):
        load_model(tmp_path, trust=["my_toys:ToyAutoencoderTwin"])
