"""Split digits (thesis 3.2, after van de Ven, Tolias 2019): the strategies on what they were invented for.

    PYTHONPATH=src python benchmarks/split_digits.py [--seeds 5] [--out docs/results/split_digits]

Five tasks of two digits each from scikit-learn's 1,797 handwritten digits (8 x 8), learned one after another by a small
classifier under the package's own strategies. Three scenarios: the task is given (one pair of classes to choose from),
not needed (first or second digit of its pair), or to be found out (all ten). A strategy's strength is the one of
STRENGTHS with the highest accuracy on val images over all tasks; test images choose nothing.
Left out: `generative`, whose generator draws images and not the digits they show.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.strategy import Strategy
from continuad.core.types import ImageSet, Prediction, Task
from continuad.models.registry import make_detector, make_strategy
from continuad.strategies._task_inference import TaskInferring

SIDE, HIDDEN, STEPS = 32, 100, 300
SCENARIOS = ("task", "domain", "class")
IMPORTANCES, DISTANCES = ("1", "100", "10000", "1000000"), ("0.01", "0.1", "1", "10")
STRENGTHS = {"ewc:*": IMPORTANCES, "ewc-online:*": IMPORTANCES, "mas:*": DISTANCES, "lwf:*": DISTANCES}
STRATEGIES = (
    *("naive", "ewc:*", "ewc-online:*", "mas:*", "lwf:*"),
    *("packnet", "adapters"),
    *("agem:100", "gem:100", "replay:100", "reservoir:100", "herding:100", "der:100", "multitask"),
)
ISOLATING = ("packnet", "adapters")  # asked with the true task only: their task_inference looks at photographs
# van de Ven, Tolias 2019, table 4, on MNIST: what to compare with, not to reach
PUBLISHED = {
    "naive": (87.19, 59.21, 19.90),
    "ewc:*": (98.64, 63.95, 20.01),
    "ewc-online:*": (99.12, 64.32, 19.96),
    "lwf:*": (99.57, 71.50, 23.85),
    "multitask": (99.66, 98.42, 97.94),
}


class Classifier(Detector):
    """Two hidden layers. An image carries its digit in the first pixel of its third channel, where learning reads it.

    Args:
        scenario: "task": each digit competes with the other of its pair; "domain": two answers for all pairs;
            "class": ten.
    """

    batch_size, steps = 16, STEPS

    def __init__(self, image_size: int | tuple[int, int] = SIDE, scenario: str = "class", seed: int = 0):
        super().__init__(image_size)
        self.scenario, self.seed = scenario, seed
        sizes = (64, HIDDEN, HIDDEN, 2 if scenario == "domain" else 10)
        layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits."""
        return [self.net(pixels(images))]

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer."""
        return self.net[:-1](pixels(images))

    def choices(self, images: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the answers that are open, and the right one."""
        logits = self(images)[0]
        if self.scenario == "task":
            pair = 2 * (digits // 2)
            return logits.gather(1, torch.stack([pair, pair + 1], 1)), digits % 2
        return logits, digits % 2 if self.scenario == "domain" else digits

    def step(self, images: Tensor) -> Tensor:
        """Cross entropy."""
        return F.cross_entropy(*self.choices(images, images[:, 2, 0, 0].long()))

    def _predict(self, images: Tensor) -> Prediction:
        """Not what this is about: zeros."""
        return Prediction(torch.zeros(len(images)), torch.zeros(len(images), *self.image_size))


def pixels(images: Tensor) -> Tensor:
    """(B, 64) in 0..1."""
    return images[:, 0, :8, :8].flatten(1) / 16


def image_set(values: np.ndarray, digits: np.ndarray) -> ImageSet:
    images = np.zeros((len(values), 3, SIDE, SIDE), np.uint8)
    images[:, 0, :8, :8], images[:, 2, 0, 0] = values, digits
    n, no = len(images), np.zeros(len(images), bool)
    masks = np.broadcast_to(np.zeros((), bool), (n, SIDE, SIDE))
    return ImageSet(images, no, masks, ~no, ("good",) * n, (), ((SIDE, SIDE),) * n)


def tasks_of(seed: int) -> list[Task]:
    """Two thirds to learn from (a tenth of them val images), one third to test."""
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    parts = np.split(order, [int(0.6 * len(order)), int(2 / 3 * len(order))])
    chosen = [[part[data.target[part] // 2 == t] for part in parts] for t in range(5)]
    sets = [[image_set(data.images[rows], data.target[rows]) for rows in three] for three in chosen]
    return [Task(t, f"{2 * t}/{2 * t + 1}", *three) for t, three in enumerate(sets)]


def accuracy(model: Strategy, sets: list[ImageSet]) -> float:
    """Mean over tasks."""
    shares = []
    for task, one in enumerate(sets):
        detector = model.snapshot(task) if isinstance(model, TaskInferring) else model.detector
        images = torch.from_numpy(one.images)
        with torch.no_grad():
            logits, right = detector.choices(images, images[:, 2, 0, 0].long())
        shares.append(float((logits.argmax(1) == right).float().mean()))
    return sum(shares) / len(shares)


def learn(strategy: str, scenario: str, seed: int) -> tuple[float, float]:
    """Accuracy on val and on test images of all tasks after the last."""
    tasks = tasks_of(seed)
    detector = make_detector(f"{__name__}:{Classifier.__name__}", scenario=scenario, seed=seed)
    model = make_strategy(strategy, detector, seed=seed)
    model.budget = Budget(steps=STEPS)
    for task in model.view(tasks):
        model.learn(task)
    return accuracy(model, [t.val for t in tasks]), accuracy(model, [t.test for t in tasks])


def run(strategy: str, scenario: str, seed: int) -> dict[str, object]:
    """One row: the strength is chosen on val images."""
    started = time.monotonic()
    names = [strategy.replace("*", strength) for strength in STRENGTHS.get(strategy, [""])]
    found = {name: learn(name, scenario, seed) for name in names}
    best = max(names, key=lambda name: found[name][0])
    seconds = round(time.monotonic() - started, 1)
    return {"strategy": strategy, "scenario": scenario, "seed": seed, "chosen": best, "accuracy": found[best][1]} | {
        "seconds": seconds
    }


def table(rows: list[dict[str, object]]) -> str:
    """Mean and deviation over seeds, beside the published figures."""
    lines = ["| strategy | " + " | ".join(f"{s} | {s}, MNIST" for s in SCENARIOS) + " |", "|---|" + "---:|" * 6]
    for strategy in STRATEGIES:
        cells = []
        for i, scenario in enumerate(SCENARIOS):
            values = [
                100 * float(r["accuracy"]) for r in rows if (r["strategy"], r["scenario"]) == (strategy, scenario)
            ]
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{spread}" if values else "–")
            cells.append(f"{PUBLISHED[strategy][i]:.1f}" if strategy in PUBLISHED else "–")
        lines.append(f"| {strategy.removesuffix(':*')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Split digits under every strategy; goes on where it stopped.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("split_digits"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(r["strategy"], r["scenario"], r["seed"]) for r in rows}
    for seed in range(asked.seeds):
        for strategy in STRATEGIES:
            for scenario in SCENARIOS:
                if (strategy, scenario, seed) not in done and (scenario == "task" or strategy not in ISOLATING):
                    rows.append(run(strategy, scenario, seed))
                    with file.open("a") as out:
                        out.write(json.dumps(rows[-1]) + "\n")
                    print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
