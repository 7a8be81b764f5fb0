"""What a model was before it began to learn, so that a task that fails or is stopped harms nothing."""

from __future__ import annotations

import torch
from torch import nn


class Before:
    """A model's state at one time: every attribute of every module in it, whatever its kind.

    Values are kept by reference, since learning replaces them, and so are the elements of dictionaries, lists and sets
    that lie in attributes (the tensors in a `Stats` among them). Weights that learn, and the buffers beside them,
    change in place and are kept by copy. What else changes in place deeper inside an attribute is not noticed.

    Args:
        model: a strategy with all that it holds.
    """

    def __init__(self, model: nn.Module):
        modules = list(model.modules())
        self.attributes = [(vars(module), dict(vars(module))) for module in modules]
        containers = [
            value for own, _ in self.attributes for value in own.values() if isinstance(value, dict | list | set)
        ]
        self.contents = [(container, container.copy()) for container in containers]
        learning = [m for m in modules if any(p.requires_grad for p in m.parameters(recurse=False))]
        tensors = [t for m in learning for t in (*m.parameters(recurse=False), *m.buffers(recurse=False))]
        self.tensors = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Put it back, and let gradients go."""
        for own, attributes in self.attributes:
            own.update(attributes)
            for new in own.keys() - attributes.keys():
                del own[new]
        for container, content in self.contents:
            container.clear()
            if isinstance(container, list):
                container.extend(content)
            else:
                container.update(content)
        for tensor, value in self.tensors:
            tensor.copy_(value)
            tensor.grad = None
