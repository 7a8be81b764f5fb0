"""Which products are learned together: from "10-5" to the steps of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple, cast

from continuad.core.types import ImageSet, Joined, Task
from continuad.errors import ContinuadError

NAMED = 3  # products of one step that its name spells out


class Step(NamedTuple):
    """Products that are learned together.

    Attributes:
        task: what a strategy learns; its index counts steps. A step of one product is that product's own task.
        places: positions of its products in the stream.
    """

    task: Task
    places: range

    @property
    def last(self) -> int:
        """The position of its last product."""
        return self.places[-1]


def group_sizes(groups: str, products: int) -> list[int]:
    """How many products each step takes.

    Args:
        groups: parts with "-" between them: N is one step of N products, NxM are M steps of N. A last part
            without x repeats until the stream ends. "": a step for each product.
        products: how many there are in the stream.

    Raises:
        ContinuadError: it cannot be read, or does not add up to the number of products.

    Example: with 15 products "10-5" gives [10, 5], "10-1x5" [10, 1, 1, 1, 1, 1] and "3x5" [3, 3, 3, 3, 3].
    """
    part = r"[1-9]\d{0,5}(x[1-9]\d{0,5})?"
    if not groups:
        return [1] * products
    if not re.fullmatch(rf"{part}(-{part})*", groups):
        raise ContinuadError(
            f"--groups {groups} cannot be read; write 14-1 (14 products in the first step, then 1 a step), 10-1x5 "
            "(10, then five times 1) or 3x5 (five steps of 3)"
        )
    parts = [(int(size), int(times or 1)) for size, _, times in (p.partition("x") for p in groups.split("-"))]
    if "x" not in groups.rpartition("-")[2]:
        size = parts[-1][0]
        parts.append((size, max(0, products - sum(n * m for n, m in parts)) // size))
    total = sum(n * m for n, m in parts)
    if total != products:
        first = parts[0][0] if parts[0][0] < products else max(1, products - 1)
        fits = f"{first}-{products - first}" if products > 1 else "1"
        raise ContinuadError(
            f"--groups {groups} makes steps of {total} products in all and the stream has {products}; give parts that "
            f"add up to {products}, such as {fits} or 1x{products}"
        )
    return [n for n, m in parts for _ in range(m)]


def in_steps(stream: Sequence[Task], sizes: Sequence[int]) -> list[Step]:
    """The stream's products in steps of these sizes, in order."""
    ends = list(accumulate(sizes))
    places = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return [Step(_together([stream[i] for i in some], number), some) for number, some in enumerate(places)]


def _together(products: Sequence[Task], number: int) -> Task:
    """One task of several products, their images read one product after another."""
    if len(products) == 1:
        return replace(products[0], index=number)

    def union(parts: list[ImageSet]) -> ImageSet:
        return cast(ImageSet, Joined(tuple(parts)))

    return Task(
        number,
        _name([product.name for product in products]),
        union([product.train for product in products]),
        union([product.val for product in products]),
        union([product.test for product in products]),
    )


def _name(names: list[str]) -> str:
    shown = names if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return " + ".join(shown)
