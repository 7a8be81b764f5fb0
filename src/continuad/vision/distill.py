"""Teach a patch description network the features of a large one, on any pictures (Batzner et al. 2023, 3.1)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from continuad.core.checkpoint import Checkpoint, pack_optimiser, unpack_optimiser
from continuad.core.hints import Count, Range, Seed, check_fields
from continuad.data.synthetic import Pictures
from continuad.files import replace_file
from continuad.vision.backbones import DEFAULT, Backbone, BackboneSpec, Strides, load_backbone
from continuad.vision.pdn import CHANNELS, PatchDescription, Size

SAMPLE = 32  # batches from which the features' scale is taken
GREY = 0.1  # share of pictures without colour


@dataclass(frozen=True)
class DistillConfig:
    """How a teacher is made.

    Attributes:
        folder: pictures of anything. size: "s" or "m".
        backbone, strides, weights_file, download: whose features, at which levels; see `BackboneSpec`.
        steps, batch_size, rate: of Adam, whose rate falls to nothing along a half cosine.
        crop: side of the student's crop in pixels; the backbone sees the same crop twice as large.
        seed: of weights and crops.

    Raises:
        ContinuadError: a value that is not allowed.
    """

    folder: str
    size: Size = "s"
    backbone: str = DEFAULT
    strides: Strides = (8, 16)
    weights_file: str | None = None
    download: bool = False
    steps: Count = 10_000
    batch_size: Annotated[int, Range(1, 4096)] = 16
    rate: Annotated[float, Range(0, 1, above=True)] = 1e-3
    crop: Annotated[int, Range(33, 4096)] = 128
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self, "distill: ")


def distill(config: DistillConfig, out: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, float]:
    """Write a teacher's weights in half precision to `out`, with a card of how it was made in the file's header.

    Killed and started again with the same settings it goes on (`out` with ".part" beside it).

    Returns:
        "loss": mean squared error on normalised features over the last tenth of the steps (1 is what a
        network that always answers the mean would have). "seconds": spent in all.

    Raises:
        ContinuadError: no pictures, or a half-made teacher of other settings.
    """
    backbone = load_backbone(
        BackboneSpec(config.backbone, config.weights_file, download=config.download), config.strides
    )
    pictures = Pictures(config.folder, zoom=1.25, grey=GREY)
    torch.manual_seed(config.seed)
    net = PatchDescription(config.size).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), config.rate)
    half = _Half(net, optimiser)
    identity = json.loads(json.dumps(asdict(config)))
    checkpoint = Checkpoint(out.with_name(out.name + ".part"), identity, refuse_others=True)
    checkpoint.load(half)
    mean, deviation = _scale(config, pictures, backbone)
    for step in range(len(half.losses), config.steps):
        torch.manual_seed(config.seed * 1_000_003 + step + 1)  # a step is the same after a resume
        large, small = _crops(config, pictures)
        target = (_target(config, backbone(large)) - mean) / deviation
        for group in optimiser.param_groups:
            group["lr"] = config.rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        loss = (net(small) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        half.losses.append(float(loss.detach()))
        if progress:
            progress(step + 1, config.steps)
        checkpoint.keep(half)
    last = half.losses[-max(1, config.steps // 10) :]
    found = {"loss": sum(last) / len(last), "seconds": checkpoint.seconds}
    _write(net, out, {**asdict(config), **found, "folder": Path(config.folder).name})
    checkpoint.remove()
    return found


def _crops(config: DistillConfig, pictures: Pictures) -> tuple[Tensor, Tensor]:
    """uint8 crops for the backbone, and the same at half the size in [0, 1] for the network that learns."""
    side = 2 * config.crop
    large = pictures.draw(config.batch_size, (side, side))
    return large, F.avg_pool2d(large / 255, 2)


def _target(config: DistillConfig, levels: Sequence[Tensor]) -> Tensor:
    """(B, 384, h, w): levels averaged over 3 x 3 cells, brought to the student's grid, channels pooled to 384."""
    size = torch.Size([config.crop // 4] * 2)
    smooth = [F.avg_pool2d(level, 3, 1, 1, count_include_pad=False) for level in levels]
    joined = torch.cat([F.interpolate(level, size, mode="bilinear") for level in smooth], 1)
    pooled = F.adaptive_avg_pool1d(joined.flatten(2).mT, CHANNELS)
    return pooled.mT.unflatten(2, size)


def _scale(config: DistillConfig, pictures: Pictures, backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Mean and deviation (384, 1, 1) of every target channel over a sample of crops."""
    torch.manual_seed(config.seed)
    sample = torch.cat([_target(config, backbone(_crops(config, pictures)[0]))[:, :, ::4, ::4] for _ in range(SAMPLE)])
    deviation, mean = torch.std_mean(sample, (0, 2, 3))
    return mean[:, None, None], deviation.clamp_min(1e-6)[:, None, None]


@dataclass
class _Half:
    """A half-made teacher."""

    net: PatchDescription
    optimiser: torch.optim.Adam
    losses: list[float] = field(default_factory=list)

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        adam, plain = pack_optimiser(self.optimiser)
        tensors = {f"net/{k}": v for k, v in self.net.state_dict().items()} | {f"adam/{k}": v for k, v in adam.items()}
        return tensors, {"losses": self.losses, **plain}

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.net.load_state_dict({k.removeprefix("net/"): v for k, v in tensors.items() if k.startswith("net/")})
        adam = {k.removeprefix("adam/"): v for k, v in tensors.items() if k.startswith("adam/")}
        unpack_optimiser(self.optimiser, adam, values)
        self.losses = values["losses"]


def _write(net: PatchDescription, out: Path, card: dict[str, object]) -> None:
    tensors = {k: v.half().contiguous() for k, v in net.state_dict().items()}
    replace_file(out, lambda new: save_file(tensors, new, {"card": json.dumps(card)}))
