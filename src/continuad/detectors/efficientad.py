"""EfficientAD: a student that answers like its teacher on good parts only (Batzner et al. 2023; thesis 2.3.8, 5.1)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from continuad.core.detector import Detector
from continuad.core.hints import ImageSize, Items, Seed
from continuad.core.state import Policy
from continuad.core.types import Prediction
from continuad.data.synthetic import Pictures
from continuad.vision.anomaly_map import upsample_and_smooth
from continuad.vision.pdn import CHANNELS, PatchDescription, Size, load_teacher, normalised
from continuad.vision.winograd import Conv2d

HARD = 0.999  # share of a student's errors that the hard feature loss leaves out
QUANTILES = (0.9, 0.995)  # of the maps of good val images: these become 0 and 0.1
GREY = 0.3  # share of penalty pictures without colour
OF_TEACHER, OF_AUTOENCODER = slice(CHANNELS), slice(CHANNELS, None)  # what the student's channels imitate
_log = logging.getLogger(__name__)


class EfficientAdS(Detector):
    """EfficientAD with the small patch description network.

    Three answers are compared: the frozen teacher's T (normalised per channel), the autoencoder's A of the whole
    image through 64 numbers, and the student's two halves S_T and S_A. The local map mean((T - S_T)^2) finds
    broken structure, the global map mean((A - S_A)^2) broken arrangement. Each is scaled so that its 0.9 and
    0.995 quantiles over good val images become 0 and 0.1; the mean of both is the map, its maximum the score.

    The student learns T on good images by its hardest 0.1 % of errors, A on altered ones, and is punished for
    answers to pictures of other things, so that it does not imitate the teacher everywhere.

    Policies: the teacher's channel means and deviations are those of the newest task and its replayed images
    ("restart"), of all images seen ("accumulate"), or the first task's ("freeze"). The quantiles are always
    taken anew from whatever val images `calibrate` is given.

    Args:
        image_size: side or (H, W), at least 64. Below 256 the autoencoder's innermost kernel shrinks with it.
        teacher: file of its weights, see `load_teacher`; None: the one that comes with the package (size S only).
        penalty: folder of pictures of other things (photographs are best); None: generated ones.
        padding: as in `PatchDescription`.
        seed: of the weights' start.
    """

    variant: ClassVar[Size] = "s"
    _minimum_size = 64
    batch_size = 1
    steps = 10_000  # the paper takes 70 000, the thesis 70 epochs

    def __init__(
        self,
        image_size: ImageSize = 256,
        teacher: Annotated[str, Items(4096)] | None = None,
        penalty: Annotated[str, Items(4096)] | None = None,
        padding: bool = True,
        seed: Seed = 0,
    ):
        super().__init__(image_size)
        self.teacher, self.penalty, self.padding, self.seed = teacher, penalty, padding, seed
        self.teacher_net = load_teacher(self.variant, teacher, padding)
        self.student = PatchDescription(self.variant, 2 * CHANNELS, padding)
        self.autoencoder = Autoencoder(self.image_size, padding)
        self.to(memory_format=torch.channels_last)
        self.pictures = Pictures(penalty, zoom=2.0, grey=GREY)

    @torch.no_grad()
    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Take the teacher's channel moments from the images; see the class for what each policy means."""
        frozen = statistics == "freeze" and "count" in self.stats
        super().begin(images, statistics)
        if frozen:
            return
        nothing = torch.zeros(CHANNELS, dtype=torch.float64, device=self.device)
        known = "count" in self.stats
        kept = [self.stats[name] for name in ("count", "sum", "squares")] if known else [nothing[0], nothing, nothing]
        count, total, squares = kept
        for batch in images:
            answer = self.teacher_net(batch / 255).double()
            count = count + answer[:, 0].numel()
            total = total + answer.sum((0, 2, 3))
            squares = squares + answer.square().sum((0, 2, 3))
        self.stats["count"], self.stats["sum"], self.stats["squares"] = count, total, squares

    def taught(self, x: Tensor) -> Tensor:
        """The teacher's normalised answer (B, 384, h, w) to images in [0, 1]."""
        mean = self.stats["sum"] / self.stats["count"]
        variance = self.stats["squares"] / self.stats["count"] - mean.square()
        deviation = variance.clamp_min(1e-12).sqrt()  # a constant image leaves channels without spread
        return (self.teacher_net(x) - mean.float()[:, None, None]) / deviation.float()[:, None, None]

    def step(self, images: Tensor) -> Tensor:
        """Hard feature loss + penalty + autoencoder's loss + student's loss on the autoencoder."""
        x = images / 255
        error = (self.taught(x) - self.student(x, OF_TEACHER)).square()
        loss = hardest(error) + self._on_other_things(len(images))
        altered = _altered(x)
        rebuilt = self.autoencoder(altered)
        loss = loss + (self.taught(altered) - rebuilt).square().mean()
        copied = self.student(altered, OF_AUTOENCODER)
        return loss + (rebuilt - copied).square().mean()

    def _on_other_things(self, number: int) -> Tensor:
        pictures = self.pictures.draw(number, self.image_size).to(self.device)
        return self.student(pictures / 255, OF_TEACHER).square().mean()

    def validation_loss(self, images: Tensor) -> Tensor:
        """What good images should make small: plain errors of all three pairs, no penalty, no alteration."""
        taught, student, rebuilt = self.forward(images)
        pairs = ((taught, student[:, OF_TEACHER]), (taught, rebuilt), (rebuilt, student[:, OF_AUTOENCODER]))
        return torch.stack([(a - b).square().mean() for a, b in pairs]).sum()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Teacher's (B, 384, h, w), student's (B, 768, h, w) and autoencoder's (B, 384, h, w) answers."""
        x = images / 255
        return [self.taught(x), self.student(x), self.autoencoder(x)]

    @torch.no_grad()
    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Local and global map (B, H, W), not yet scaled."""
        taught, student, rebuilt = self.forward(images)
        found = (taught - student[:, OF_TEACHER], rebuilt - student[:, OF_AUTOENCODER])
        local, whole = (self._full_size(error.square().mean(1)) for error in found)
        return local, whole

    def _full_size(self, grid: Tensor) -> Tensor:
        if not self.padding:
            grid = F.pad(grid, (4, 4, 4, 4))  # what the borders lack, so that the map covers the whole image
        return upsample_and_smooth(grid, self.image_size, sigma=0)

    @torch.no_grad()
    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Take the maps' quantiles from good val images."""
        both = [[maps.cpu() for maps in self.maps(batch)] for batch in images]
        for name, maps in zip(("local", "global"), zip(*both, strict=True), strict=True):
            low, high = (value.to(self.device) for value in _quantiles(torch.cat(maps)))
            if high <= low:
                _log.warning("val images are all alike: EfficientAD's %s map cannot be scaled by them", name)
                high = low + 1
            self.stats[f"{name}_low"], self.stats[f"{name}_high"] = low, high

    def _predict(self, images: Tensor) -> Prediction:
        """Mean of both scaled maps, and its maximum."""
        local, whole = self.maps(images)
        anomaly_map = (self._scaled(local, "local") + self._scaled(whole, "global")) / 2
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def _scaled(self, maps: Tensor, name: str) -> Tensor:
        low, high = self.stats[f"{name}_low"], self.stats[f"{name}_high"]
        return 0.1 * (maps - low) / (high - low)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, 1e-4, weight decay 1e-5."""
        return torch.optim.Adam(self.weights().values(), 1e-4, weight_decay=1e-5)

    def learning_rate(self, progress: float) -> float:
        """A tenth for the last 5 % of the steps."""
        return 0.1 if progress >= 0.95 else 1.0


class EfficientAdM(EfficientAdS):
    """EfficientAD with the medium network: 8.0 + 11.6 + 1.1 million parameters (thesis 5.1)."""

    variant = "m"


class Autoencoder(nn.Module):
    """Predicts the teacher's answer from the whole image through 64 numbers a 256 x 256 image.

    Args:
        image_size: (H, W). padding: whether the teacher has it; decides the size of the answer.
    """

    def __init__(self, image_size: tuple[int, int], padding: bool):
        super().__init__()
        wide = [3, 32, 32, 64, 64, 64]
        down: list[nn.Module] = []
        for inputs, outputs in pairwise(wide):
            down += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.ReLU()]
        bottleneck = (min(8, image_size[0] // 32), min(8, image_size[1] // 32))
        self.encoder = nn.Sequential(*down, nn.Conv2d(64, 64, bottleneck))
        self.decoder = nn.ModuleList(Conv2d(64, 64, 4, padding=2) for _ in range(6))
        self.last = nn.Sequential(Conv2d(64, 64, 3, padding=1), nn.ReLU(), Conv2d(64, CHANNELS, 3, padding=1))
        halvings = ((6, 1), (5, 0), (4, 1), (3, 0), (2, 1), (1, 1))  # even kernels with padding 2 add a pixel
        self.sizes = [tuple(max(1, side // 2**k - less) for side in image_size) for k, less in halvings]
        self.answer = tuple(-(-side // 4) - (0 if padding else 8) for side in image_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 384, h, w)."""
        x = self.encoder(normalised(x))
        for layer, size in zip(self.decoder, self.sizes, strict=True):
            x = F.interpolate(x, size, mode="bilinear")
            x = F.dropout(F.relu(layer(x)), 0.2, self.training)
        answer: Tensor = self.last(F.interpolate(x, self.answer, mode="bilinear"))
        return answer


def hardest(errors: Tensor) -> Tensor:
    """Mean of the errors at and above their `HARD` quantile (hard feature loss)."""
    flat = errors.flatten()
    count = flat.numel() - math.ceil(HARD * (flat.numel() - 1))
    return flat.topk(count).values.mean()


def _quantiles(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Of all values (numpy's: torch takes quantiles of 16 million at most)."""
    low, high = np.quantile(maps.flatten().numpy(), QUANTILES)
    return maps.new_tensor(low), maps.new_tensor(high)


def _altered(x: Tensor) -> Tensor:
    """Brightness, contrast or saturation of every image changed by a factor in [0.8, 1.2]."""
    changes = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    drawn = zip(torch.randint(3, (len(x),)).tolist(), torch.empty(len(x)).uniform_(0.8, 1.2).tolist(), strict=True)
    return torch.stack([changes[which](one, factor) for one, (which, factor) in zip(x, drawn, strict=True)])
