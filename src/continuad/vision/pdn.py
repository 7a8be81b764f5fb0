"""Patch description networks: small teachers that were taught a large network's features, and their students."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import safetensors
import torch
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from continuad.data.names import missing_part
from continuad.errors import ContinuadError
from continuad.vision.backbones import Frozen
from continuad.vision.winograd import Conv2d

Size = Literal["s", "m"]
CHANNELS = 384  # of a teacher's answer
SHIPPED = Path(__file__).parent / "weights" / "pdn_s.safetensors"  # how it was made: docs/teacher.md


class PatchDescription(nn.Module):
    """A network each of whose answers describes 33 x 33 pixels (Batzner et al. 2023; M as in thesis Figure 5.1).

    Args:
        size: "s" has four convolutions, "m" six with twice the hidden channels.
        outputs: answer channels; a student of EfficientAD has twice its teacher's.
        padding: zeros around every layer as in Figure 5.1, which gives one answer per 4 x 4 pixels of the
            whole image; without, the outer 16 pixels have none of their own.
    """

    def __init__(self, size: Size, outputs: int = CHANNELS, padding: bool = True):
        super().__init__()
        wide, one = 128 if size == "s" else 256, 1 if padding else 0
        layers: list[nn.Module] = [nn.Conv2d(3, wide, 4, padding=3 * one), nn.ReLU(), nn.AvgPool2d(2, 2, one)]
        layers += [Conv2d(wide, 2 * wide, 4, padding=3 * one), nn.ReLU(), nn.AvgPool2d(2, 2, one)]
        if size == "m":
            layers += [nn.Conv2d(2 * wide, 2 * wide, 1), nn.ReLU()]
        layers += [Conv2d(2 * wide, 2 * wide, 3, padding=one), nn.ReLU(), Conv2d(2 * wide, outputs, 4)]
        if size == "m":
            layers += [nn.ReLU(), Conv2d(outputs, outputs, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, channels: slice = slice(None)) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, outputs, H/4, W/4), or 8 less a side without padding; or some channels."""
        *hidden, last = self.layers
        x = normalised(x).to(memory_format=torch.channels_last)
        for layer in hidden:
            x = layer(x)
        assert isinstance(last, Conv2d)
        return last.part(x, channels)


def normalised(x: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] on the scale that networks of photographs are used to."""
    return normalize(x, list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD))


class Teacher(Frozen):
    """A patch description network that no longer learns."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """As `PatchDescription`."""
        answer: Tensor = self.net(x)
        return answer


def load_teacher(size: Size, weights: str | None = None, padding: bool = True) -> Teacher:
    """A teacher with its weights.

    Args:
        weights: a file that `continuad distill` wrote, or published weights (.pth, .safetensors) whose tensors
            are numbered in the same order, such as nelson1425/EfficientAD's and anomalib's; "random" for an untrained
            one (tests, and to see what teaching is worth). None: the one of size "s" that comes with the package.

    Raises:
        ContinuadError: no weights, or weights that do not fit.
    """
    if weights is None and size != "s":
        raise ContinuadError(
            f"no teacher of size {size} comes with the package. Make one with `continuad distill PHOTOGRAPHS --size "
            f"{size} --out teacher.safetensors` and pass it with --set efficientad-{size}.teacher=teacher.safetensors; "
            "published weights work, too."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # "random" is the same in every process
        net = PatchDescription(size, CHANNELS, padding)
    if weights != "random":
        _fill(net, size, Path(weights).expanduser() if weights else SHIPPED)
    return Teacher(net)


def size_of(text: str) -> Size:
    """A size by its letter."""
    if text == "s":
        return "s"
    if text == "m":
        return "m"
    raise ContinuadError(f"size '{text}' is not known; use s or m")


def _fill(net: PatchDescription, size: Size, path: Path) -> None:
    if not path.is_file():
        why = missing_part(path.absolute()) or "this is no file"
        raise ContinuadError(f"teacher weights {path}: {why}; make them with `continuad distill`")
    try:
        safe = path.suffix == ".safetensors"
        found = load_file(path) if safe else torch.load(path, "cpu", weights_only=True)
        stored = [found[name].float() for name in sorted(found, key=_natural)]
    except (OSError, AttributeError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise ContinuadError(f"teacher weights {path} cannot be read as a plain state dict: {error}") from error
    wanted = net.state_dict()
    order = sorted(wanted, key=_natural)
    if [v.shape for v in stored] != [wanted[name].shape for name in order]:
        raise ContinuadError(f"teacher weights {path} do not fit a patch description network of size {size}")
    net.load_state_dict(dict(zip(order, stored, strict=True)))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts layer 10 after layer 8: files name layers differently and keep no order, but all count upwards."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
