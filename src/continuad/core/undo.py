"""What a model was before it began to learn, so that a task that fails or is stopped harms nothing."""

from __future__ import annotations

import torch
from torch import nn

from continuad.core.state import Stats


class Before:
    """A model's state at one time. Statistics are kept by reference, since learning replaces them; weights that learn,
    and the buffers beside them, by copy.

    Args:
        model: a strategy with all that it holds.
    """

    def __init__(self, model: nn.Module):
        stats = [module for module in model.modules() if isinstance(module, Stats)]
        self._stats = [(module, dict(module._buffers)) for module in stats]
        learning = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
        tensors = [t for m in learning for t in (*m.parameters(recurse=False), *m.buffers(recurse=False))]
        self._tensors = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Put it back."""
        for module, tensors in self._stats:
            module._buffers.clear()
            module._buffers.update(tensors)
        for tensor, value in self._tensors:
            tensor.copy_(value)
