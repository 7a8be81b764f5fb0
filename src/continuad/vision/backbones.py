"""Frozen feature pyramids: a timm network, cut after the last level that is used, with its weights."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, cast

import timm
import torch
from torch import Tensor, nn

from continuad.core.hints import Items, Range, Rising, check_fields
from continuad.errors import ContinuadError
from continuad.vision.backbone_weights import DEFAULT, pretrained
from continuad.vision.feature_cache import current_store
from continuad.vision.pyramids import REFUSALS, drop_idle, fold_batch_norm, pyramid, takes, trial_image

CPU_SLICE = 4  # images at once: more would push the first layers out of a processor's cache
USUAL_MULTIPLE = 32  # sides that every network without a size of its own takes
NEAR = 64  # pixels up and down in which sizes are looked for that a network takes
Precision = Literal["float32", "bfloat16"]
Strides = Annotated[Sequence[Annotated[int, Range(1, 1024)]], Items(16), Rising()]
"""Levels of a pyramid, as down-sampling factors."""
Module = TypeVar("Module", bound=nn.Module)


class Frozen(nn.Module):
    """A network that never learns: always in evaluation mode, named by its weights in saved models.

    Attributes:
        fingerprint: hash of the weights; a saved model names it instead of carrying the weights.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.fingerprint = _fingerprint(self.net)

    def train(self, mode: bool = True) -> Frozen:
        """Stays in evaluation mode: a frozen network's statistics must not move."""
        return cast(Frozen, super().train(False))


class Backbone(Frozen):
    """A frozen network that turns uint8 images into feature maps at chosen strides.

    Normalisation happens here and nowhere else. Batch normalisation is folded into the convolutions and
    images run channels-last, which makes EfficientNet-Lite0 about twice as fast on a CPU.

    Attributes:
        name: timm's name of the network.
        channels: feature channels of each level.
        strides: down-sampling factor of each level, as timm states it.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, name: str, net: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__(net)
        self.name = name
        info = cast(Any, net).feature_info
        self.channels, self.strides = tuple(info.channels()), tuple(info.reduction())
        scale = 1 / (255 * torch.tensor(std))
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("offset", (torch.tensor(mean) * 255 * scale)[:, None, None])

    @property
    def precision(self) -> torch.dtype:
        """What the network computes in."""
        return next(self.net.parameters()).dtype

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of uint8 images (B, 3, H, W): a (B, C, H/stride, W/stride) float32 each level.

        Raises:
            ContinuadError: a size that the network does not take.
        """
        store = current_store()
        owner = f"{self.fingerprint} {self.strides}"  # the same weights may be cut to other levels
        return self._compute(images) if store is None else store.get(owner, images, self._compute)

    def answers_like(self, other: nn.Module) -> bool:
        """Whether another network gives the same levels, so that one pass can serve both."""
        if not isinstance(other, Backbone):
            return False
        mine, theirs = ((b.fingerprint, b.strides, b.precision) for b in (self, other))
        return mine == theirs and torch.equal(self.scale, other.scale) and torch.equal(self.offset, other.offset)

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse images of a size (H, W) that the network does not take.

        Raises:
            ContinuadError: with the nearest sizes that it takes.
        """
        fixed = cast(Any, timm.get_pretrained_cfg(self.name)).fixed_input_size
        if not fixed and not any(side % USUAL_MULTIPLE for side in size):
            return  # convolutions take these; asking would cost up to a tenth of a second
        if not takes(self.net, *size):
            raise self._refusal(size)

    def _refusal(self, size: tuple[int, int]) -> ContinuadError:
        near = [self._near(side) for side in size]
        below, above = ((near[0][way], near[1][way]) for way in (0, 1))
        options = [f"{h} x {w}" for h, w in dict.fromkeys((below, above)) if h and w]
        advice = f"the nearest it takes: {' or '.join(options)}" if options else "no size near it does either"
        return ContinuadError(f"backbone '{self.name}' does not take images of {size[0]} x {size[1]}; {advice}")

    def _near(self, side: int) -> tuple[int, int]:
        """The nearest sides of squares below and above a side that the network takes; 0 where there is none."""
        own = cast(Any, timm.get_pretrained_cfg(self.name)).input_size[-1]
        if takes(self.net, side, side):
            return side, side
        ways = (range(side, max(side - NEAR, 0), -1), range(side, side + NEAR))
        below, above = (next((s for s in way if takes(self.net, s, s)), 0) for way in ways)
        return below or min(own, side) * (own < side), above or own * (own > side)

    def _compute(self, images: Tensor) -> list[Tensor]:
        device = self.scale.device
        slices = images.to(device).split(CPU_SLICE if device.type == "cpu" else len(images))
        computed = [self._slice(part) for part in slices]
        return computed[0] if len(computed) == 1 else [torch.cat(same) for same in zip(*computed, strict=True)]

    def _slice(self, images: Tensor) -> list[Tensor]:
        x = self.normalised(images).to(self.precision, memory_format=torch.channels_last)
        try:
            return [level.float() for level in self.net(x)]
        except REFUSALS as error:
            height, width = images.shape[-2:]
            if takes(self.net, height, width):  # the size is not what it failed of, or shapes alone do not show it
                if isinstance(error, RuntimeError):
                    raise
                raise ContinuadError(
                    f"backbone '{self.name}' fails on images of {height} x {width}: {error}"
                ) from error
            raise self._refusal((height, width)) from error

    def normalised(self, images: Tensor) -> Tensor:
        """What the network sees of uint8 images: float32 of the same shape."""
        return images * self.scale - self.offset


@dataclass(frozen=True)
class BackboneSpec:
    """Which pretrained network, and how it computes.

    Attributes:
        name: any timm model, e.g. "resnet18", "wide_resnet50_2" or "vit_small_patch14_dinov2".
        weights_file: path of a .safetensors, .pth or .pt state dict of the whole network in timm's or torchvision's
            names, or in those that timm renames; or "random" for untrained weights (tests and speed measurements).
            None: the embedded package for the default network; others need a path or `download`.
        precision: "bfloat16" is faster where the processor has instructions for it, and slower elsewhere.
        download: allow timm to fetch weights from its hub.

    Raises:
        ContinuadError: a value of the wrong type, or an unknown precision.
    """

    name: Annotated[str, Items(200)] = DEFAULT
    weights_file: Annotated[str, Items(4096)] | None = None
    precision: Precision = "float32"
    download: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "backbone: ")

    @classmethod
    def of(cls, given: BackboneSpec | str | Mapping[str, Any]) -> BackboneSpec:
        """A spec, from a network's name, or from the plain values that a saved model holds.

        Raises:
            ContinuadError: values of other names.
        """
        if isinstance(given, BackboneSpec):
            return given
        if isinstance(given, str):
            return cls(given)
        if unknown := sorted(set(given) - {f.name for f in fields(cls)}):
            raise ContinuadError(f"backbone: there is no {', '.join(unknown)}")
        return cls(**given)


AnyBackbone = BackboneSpec | str | Mapping[str, Any]
"""What options accept: a spec, a network's name, or a saved spec's plain values."""


@torch.inference_mode(False)  # its tensors may be wanted for learning later
def load_backbone(spec: AnyBackbone = DEFAULT, strides: Sequence[int] | None = None) -> Backbone:
    """A pretrained pyramid of one's own.

    What is moved or changed in one is not in another, but as long as they stay where they are they share the bytes
    of their weights.

    Args:
        strides: levels to return, as down-sampling factors; None: 4, 8 and 16 where the network has them. A network
            of one grid, such as a vision transformer, gives as many levels of it, from depths as far apart as possible.

    Raises:
        ContinuadError: unknown name or stride, missing weights, or weights that do not fit.
    """
    return shared_copy(_load(BackboneSpec.of(spec), None if strides is None else tuple(strides)))


def shared_copy(module: Module) -> Module:
    """The same network with modules of its own around the same tensors."""
    twins: dict[int, Tensor] = {id(buffer): buffer.detach() for buffer in module.buffers()}
    twins |= {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in module.parameters()}
    return copy.deepcopy(module, twins)


@lru_cache(maxsize=4)
def _load(spec: BackboneSpec, strides: tuple[int, ...] | None) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        config, weights = pretrained(spec.name, spec.weights_file, spec.download)
        net = pyramid(spec.name, strides, weights).eval()
        image = trial_image(spec.name, net)
        net = drop_idle(fold_batch_norm(net, image), image)
    if spec.precision == "bfloat16":
        net = net.bfloat16()
    return Backbone(spec.name, net, config["mean"], config["std"])


def _fingerprint(net: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().contiguous().numpy().tobytes())
    return digest.hexdigest()
