"""Which training images are val images, and the working size: `open_stream` and `audit` choose both here."""

from __future__ import annotations

import hashlib

import numpy as np

from continuad.errors import ContinuadError


def val_split(number: int, share: float, seed: int, name: str) -> tuple[list[int], list[int]]:
    """Positions of the images to learn from and of the validation images, both sorted; a single image is in both.

    Args:
        number: how many training images there are.
        share: share of them that is for validation, between 0 and 1; at least one is, at most all but one.
        seed, name: what the draw depends on; the name is the product's, of any characters.
    """
    if number == 1:
        return [0], [0]
    count = min(max(1, round(number * share)), number - 1)
    by_name = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
    drawn = np.random.default_rng([seed, by_name]).permutation(number)
    return sorted(drawn[count:].tolist()), sorted(drawn[:count].tolist())


def working_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) from a side or a pair."""
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or any(not isinstance(side, int) or side < 1 for side in pair):
        raise ContinuadError(f"image_size is {image_size}; give a side in pixels, or height and width, e.g. 256.")
    return pair[0], pair[1]
