"""Teach a patch description network the features of a large one, on any pictures (Batzner et al. 2023, 3.1)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from continuad.backbones import DEFAULT, Backbone, load_backbone
from continuad.data.synthetic import Pictures
from continuad.errors import ContinuadError
from continuad.files import replace_file
from continuad.teachers import CHANNELS, PatchDescription, Size

SAVE_EVERY = 60.0  # seconds
SAMPLE = 32  # batches from which the features' scale is taken
GREY = 0.1  # share of pictures without colour


@dataclass(frozen=True)
class Lesson:
    """How a teacher is made.

    Attributes:
        folder: pictures of anything. size: "s" or "m".
        backbone, strides, weights_file, download: whose features, at which levels; see `load_backbone`.
        steps, batch_size, rate: of Adam, whose rate falls to nothing along a half cosine.
        crop: side of the student's crop in pixels; the backbone sees the same crop twice as large.
        seed: of weights and crops.
    """

    folder: str
    size: Size = "s"
    backbone: str = DEFAULT
    strides: tuple[int, ...] = (8, 16)
    weights_file: str | None = None
    download: bool = False
    steps: int = 10_000
    batch_size: int = 16
    rate: float = 1e-3
    crop: int = 128
    seed: int = 0


def distill(lesson: Lesson, out: Path, progress: Callable[[int, int], None] | None = None) -> dict[str, float]:
    """Write a teacher's weights in half precision to `out`, with a card of how it was made in the file's header.

    Killed and started again with the same settings it goes on (`out` with ".part" beside it).

    Returns:
        "loss": mean squared error on normalised features over the last tenth of the steps (1 is what a
        network that always answers the mean would have). "seconds": spent in all.

    Raises:
        ContinuadError: no pictures, or a half-made teacher of other settings.
    """
    backbone = load_backbone(lesson.backbone, lesson.strides, lesson.weights_file, download=lesson.download)
    pictures = Pictures(lesson.folder, zoom=1.25)
    torch.manual_seed(lesson.seed)
    net = PatchDescription(lesson.size).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), lesson.rate)
    part = out.with_name(out.name + ".part")
    state = _State(lesson, net, optimiser, part)
    done, spent, losses = state.resume()
    mean, deviation = _scale(lesson, pictures, backbone)
    began = saved = time.monotonic()
    for step in range(done, lesson.steps):
        torch.manual_seed(lesson.seed * 1_000_003 + step + 1)  # a step is the same after a resume
        large, small = _crops(lesson, pictures)
        target = (_target(backbone(large)) - mean) / deviation
        for group in optimiser.param_groups:
            group["lr"] = lesson.rate * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / lesson.steps)).item())
        loss = (net(small) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        if progress:
            progress(step + 1, lesson.steps)
        if time.monotonic() - saved > SAVE_EVERY:
            saved = time.monotonic()
            state.save(step + 1, spent + saved - began, losses)
    last = losses[-max(1, lesson.steps // 10) :]
    found = {"loss": sum(last) / len(last), "seconds": spent + time.monotonic() - began}
    _write(net, out, {**asdict(lesson), **found, "folder": Path(lesson.folder).name})
    part.unlink(missing_ok=True)
    return found


def _crops(lesson: Lesson, pictures: Pictures) -> tuple[Tensor, Tensor]:
    """uint8 crops for the backbone, and the same at half the size in [0, 1] for the network that learns."""
    side = 2 * lesson.crop
    large = pictures.draw(lesson.batch_size, (side, side))
    grey = torch.rand(len(large)) < GREY
    large[grey] = large[grey].float().mean(1, keepdim=True).byte().expand(-1, 3, -1, -1)
    return large, F.avg_pool2d(large / 255, 2)


def _target(levels: Sequence[Tensor]) -> Tensor:
    """(B, 384, h, w): levels averaged over 3 x 3 cells, brought to the finest grid, channels pooled to 384."""
    size = levels[0].shape[-2:]
    smooth = [F.avg_pool2d(level, 3, 1, 1, count_include_pad=False) for level in levels]
    joined = torch.cat([F.interpolate(level, size, mode="bilinear") for level in smooth], 1)
    pooled = F.adaptive_avg_pool1d(joined.flatten(2).mT, CHANNELS)
    return pooled.mT.unflatten(2, size)


def _scale(lesson: Lesson, pictures: Pictures, backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Mean and deviation (384, 1, 1) of every target channel over a sample of crops."""
    torch.manual_seed(lesson.seed)
    sample = torch.cat([_target(backbone(_crops(lesson, pictures)[0]))[:, :, ::4, ::4] for _ in range(SAMPLE)])
    deviation, mean = torch.std_mean(sample, (0, 2, 3))
    return mean[:, None, None], deviation.clamp_min(1e-6)[:, None, None]


class _State:
    """A half-made teacher on disk: weights, moments of Adam, how far it came."""

    def __init__(self, lesson: Lesson, net: PatchDescription, optimiser: torch.optim.Adam, path: Path):
        self.lesson, self.net, self.optimiser, self.path = lesson, net, optimiser, path

    def save(self, step: int, seconds: float, losses: list[float]) -> None:
        tensors = {f"net.{k}": v.contiguous() for k, v in self.net.state_dict().items()}
        for i, kept in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{k}": v.contiguous() for k, v in kept.items()}
        tensors["losses"] = torch.tensor(losses)
        about = {"lesson": json.dumps(asdict(self.lesson)), "step": str(step), "seconds": str(seconds)}
        replace_file(self.path, lambda new: save_file(tensors, new, about))

    def resume(self) -> tuple[int, float, list[float]]:
        """Steps done, seconds spent and losses so far."""
        if not self.path.exists():
            return 0, 0.0, []
        with safe_open(self.path, "pt") as file:
            about = file.metadata()
        if json.loads(about["lesson"]) != json.loads(json.dumps(asdict(self.lesson))):
            raise ContinuadError(f"{self.path} is a half-made teacher of other settings; remove it or choose another")
        tensors = load_file(self.path)
        self.net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, number, key = name.split(".")
                state.setdefault(int(number), {})[key] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        return int(about["step"]), float(about["seconds"]), tensors["losses"].tolist()


def _write(net: PatchDescription, out: Path, card: dict[str, object]) -> None:
    tensors = {k: v.half().contiguous() for k, v in net.state_dict().items()}
    replace_file(out, lambda new: save_file(tensors, new, {"card": json.dumps(card)}))
