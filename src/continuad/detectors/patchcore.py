"""PatchCore: distance to a bank of good patches, chosen to cover all of them (Roth et al. 2022; thesis 2.3.9)."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from continuad.core.footprint import MEGABYTE
from continuad.core.hints import Count, ImageSize, Seed
from continuad.core.state import Policy
from continuad.core.types import Levels, Prediction
from continuad.detectors._frozen_features import FeatureStatistics
from continuad.errors import ContinuadError
from continuad.memory.bank import bank_shares, with_share
from continuad.memory.coreset import greedy_coreset
from continuad.memory.neighbours import nearest
from continuad.vision.anomaly_map import Sigma, check_sigma, side_by_side, upsample_and_smooth
from continuad.vision.backbones import DEFAULT, AnyBackbone, Strides

_log = logging.getLogger(__name__)


class PatchCore(FeatureStatistics):
    """Nearest neighbours in a memory bank.

    A patch is the mean of the features of 3 x 3 grid cells, all levels side by side. The bank holds a greedy
    minimax coreset of the patches of all good images, found on random projections where patches are wide. A
    patch scores its distance s to the nearest vector m of the bank. An image scores its highest s, times
    1 - exp(s) / sum_n exp(|x - n|) over the `neighbours` vectors n nearest to m (m among them): a patch near a
    seldom seen one is more anomalous (the paper's equation 7).

    Thresholds come from all images, each predicted without its own vectors in the bank.

    Policies: "restart" is a bank of the newest task's images (and replayed ones); "accumulate" gives every task
    an equal share of one bank, and takes from earlier shares what was chosen last, which leaves the coreset of the
    smaller size; "freeze" keeps the first task's bank.

    Args:
        image_size: side or (H, W), at least 32.
        backbone: its name, or a `BackboneSpec`. strides: its levels; the finest is the grid.
        bank: vectors in all, such as 10000; or megabytes in all, "20MB"; or a share of each task's patches, "10%",
            with which the bank grows with the tasks.
        neighbours: for the image score, not more than the bank has vectors; 1 leaves the weight out.
        projection: to how many numbers patches are projected while the coreset is chosen, if they have more.
        sigma: blur of the map in pixels.
        seed: of the projection and of the first vector.
    """

    def __init__(
        self,
        image_size: ImageSize = 256,
        backbone: AnyBackbone = DEFAULT,
        strides: Strides = (8, 16),
        bank: Count | str = "10%",
        neighbours: Count = 9,
        projection: Count = 512,
        sigma: Sigma = 4.0,
        seed: Seed = 0,
    ):
        super().__init__(image_size, backbone, strides)
        self.strides, self.bank, self.neighbours, self.projection = tuple(strides), bank, neighbours, projection
        self.sigma, self.seed = sigma, seed
        self.width = sum(self.pyramid.channels)
        self.percent, self.vectors = _budget(bank, self.width)
        if self.percent is None and self.vectors < neighbours:
            raise ContinuadError(
                f"option bank is {bank!r}, room for {self.vectors} vectors, fewer than neighbours={neighbours}: "
                "enlarge the bank, or lower neighbours"
            )
        check_sigma(sigma, self.image_size)
        self.fresh: list[tuple[Tensor, Tensor]] = []  # patches of the task that is being learned, and their owners
        self.frozen = False

    def foresee(self, images: int) -> tuple[int, int]:
        """All patches twice while the coreset is chosen, and the bank."""
        patches = images * math.prod(-(-side // min(self.strides)) for side in self.image_size)
        vectors = self.vectors if self.percent is None else max(1, round(patches * self.percent / 100))
        return 8 * patches * self.width, 4 * min(vectors, patches) * self.width

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Open a new part of the bank; see the class for what each policy means."""
        self.frozen = statistics == "freeze" and "bank" in self.stats
        super().begin(images, statistics)
        self.fresh = []

    def _absorb(self, levels: Levels, owners: Tensor) -> None:
        """Collect the images' patches."""
        if not self.frozen:
            patches = self.patches(levels).flatten(1, 2)
            self.fresh.append((patches.flatten(0, 1), owners.repeat_interleave(patches.shape[1])))

    @torch.no_grad()
    def finish(self) -> None:
        """Choose the new part's coreset, and cut the earlier parts to their shares."""
        if not self.fresh:
            return
        patches, owners = map(torch.cat, zip(*self.fresh, strict=True))
        self.fresh = []
        known = self.stats["shares"].tolist() if "shares" in self.stats else []
        shares = self._shares([*known, len(patches)])
        chosen = greedy_coreset(self._projected(patches), shares[-1], self.seed)
        for name, column in (("bank", patches), ("owners", owners)):
            self.stats[name] = with_share(self.stats[name] if known else None, known, shares, column[chosen])
        self.stats["shares"] = torch.tensor(shares)
        if sum(shares) < self.neighbours:
            _log.warning("PatchCore: the bank holds %d vectors, fewer than neighbours=%d", sum(shares), self.neighbours)

    @torch.no_grad()
    def accept(self, images: Tensor, owners: Tensor, limit: float) -> None:
        """Add to the bank what is new in good images: the patch that lies farthest from it, until none lies farther
        than `limit`. A bank of fixed size gives up as many of its last chosen vectors."""
        patches = self.patches(self.embed(images)).flatten(1, 2)
        whose = owners.repeat_interleave(patches.shape[1])
        patches, chosen = patches.flatten(0, 1), []
        distances, _ = nearest(patches, self.stats["bank"])
        while float(distances.max()) > limit:
            chosen.append(int(distances.argmax()))
            distances = torch.minimum(distances, (patches - patches[chosen[-1]]).norm(dim=1))
        if not chosen:
            return
        known = self.stats["shares"].tolist()
        available = [*known, len(chosen)]
        shares = available if self.percent is not None else bank_shares(available, self.vectors, self.bank)
        for name, column in (("bank", patches), ("owners", whose)):
            self.stats[name] = with_share(self.stats[name], known, shares, column[chosen])
        self.stats["shares"] = torch.tensor(shares)

    @torch.no_grad()
    def merge(self, state: dict[str, Tensor]) -> None:
        """Join another bank to this one, and choose the coreset of both where the budget is fixed.

        A coreset of coresets: a patch of either lies no farther from the new bank than its bank was from it and the
        new one from that bank. Where the bank is a share of the patches, it grows.
        """
        bank, owners = (torch.cat([self.stats[name], state[f"stats.{name}"]]) for name in ("bank", "owners"))
        if self.percent is None and len(bank) > self.vectors:
            chosen = greedy_coreset(self._projected(bank), self.vectors, self.seed)
            bank, owners = bank[chosen], owners[chosen]
        self.stats["bank"], self.stats["owners"] = bank, owners
        self.stats["shares"] = torch.tensor([len(bank)])

    @torch.no_grad()
    def covering(self, images: Tensor) -> Tensor:
        """(B,) the largest distance of a patch of each image from the bank."""
        patches = self.patches(self.embed(images))
        distances, _ = nearest(patches.flatten(0, 2), self.stats["bank"])
        return distances.view(len(patches), -1).amax(1)

    def _shares(self, available: list[int]) -> list[int]:
        """How many vectors each part keeps of those it has."""
        if self.percent is not None:
            return [*available[:-1], max(1, round(available[-1] * self.percent / 100))]
        return bank_shares(available, self.vectors, self.bank)

    def _projected(self, patches: Tensor) -> Tensor:
        if self.width <= self.projection:
            return patches
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(self.width, self.projection, generator=generator).to(patches)
        return patches @ (directions / self.projection**0.5)

    def patches(self, levels: Levels) -> Tensor:
        """(B, h, w, C): features averaged over 3 x 3 cells, levels brought to the finest grid."""
        return side_by_side([F.avg_pool2d(level, 3, 1, 1) for level in levels]).permute(0, 2, 3, 1)

    def _predict_on(self, levels: Levels, owners: Tensor | None = None) -> Prediction:
        """Distances to the bank as the map, and the weighted highest one."""
        patches = self.patches(levels)
        if owners is None:
            score, grid = self._measure(patches, self.stats["bank"])
        else:
            each = (self._measure(*one) for one in zip(patches[:, None], map(self._bank_without, owners), strict=True))
            score, grid = map(torch.cat, zip(*each, strict=True))
        return Prediction(score, upsample_and_smooth(grid, self.image_size, self.sigma))

    def _bank_without(self, owner: Tensor) -> Tensor:
        """The other images' vectors; all of them where no other image has any."""
        others = self.stats["owners"] != owner
        return self.stats["bank"][others] if others.any() else self.stats["bank"]

    def _measure(self, patches: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
        """Image scores (B,) and distances (B, h, w) of patches (B, h, w, C)."""
        count, height, width, _ = patches.shape
        distances, closest = nearest(patches.flatten(0, 2), bank)
        grid = distances.view(count, height, width)
        score, where = grid.flatten(1).max(1)
        worst = patches.flatten(1, 2)[torch.arange(count), where]
        vector = closest.view(count, -1)[torch.arange(count), where]
        weights = [self._weight(*each, bank) for each in zip(worst, vector, score, strict=True)]
        return score * torch.stack(weights), grid

    def _weight(self, patch: Tensor, vector: Tensor, distance: Tensor, bank: Tensor) -> Tensor:
        """1 - exp(distance) / sum over the vectors n nearest to the patch's of exp(|patch - n|), for one image's worst
        patch and the number of the vector that is nearest to it."""
        if self.neighbours == 1:
            return torch.ones_like(distance)
        number = min(self.neighbours, len(bank))
        around = (bank - bank[vector]).norm(dim=1).topk(number, largest=False).indices
        apart = (bank[around] - patch).norm(dim=1)
        return 1 - torch.exp(distance - apart.logsumexp(0))


def _budget(bank: int | str, width: int) -> tuple[float | None, int]:
    """Percent of each task's patches, or None, and the number of vectors in all."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|MB|)", str(bank))
    if found is None or float(found[1]) <= 0 or (found[2] == "%" and float(found[1]) > 100):
        raise ContinuadError(
            f"option bank is {bank!r}; allowed: a number of vectors (10000), megabytes (20MB) or a share (10%)"
        )
    amount = float(found[1])
    if found[2] == "%":
        return amount, 0
    size = 4 * width + 8  # with its owner
    vectors = int(amount * MEGABYTE / size) if found[2] == "MB" else int(amount)
    if vectors < 1:
        raise ContinuadError(f"option bank is {bank!r}, less than one vector of {size} bytes; enlarge it")
    return None, vectors
