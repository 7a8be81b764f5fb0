"""Several processes and one model folder: nothing is lost, and whoever is killed leaves a whole model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from toys import stream

from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.models import store
from continuad.models.store import LOCK, MANIFEST, PREVIOUS, load_model, save_model, undo_save
from continuad.strategies.naive import Naive

START = """
import os, random, signal, sys, time
from pathlib import Path
from toys import stream
from continuad.detectors.padim import Padim
from continuad.models import store
from continuad.strategies.naive import Naive
folder = Path(sys.argv[1])
one, two = stream(2, size=32)
"""

SLOW = """
strategy = Naive(Padim(image_size=32, channels=4))
strategy.learn(one)
inside = store._replace_manifest
def slow(*arguments):
    (folder / "inside").touch()
    time.sleep(1.0)
    inside(*arguments)
store._replace_manifest = slow
store.save_model(strategy, folder)
"""

# Children that save in turn what has learned one task and two; each is killed at a moment of its own.
KILLED = """
strategy = Naive(Padim(image_size=32, channels=160))
strategy.learn(one)
store.save_model(strategy, folder)
first = strategy.state_dict()
later = Naive(Padim(image_size=32, channels=160))
later.learn(one)
later.learn(two)
began = time.perf_counter()
for _ in range(3):
    store.save_model(later, folder)
    store.save_model(strategy, folder)
once = (time.perf_counter() - began) / 6
moments = random.Random(0)
for _ in range(10):
    child = os.fork()
    if not child:
        while True:
            store.save_model(later, folder)
            store.save_model(strategy, folder)
    time.sleep(once * (1 + 2 * moments.random()))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found, _ = store.load_model(folder)
    whole = {1: strategy, 2: later}[len(found.tasks)].state_dict()
    assert all(value.equal(whole[name]) for name, value in found.state_dict().items())
    print(len(found.tasks), sorted(p.name for p in folder.iterdir()))
store.save_model(later, folder)
store.save_model(strategy, folder)
"""


def _start(code: str, folder: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", START + code, str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _taught(tasks: int = 1) -> Naive:
    strategy = Naive(Padim(image_size=32, channels=4))
    for task in stream(tasks, size=32):
        strategy.learn(task)
    return strategy


def test_two_processes_that_save_take_turns_and_both_versions_are_kept(tmp_path: Path) -> None:
    mine, other = _taught(2), _start(SLOW, tmp_path)
    while not (tmp_path / "inside").exists():
        assert other.poll() is None, other.communicate()[1]
        time.sleep(0.01)
    save_model(mine, tmp_path)
    assert other.wait() == 0, other.communicate()[1]
    assert len(load_model(tmp_path)[0].tasks) == 2, "the one that came second is the newest"
    undo_save(tmp_path)
    assert len(load_model(tmp_path)[0].tasks) == 1, "the one that came first is the version before"


def test_who_waits_too_long_gets_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.1)
    strategy = _taught()
    save_model(strategy, tmp_path)
    save_model(_taught(2), tmp_path)
    with FileLock(tmp_path / LOCK):
        for change in (lambda: save_model(strategy, tmp_path), lambda: undo_save(tmp_path)):
            with pytest.raises(ContinuadError, match="another process has been saving"):
                change()
    save_model(strategy, tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_save_that_is_killed_at_any_moment_leaves_the_old_model_or_the_new(tmp_path: Path) -> None:
    done = _start(KILLED, tmp_path)
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert len(out.splitlines()) == 10
    kept = [json.loads((tmp_path / name).read_text())["tensors"].values() for name in (MANIFEST, PREVIOUS)]
    named = {place["file"] for places in kept for place in places}
    assert {path.name for path in tmp_path.iterdir()} == named | {MANIFEST, PREVIOUS, LOCK}, "all else was swept"


def test_what_a_killed_process_left_is_swept_at_the_next_save(tmp_path: Path) -> None:
    strategy = _taught()
    save_model(strategy, tmp_path)
    whole = {path.name for path in tmp_path.iterdir()}
    (tmp_path / ".new-ab12_cd9.safetensors").write_bytes(b"half")
    (tmp_path / ".new-ab12_cd8.json").write_bytes(b"half")
    (tmp_path / f"{'0' * 32}.safetensors").write_bytes(b"whole, but its manifest never came")
    for others in (".new-year.txt", "new-weights.safetensors"):
        (tmp_path / others).write_bytes(b"somebody else's")
    save_model(strategy, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == whole | {".new-year.txt", "new-weights.safetensors"}


def test_a_version_that_was_undone_leaves_no_files_behind(tmp_path: Path) -> None:
    one, two = _taught(), _taught(2)
    save_model(one, tmp_path)
    alone = {path.name for path in tmp_path.iterdir()}
    save_model(two, tmp_path)
    undo_save(tmp_path)
    save_model(one, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == alone
    assert torch.equal(load_model(tmp_path)[0].state_dict()["detector.stats.mean"], one.detector.stats["mean"])
