"""Mutation testing: small faults are put into the package one at a time, and a test has to fail for each.

    pip install mutmut==3.8.1
    OMP_NUM_THREADS=1 python benchmarks/mutation.py metrics memory
    OMP_NUM_THREADS=1 python benchmarks/mutation.py core --sample 250

Works in a copy of src/ and tests/ (`--work`, by default a new temporary folder), prints a table and the change
that every surviving mutant makes. With an existing `--work` only new and changed functions are tried again, or the
mutants named by `--only` (a pattern such as "*equal_shares*"). `--sample` tries that many mutants of each folder, drawn
at random from `--seed`; the same numbers draw the same mutants of the same code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TESTS = {  # what is run for the mutants of a folder; of these, mutmut runs those that reach the mutated function
    "metrics": ["tests/metrics"],
    "memory": ["tests/memory", "tests/strategies/test_strategies.py"],
    "core": ["tests/core", "tests/strategies/test_strategies.py"],
    "strategies": ["tests/strategies", "tests/core/test_strategy.py"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", choices=TESTS, help="of src/continuad")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--only", nargs="*", default=[], help="patterns of mutant names")
    parser.add_argument("--sample", type=int, default=None, help="mutants of each folder; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args()
    work = chosen.work or Path(tempfile.mkdtemp(prefix="mutation-"))
    prepare(work, chosen.folders)
    os.chdir(work)  # mutmut reads its settings when it is imported
    from mutmut import __main__ as mutmut

    mutate_under_decorators()
    if chosen.sample is not None:
        draw(chosen.folders, chosen.sample, chosen.seed)
    with contextlib.suppress(SystemExit):
        mutmut.cli(["run", "--max-children", str(chosen.processes), *chosen.only])
    report(chosen.folders)


def prepare(work: Path, folders: list[str]) -> None:
    """Copy what the tests need and add mutmut's settings to pyproject.toml."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, work / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    lists = {
        "source_paths": ["src"],
        "only_mutate": [f"src/continuad/{folder}/*" for folder in folders],
        "pytest_add_cli_args": ["--hypothesis-seed=0", "-p", "no:xdist", "-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": sorted({test for folder in folders for test in TESTS[folder]}),
    }
    limits = (
        "timeout_constant = 5.0\ntimeout_multiplier = 4.0\n"  # a mutant may take 4 (t + 5) seconds where tests take t
    )
    settings = "\n[tool.mutmut]\n" + limits + "".join(f"{key} = {value!r}\n" for key, value in lists.items())
    (work / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)


def mutate_under_decorators() -> None:
    """mutmut leaves decorated functions out. Those of torch.no_grad, property and contextmanager are pure enough to
    be mutated: the decorator goes onto the switch between the mutants, and the mutants themselves stay bare."""
    import libcst as cst
    from mutmut.mutation import file_mutation

    skip = file_mutation.MutationVisitor._skip_node_and_children
    arrange = file_mutation.function_trampoline_arrangement

    def names(function: cst.FunctionDef) -> set[str]:
        return {cst.Module([]).code_for_node(each.decorator) for each in function.decorators}

    def lifted(function: cst.CSTNode) -> bool:
        known = {"torch.no_grad()", "property", "contextmanager"}
        return isinstance(function, cst.FunctionDef) and bool(function.decorators) and names(function) <= known

    def skipped(self: Any, node: cst.CSTNode) -> bool:
        return False if lifted(node) else skip(self, node)

    def arranged(function: cst.FunctionDef, mutants: Any, class_name: str | None) -> Any:
        if not lifted(function):
            return arrange(function, mutants, class_name=class_name)
        before, nodes, after, found = arrange(function.with_changes(decorators=[]), mutants, class_name=class_name)
        switch = nodes[0].with_changes(decorators=[*function.decorators, *nodes[0].decorators])
        return before, [switch, *nodes[1:]], after, found

    file_mutation.MutationVisitor._skip_node_and_children = skipped  # type: ignore[method-assign]
    file_mutation.function_trampoline_arrangement = arranged


def draw(folders: list[str], count: int, seed: int) -> None:
    """Have mutmut try that many mutants of each folder instead of all of them."""
    from mutmut import __main__ as mutmut

    collect = mutmut.collect_source_file_mutation_data

    def some(**given: Any) -> Any:
        mutants, data = collect(**given)
        kept: set[str] = set()
        for folder in folders:
            names = sorted(name for _, name, _ in mutants if name.startswith(f"continuad.{folder}."))
            kept |= set(random.Random(seed).sample(names, min(count, len(names))))
            print(f"{folder}: {len(names)} mutants, of which {min(count, len(names))} are tried")
        return [each for each in mutants if each[1] in kept], data

    mutmut.collect_source_file_mutation_data = some


def report(folders: list[str]) -> None:
    """Print how many mutants of each folder were killed, and the change of each that was not."""
    from mutmut.__main__ import SourceFileMutationData, status_by_exit_code
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    counts: dict[str, Counter[str]] = {folder: Counter() for folder in folders}
    for folder in folders:
        for path in sorted(Path(f"src/continuad/{folder}").glob("**/*.py")):
            data = SourceFileMutationData(path=path)
            data.load()
            for name, code in data.exit_code_by_key.items():
                status = status_by_exit_code[code]
                if status == "not checked":  # left out by --only
                    continue
                counts[folder][status] += 1
                if status not in ("killed", "timeout"):
                    print(f"\n# {status}: {name}\n{get_diff_for_mutant(name, path=path)}")
    print(
        "\n| folder | mutants | killed | timeout | survived | of these without a test |\n|---|---:|---:|---:|---:|---:|"
    )
    for folder, by in counts.items():
        survived = by.total() - by["killed"] - by["timeout"]
        print(f"| {folder} | {by.total()} | {by['killed']} | {by['timeout']} | {survived} | {by['no tests']} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
