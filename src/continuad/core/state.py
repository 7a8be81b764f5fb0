"""Statistics that add up exactly: what detectors, task inference and strategies learn without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

Policy = Literal["restart", "accumulate", "freeze"]
"""What happens to statistics when the next task begins: start again, add up, or stay as they are."""


class Stats(nn.Module):
    """Named tensors of any shape that may come, grow and be replaced.

    They follow `.to()`, are saved with the model and counted as additional memory. A tensor in here is
    replaced, never changed in place, once learning has finished: task snapshots may then share it.
    """

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._buffers[name]
        assert tensor is not None
        return tensor

    def __setitem__(self, name: str, value: Tensor) -> None:
        self._buffers[name] = value

    def __delitem__(self, name: str) -> None:
        del self._buffers[name]

    def __contains__(self, name: str) -> bool:
        return name in self._buffers

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def clear(self) -> None:
        """Forget everything."""
        self._buffers.clear()

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name starts with `prefix`, by the rest of their name, without copying."""
        return {name[len(prefix) :]: self[name] for name in self if name.startswith(prefix)}

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        # The names are not known before loading: take whatever the file holds.
        self.clear()
        self._buffers.update({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})


class HostStats(Stats):
    """Tensors that stay on the CPU wherever the model goes: exemplars, which are large and seldom needed at once."""

    def _apply(self, fn: Any, recurse: bool = True) -> HostStats:
        return self


def fold_in(count: Tensor, mean: Tensor, scatter: Tensor, x: Tensor) -> None:
    """Fold samples into running moments, in place; any split of the samples gives the same moments.

    The pairwise update of Chan, Golub and LeVeque (1983). The shift between the two means enters as one
    more weighted sample, so that the scatter, by far the largest tensor, is read and written once.

    Args:
        count: () float64, samples seen before.
        mean: (L, C) their mean at each of L positions.
        scatter: (L, C, C) sum of outer products of deviations from the mean.
        x: (L, N, C) new samples.
    """
    n = x.shape[1]
    batch_mean = x.mean(1)
    shift = batch_mean - mean
    total = float(count) + n
    weight = (float(count) * n / total) ** 0.5
    deviations = torch.cat([x - batch_mean[:, None], weight * shift[:, None]], 1)
    scatter.baddbmm_(deviations.mT, deviations)
    mean += shift * (n / total)
    count += n
