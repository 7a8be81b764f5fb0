"""Feature levels of any timm network: which it has, where its weights go, and how it is made lean."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from continuad.errors import ContinuadError

USUAL = (4, 8, 16)  # levels that are taken where none are asked for
TRIALS = (64, 224)  # sides on which a network is tried out; what takes neither is tried at the size it was made for
REFUSALS = (AssertionError, RuntimeError, ValueError, IndexError)  # how timm's networks say that a size is not theirs


class ChannelsFirst(nn.Module):
    """A network whose levels are (B, h, w, C), as those of Swin transformers, made to answer (B, C, h, w)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self.feature_info: Any = net.feature_info

    def forward(self, x: Tensor) -> list[Tensor]:
        """Levels (B, C, h, w)."""
        return [level.permute(0, 3, 1, 2).contiguous() for level in self.net(x)]


def whole(name: str, **arguments: Any) -> nn.Module:
    """The whole timm network, which takes pictures of any size where it can.

    Transformers are made for one size of picture; most interpolate their positions to another one if asked to.
    """
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:8]) or "see timm.list_models()"
        raise ContinuadError(f"unknown backbone '{name}'; timm has, for example: {near}")
    fixed = cast(Any, timm.get_pretrained_cfg(name)).fixed_input_size
    any_size: dict[str, Any] = {"dynamic_img_size": True} if fixed else {}
    try:
        return timm.create_model(name, **arguments, **any_size)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
        return timm.create_model(name, **arguments)


def pyramid(name: str, strides: Sequence[int] | None, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A timm network, cut behind the last level used, that returns the levels (B, C, h, w) at those strides.

    A network of one grid, such as a vision transformer, has every level at the stride of its patches: as many levels
    as were asked for are taken, at depths as far apart as possible, the last after the last block.

    Args:
        strides: levels wanted, the finest first. None: 4, 8 and 16 where it has them.
        weights: of the whole network, by its names. None: drawn from torch's generator.

    Returns:
        The network in training mode; `feature_info` says the channels and the strides of its levels.

    Raises:
        ContinuadError: an unknown network, one without levels, or strides without levels.
    """
    indices = _indices(name, strides)
    net = whole(name, features_only=True, out_indices=indices)
    if weights is not None:
        net.load_state_dict(_renamed(name, weights, net.state_dict()))
    return ChannelsFirst(net) if str(getattr(net, "output_fmt", "")).endswith("NHWC") else net


def _indices(name: str, strides: Sequence[int] | None) -> tuple[int, ...]:
    try:
        with torch.device("meta"):
            info = cast(Any, whole(name, features_only=True)).feature_info
    except (*REFUSALS, AttributeError, TypeError, NotImplementedError) as error:
        if isinstance(error, ContinuadError):
            raise
        raise ContinuadError(f"backbone '{name}' offers no feature levels in timm: {error}") from error
    reductions = [level["reduction"] for level in info.info]
    if len(set(reductions)) == 1:
        return _depths(name, len(USUAL if strides is None else strides), len(reductions))
    if strides is None:
        strides = [s for s in USUAL if s in reductions] or list(dict.fromkeys(reductions))
    missing = [s for s in strides if s not in reductions]
    if missing or len(set(strides)) < len(strides):
        has = sorted(set(reductions))
        wrong = f"not {_listed(missing)}" if missing else f"each once, not {_listed(strides)}"
        raise ContinuadError(
            f"backbone '{name}' has levels at strides {_listed(has)}, {wrong}; change the option strides, as in "
            f"--set DETECTOR.strides={','.join(map(str, has[:2]))}"
        )
    return tuple(reductions.index(s) for s in strides)


def _depths(name: str, levels: int, blocks: int) -> tuple[int, ...]:
    if not 1 <= levels <= blocks:
        raise ContinuadError(f"backbone '{name}' has {blocks} levels, not {levels}; name fewer in the option strides")
    return tuple(round((i + 1) * blocks / levels) - 1 for i in range(levels))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _renamed(name: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole network's weights under the names that they have in timm's network of features.

    timm puts the network into another one ("model.", "body.") or joins names of two levels ("stages.0" becomes
    "stages_0"), according to the network.
    """
    plain = {_plain(key): value for key, value in weights.items()}
    own = {key: key if _plain(key) in plain else key.partition(".")[2] for key in wanted}
    lost = [k for k, v in wanted.items() if _plain(own[k]) not in plain or plain[_plain(own[k])].shape != v.shape]
    if lost or len(plain) < len(weights):
        raise ContinuadError(f"backbone '{name}' cannot be used: timm renames its weights, first {[*lost, ''][0]}")
    return {key: plain[_plain(own[key])] for key in wanted}


def _plain(key: str) -> str:
    return key.replace(".", "_")


def trial_image(name: str, net: nn.Module) -> Tensor:
    """A picture (1, 3, H, W) in [0, 1) that the network, in evaluation mode, takes."""
    made_for = cast(Any, timm.get_pretrained_cfg(name)).input_size[-1]
    for side in TRIALS:
        image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        if takes(net, side, side):
            return image
    return torch.rand(1, 3, made_for, made_for, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def takes(net: nn.Module, height: int, width: int) -> bool:
    """Whether a network takes pictures of that size. Shapes are followed without computing anything."""
    twin = copy.deepcopy(net, {id(t): t.to("meta") for t in (*net.parameters(), *net.buffers())}).eval()
    try:
        with torch.device("meta"):
            twin(torch.zeros(1, 3, height, width))
    except REFUSALS:
        return False
    return True


def drop_idle(net: nn.Module, image: Tensor) -> nn.Module:
    """The network without the last stages that no level of an image (1, 3, H, W) depends on: timm leaves those of an
    EfficientNet in. A network that cannot do without them is returned as it is.
    """
    training = net.training
    lean = copy.deepcopy(net).eval().requires_grad_(True)
    levels = lean(image)
    torch.stack([level.sum() for level in levels]).sum().backward()
    for stages in [m for m in lean.modules() if isinstance(m, nn.Sequential)]:
        while len(stages) and _idle(stages[-1]):
            del stages[-1]
    lean.zero_grad()
    with torch.no_grad():
        try:
            same = all(torch.equal(a, b) for a, b in zip(levels, lean(image), strict=True))
        except REFUSALS:  # what is left of it calls what is gone
            same = False
    return lean.train(training) if same else net


def _idle(module: nn.Module) -> bool:
    gradients = [p.grad for p in module.parameters()]
    return bool(gradients) and all(gradient is None for gradient in gradients)


def fold_batch_norm(net: nn.Module, image: Tensor) -> nn.Module:
    """The network with every batch normalisation multiplied into the convolution whose output it takes.

    Which convolution feeds which normalisation is observed on an image (1, 3, H, W) rather than guessed from names.
    Where something else sees the convolution's output as well, folding would change the answers; such a network is
    returned as it is.
    """
    producer: dict[int, nn.Conv2d] = {}
    alive: list[Tensor] = []  # ids of freed tensors are reused: keep them until the trial is over
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    folded = copy.deepcopy(net)

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            producer[id(output)] = module
            alive.append(output)
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in producer:
            pairs.append((producer[id(inputs[0])], module))

    hooks = [m.register_forward_hook(watch) for m in folded.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    with torch.no_grad():
        before = folded(image)
        for hook in hooks:
            hook.remove()
        for convolution, norm in pairs:
            _replace(folded, convolution, fuse_conv_bn_eval(convolution, norm))
            # timm's BatchNormAct2d carries the activation that follows it
            _replace(folded, norm, cast(nn.Module, getattr(norm, "act", nn.Identity())))
        after = folded(image)
    same = (
        torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max())) for a, b in zip(before, after, strict=True)
    )
    return folded if all(same) else net


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    name = next(name for name, module in net.named_modules() if module is old)
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, new)
