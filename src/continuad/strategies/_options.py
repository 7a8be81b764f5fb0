"""Ranges of options that several strategies have."""

from __future__ import annotations

import math

from continuad.errors import ContinuadError


def check_range(low: float, high: float = math.inf, **options: float) -> None:
    """Refuse options outside [low, high], and what is no finite number.

    Raises:
        ContinuadError: it names the option, the value and what is allowed.
    """
    for name, value in options.items():
        if not (math.isfinite(value) and low <= value <= high):
            allowed = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ContinuadError(f"{name}={value}: allowed is a number {allowed}")
