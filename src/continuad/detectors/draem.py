"""DRÆM: learns to repair and to find pasted defects (Zavrtanik et al. 2021; thesis 2.3.10, 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as V

from continuad.core.detector import TRAINED, Detector
from continuad.core.hints import ImageSize, Items, Range, Seed
from continuad.core.state import Policy
from continuad.core.types import Prediction
from continuad.data.names import missing_part
from continuad.data.synthetic import Pictures, perlin_mask
from continuad.errors import ContinuadError
from continuad.vision.ssim import ssim_loss
from continuad.vision.winograd import Conv2d

REDRAWS = 5  # of a region that came out empty, as about one in twenty does at 256 pixels
SMOOTH = 1e-5  # of the focal loss


class Draem(Detector):
    """Discriminatively trained reconstruction anomaly embedding.

    On average half of the images of a step are corrupted, afresh each time:
    I_a = M ((1 - b) A + b I) + (1 - M) I, with M a region of Perlin noise, A a picture of something else and b
    uniform in [0, 0.8]. One network repairs I_a to I_r, a second one sees I_r and I_a and predicts M. The loss is
    mean (I - I_r)^2 + (1 - SSIM(I, I_r)) + focal(M).

    The second network's probability of a defect is the map; the highest mean of 21 x 21 pixels is the score.
    Unlike the original's, good images are not turned at random: a part that lies askew may be defective.

    Args:
        image_size: side or (H, W), at least 64.
        width: scales all channels; 1 is the original with 97.4 million parameters, 0.125 suits processors.
        textures: folder of pictures to paste from, such as the Describable Textures; None: generated ones.
        published: weights to start the first task from, see `load_published`; None: random ones.
        seed: of the random weights.
    """

    learns_by = "gradient"
    _minimum_size = 64  # five halvings leave 2 x 2 positions; batch normalisation of one image needs two
    batch_size = 4
    # Twelve walks through 240 images, an average MVTec product. The thesis takes 50 (3,000 steps), the paper 700.
    steps = 700

    def __init__(
        self,
        image_size: ImageSize = 256,
        width: Annotated[float, Range(0, 2, above=True)] = 1.0,
        textures: Annotated[str, Items(4096)] | None = None,
        published: Annotated[str, Items(4096)] | None = None,
        seed: Seed = 0,
    ):
        super().__init__(image_size)
        self.width, self.textures, self.published, self.seed = width, textures, published, seed
        self.pictures = Pictures(textures)
        self.repair = Repair(max(1, round(128 * width)))
        self.segment = Segment(max(1, round(64 * width)))
        self.apply(initialise)
        self.to(memory_format=torch.channels_last)
        self.eval()  # only learning moves the statistics of batch normalisation

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Start from the published weights, if there are any and nothing was learned yet.

        They are not read at construction: a saved model must load where their file is gone.
        """
        if self.published is not None and TRAINED not in self.stats:
            self.load_published(self.published)
        super().begin(images, statistics)

    def step(self, images: Tensor) -> Tensor:
        """The loss () on uint8 images (B, 3, H, W), freshly corrupted."""
        good = images / 255
        corrupted, mask = self.corrupt(good)
        repaired, logits = self._answer(corrupted)
        return F.mse_loss(repaired, good) + ssim_loss(repaired, good) + focal_loss(logits, mask)

    def corrupt(self, good: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [0, 1], each with probability 1/2 corrupted, and the regions (B, H, W) bool."""
        size = (good.shape[2], good.shape[3])
        none = torch.zeros(size, dtype=torch.bool)
        mask = torch.stack([_region(size) if float(torch.rand(())) < 0.5 else none for _ in good])
        hit = mask.flatten(1).any(1)
        foreign = torch.zeros(good.shape)
        for i, picture in zip(hit.nonzero().flatten(), self.pictures.draw(int(hit.sum()), size), strict=True):
            foreign[i] = _augmented(picture) / 255
        opacity = 1 - 0.8 * torch.rand(len(good), 1, 1, 1)
        mask, foreign, opacity = mask.to(good.device), foreign.to(good.device), opacity.to(good.device)
        return torch.where(mask[:, None], torch.lerp(good, foreign, opacity), good), mask

    def forward(self, images: Tensor) -> list[Tensor]:
        """Of uint8 images (B, 3, H, W): the repaired ones (B, 3, H, W) on the scale [0, 1], not clipped to it,
        and the logits (B, 2, H, W) of "good" and "defective"."""
        return self._answer(images / 255)

    def _answer(self, x: Tensor) -> list[Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        repaired = self.repair(x)
        return [repaired, self.segment(torch.cat([repaired, x], 1))]

    def _predict(self, images: Tensor) -> Prediction:
        """Probability of a defect at each pixel, unsmoothed, and its highest local mean."""
        _, logits = self(images)
        anomaly_map = logits.softmax(1)[:, 1].contiguous()
        smooth = F.avg_pool2d(anomaly_map[:, None], 21, stride=1, padding=10)
        return Prediction(smooth.flatten(1).amax(1), anomaly_map)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam at 1e-4."""
        return torch.optim.Adam(self.weights().values(), 1e-4)

    def learning_rate(self, progress: float) -> float:
        """1, from 80 % of the steps on 0.2, from 90 % on 0.04."""
        return 1.0 if progress < 0.8 else 0.2 if progress < 0.9 else 0.04

    @torch.no_grad()
    def load_published(self, path: str) -> None:
        """Take over the weights of another implementation; they fit a model of the width they were made with, 1.

        The original's networks see and give blue, green, red, and anomalib's second network sees the given
        picture before the repaired one: their channels are put into our order, so all answer alike.

        Args:
            path: the original's file of the repairing network (`NAME.pckl`, with `NAME_seg.pckl` beside it),
                or anomalib's checkpoint. No code in them is run.

        Raises:
            ContinuadError: a file is missing, damaged, holds more than tensors, or is of other networks.
        """
        found, by_original = _read_published(Path(path))
        repair, segment = list(self.repair.state_dict().values()), list(self.segment.state_dict().values())
        own = [*repair, *segment]
        if [t.shape for t in found] != [t.shape for t in own]:
            raise ContinuadError(
                f"published={path}: not the weights of DRÆM at width={self.width}; published ones have width=1"
            )
        for mine, theirs in zip(own, found, strict=True):
            mine.copy_(theirs)
        if by_original:
            repair[0].copy_(repair[0].flip(1))
            for out in repair[-2:]:
                out.copy_(out.flip(0))
        segment[0].copy_(segment[0][:, [2, 1, 0, 5, 4, 3] if by_original else [3, 4, 5, 0, 1, 2]])


class Repair(nn.Module):
    """Encoder and decoder without shortcuts: (B, 3, H, W) to (B, 3, H, W). `w`: channels of the first stage."""

    def __init__(self, w: int):
        super().__init__()
        self.encoder = _stages((3, w, w), (w, 2 * w, 2 * w), (2 * w, 4 * w, 4 * w), (4 * w, 8 * w, 8 * w), (8 * w,) * 3)
        self.decoder = _stages(
            (8 * w, 8 * w, 8 * w, 4 * w), (4 * w, 4 * w, 4 * w, 2 * w), (2 * w, 2 * w, 2 * w, w), (w, w, w, w)
        )
        self.out = _convolution(w, 3)

    def forward(self, x: Tensor) -> Tensor:
        """The picture without its defects."""
        sizes: list[torch.Size] = []
        for stage in self.encoder:
            x = stage(F.max_pool2d(x, 2) if sizes else x)
            sizes.append(x.shape[2:])
        for stage, size in zip(self.decoder, sizes[-2::-1], strict=True):
            x = stage(_enlarge(x, size))
        return self.out(x)


class Segment(nn.Module):
    """U-Net: a repaired and a given picture (B, 6, H, W) to logits (B, 2, H, W). `w`: as in `Repair`."""

    def __init__(self, w: int):
        super().__init__()
        self.encoder = _stages(
            (6, w, w), (w, 2 * w, 2 * w), (2 * w, 4 * w, 4 * w), (4 * w, 8 * w, 8 * w), (8 * w,) * 3, (8 * w,) * 3
        )
        self.decoder = nn.ModuleList(
            Merge(below * w, here * w, beside * w)
            for below, here, beside in ((8, 8, 8), (8, 4, 8), (4, 2, 4), (2, 1, 2), (1, 1, 1))
        )
        self.out = _convolution(w, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Which pixels differ by a defect."""
        levels: list[Tensor] = []
        for stage in self.encoder:
            x = stage(F.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        for merge, level in zip(self.decoder, levels[-2::-1], strict=True):
            x = merge(x, level)
        return self.out(x)


class Merge(nn.Module):
    """One level up in a U-Net: `below` channels from the level below and `beside` of a shortcut to `here`."""

    def __init__(self, below: int, here: int, beside: int):
        super().__init__()
        self.up, self.join = _stages((below, here), (here + beside, here, here))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """At the shortcut's resolution."""
        return self.join(torch.cat([self.up(_enlarge(x, level.shape[2:])), level], 1))


def _stages(*widths: tuple[int, ...]) -> nn.ModuleList:
    """For each row of widths a chain of convolution, batch normalisation, ReLU."""

    def stage(row: tuple[int, ...]) -> nn.Sequential:
        parts = [(_convolution(a, b), nn.BatchNorm2d(b), nn.ReLU(inplace=True)) for a, b in pairwise(row)]
        return nn.Sequential(*(layer for part in parts for layer in part))

    return nn.ModuleList(map(stage, widths))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return Conv2d(inputs, outputs, 3, padding=1)


def _enlarge(x: Tensor, size: torch.Size) -> Tensor:
    """Bilinear, to twice the size, or one pixel more where halving had dropped one."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def initialise(module: nn.Module) -> None:
    """The original's: normal weights, of mean 1 in batch normalisation."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean of -(1 - p)^2 log p (), p the probability of each pixel's true class (Lin et al. 2017).

    Both classes weigh the same. As in the original, p is squeezed into [2 SMOOTH, 1].

    Args:
        logits: (B, 2, H, W). mask: (B, H, W) bool, True where class 1 is right.
    """
    towards = logits[:, 1] - logits[:, 0]
    p = torch.sigmoid(torch.where(mask, towards, -towards))
    p = 2 * SMOOTH + (1 - 2 * SMOOTH) * p
    return -((1 - p).square() * p.log()).mean()


def _region(size: tuple[int, int]) -> Tensor:
    """(H, W) bool: a Perlin region, empty only if several in a row are."""
    for _ in range(REDRAWS):
        mask = perlin_mask(size)
        if mask.any():
            break
    return mask


def _augmented(picture: Tensor) -> Tensor:
    """A picture (3, H, W) uint8 after three different ones of AUGMENTATIONS."""
    for i in torch.randperm(len(AUGMENTATIONS))[:3]:
        picture = AUGMENTATIONS[int(i)](picture)
    return picture


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _bytes(values: Tensor) -> Tensor:
    return values.clamp(0, 255).round().to(torch.uint8)


# The original's ten, on (3, H, W) uint8: gamma of each channel, brightness, sharpness, hue and saturation, ...
AUGMENTATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda p: _bytes(255 * (p / 255) ** (0.5 + 1.5 * torch.rand(3, 1, 1))),
    lambda p: _bytes(p * _uniform(0.8, 1.2) + _uniform(-30, 30)),
    lambda p: V.adjust_sharpness(p, _uniform(0, 2)),
    lambda p: V.adjust_saturation(V.adjust_hue(p, _uniform(-0.2, 0.2)), _uniform(0.8, 1.2)),
    lambda p: V.solarize(p, _uniform(32, 128)),
    lambda p: V.posterize(p, int(torch.randint(1, 9, ()))),
    V.invert,
    V.autocontrast,
    V.equalize,
    lambda p: V.rotate(p, _uniform(-45, 45), InterpolationMode.BILINEAR),
)


def _read_published(path: Path) -> tuple[list[Tensor], bool]:
    """Tensors of the repairing and the segmenting network in order, and whether they are the original's."""
    state = _read_tensors(path)
    if parts := [t for name, t in state.items() if "_subnetwork." in name]:
        return parts, False
    beside = path.with_name(f"{path.stem}_seg{path.suffix}")
    return [*state.values(), *_read_tensors(beside).values()], True


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}
    except OSError as error:
        why = missing_part(path.absolute()) or error.strerror
        raise ContinuadError(
            f"published={path.name}: {path} cannot be opened ({why}). Give the original's NAME.pckl with "
            "NAME_seg.pckl beside it, or anomalib's checkpoint"
        ) from error
    except Exception as error:  # a damaged or foreign file can make the reader raise anything
        raise ContinuadError(
            f"published={path.name}: {path} is damaged or holds more than tensors. Save the networks' state_dict "
            "alone, with torch.save"
        ) from error
