"""What a run costs beside other busy processes: alone, beside one that keeps a core busy, and beside two.

    python benchmarks/busy_machine.py [--image-size 256] [--timeout 300]

PaDiM learns two drawn products by `continuad bench`, in a process of its own, with the waiting policy that the command
line sets and with the one that torch has by itself (threads that wait for each other spin). The fair share is the time
alone, times the threads that want a core, divided by the cores there are. Nothing else should run meanwhile; the load
before each case is printed beside it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from continuad.cli.environment import OF_WAITING
from continuad.demo.line import write_line

BUSY = "while True: pass"
ASKED = ["--strategy", "naive", "--no-estimate"]
POLICIES = {
    "as the command line sets it": {},
    # read by Intel's runtime alone and at its default there, but the command line then takes the policy for the user's
    "as torch has it by itself": {"KMP_LIBRARY": "throughput"},
}


def seconds(products: list[Path], size: int, policy: dict[str, str], busy: int, timeout: float) -> float:
    """Wall time of one run beside so many busy processes; infinite when it takes longer than `timeout`."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_WAITING} | policy
    with ExitStack() as stack:
        for _ in range(busy):
            other = subprocess.Popen([sys.executable, "-c", BUSY])
            stack.callback(other.wait)
            stack.callback(other.kill)
        out = stack.enter_context(tempfile.TemporaryDirectory())
        command = [sys.executable, "-m", "continuad", "bench", *map(str, products), "--out", out, *ASKED]
        began = time.perf_counter()
        try:
            subprocess.run(
                [*command, "--image-size", str(size)], env=environment, timeout=timeout, check=True, capture_output=True
            )
        except subprocess.TimeoutExpired:
            return float("inf")
        return time.perf_counter() - began


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--image-size", type=int, default=256)
    options.add_argument("--timeout", type=float, default=300, help="seconds a run may take")
    asked = options.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        products = write_line(Path(folder), products=("cable", "bottle"), size=asked.image_size)
        seconds(products, asked.image_size, {}, 0, asked.timeout)  # fills the caches of files and decoded images
        print(f"{cores} cores; seconds of the whole command")
        for name, policy in POLICIES.items():
            print(f"\nwaiting policy {name}")
            alone = 0.0
            for busy in range(3):
                load = os.getloadavg()[0]
                taken = seconds(products, asked.image_size, policy, busy, asked.timeout)
                alone = alone or taken
                fair = alone * max(1, (cores + busy) / cores)
                print(
                    f"  beside {busy} busy: {taken:6.1f} s, fair share {fair:5.1f} s, load before {load:.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
