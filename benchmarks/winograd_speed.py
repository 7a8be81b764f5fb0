"""Learning and asking through convolutions: our Winograd layers beside torch's (oneDNN), in one run.

    python benchmarks/winograd_speed.py [--threads 2]

The shapes are those of patch description networks at 256 pixels and of DRÆM at full width. Forward and backward of
one image; best of several turns, taken in alternation.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn

from continuad.vision.winograd import Conv2d

# name, channels in, channels out, kernel, padding, side
SHAPES = (
    ("student S, 2nd layer", 128, 256, 4, 3, 129),
    ("student S, 3rd layer", 256, 256, 3, 1, 67),
    ("student S, last layer", 256, 768, 4, 0, 67),
    ("student M, 2nd layer", 256, 512, 4, 3, 129),
    ("DRÆM, 2nd stage", 256, 256, 3, 1, 128),
)


def once(layer: nn.Module, x: torch.Tensor, learn: bool) -> float:
    start = time.perf_counter()
    if learn:
        layer(x).sum().backward()
    else:
        with torch.no_grad():
            layer(x)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.set_flush_denormal(True)
    print(f"milliseconds, {asked.threads} threads, torch {torch.__version__}\n")
    print("| layer | | torch | continuad | torch / continuad | largest difference |\n|---|---|---:|---:|---:|---:|")
    for name, inputs, outputs, kernel, padding, side in SHAPES:
        torch.manual_seed(0)
        theirs = nn.Conv2d(inputs, outputs, kernel, padding=padding).to(memory_format=torch.channels_last)
        ours = Conv2d(inputs, outputs, kernel, padding=padding).to(memory_format=torch.channels_last)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(1, inputs, side, side).to(memory_format=torch.channels_last).requires_grad_()
        with torch.no_grad():
            apart = float((ours(x) - theirs(x)).abs().max() / theirs(x).abs().max())
        for learn in (False, True):
            times = [(once(theirs, x, learn), once(ours, x, learn)) for _ in range(asked.turns)]
            a, b = (1000 * min(column) for column in zip(*times, strict=True))
            what = "forward, backward" if learn else "forward"
            print(f"| {name} | {what} | {a:.0f} | {b:.0f} | {a / b:.2f} | {apart:.0e} |", flush=True)


if __name__ == "__main__":
    main()
