"""SPADE: correspondences with the most similar good images (Cohen, Hoshen 2020; thesis 2.3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

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

RETRIEVAL = 32  # stride of the level whose mean says which images are alike


class Spade(FeatureStatistics):
    """Nearest images, then nearest patches within them.

    An image's pooled features find its `neighbours` nearest good images; the mean squared distance to them is its
    score. A patch scores its squared distance to the nearest patch, anywhere, of those images: a part may lie
    elsewhere than in any one of them.

    Kept are the feature maps of good images: about 0.28 MB each with the embedded backbone at 256 pixels.

    Thresholds come from all images, each compared with the others.

    Policies: "restart" keeps the newest task's images (and replayed ones); "accumulate" all tasks', in equal shares
    if `bank` bounds them; "freeze" the first task's.

    Args:
        image_size: side or (H, W), at least 64.
        backbone: its name, or a `BackboneSpec`. strides: its levels; the finest is the grid. The
            paper takes strides 4, 8 and 16, at some sixteen times the cost of the default here.
        neighbours: images retrieved (50 in the paper), or all while there are fewer.
        bank: good images kept in all, at least `neighbours`, a greedy coreset of each task's pooled features; None
            keeps every one.
        sigma: blur of the map in pixels.
        seed: of the coreset's first image.
    """

    _minimum_size = 64

    def __init__(
        self,
        image_size: ImageSize = 256,
        backbone: AnyBackbone = DEFAULT,
        strides: Strides = (8, 16),
        neighbours: Count = 50,
        bank: Count | None = None,
        sigma: Sigma = 4.0,
        seed: Seed = 0,
    ):
        if RETRIEVAL in strides:
            raise ContinuadError(
                f"option strides is {list(strides)}: level {RETRIEVAL} retrieves images; compare finer ones"
            )
        super().__init__(image_size, backbone, (*strides, RETRIEVAL))
        self.strides = tuple(strides)
        self.neighbours, self.bank, self.sigma, self.seed = neighbours, bank, sigma, seed
        if bank is not None and bank < neighbours:
            raise ContinuadError(
                f"option bank is {bank}, fewer images than neighbours={neighbours}: enlarge the bank, or lower "
                "neighbours"
            )
        check_sigma(sigma, self.image_size)
        self.fresh: list[list[Tensor]] = []  # of the task that is being learned
        self.frozen = False

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Open a new part of the bank; see the class for what each policy means."""
        self.frozen = statistics == "freeze" and "shares" in self.stats
        super().begin(images, statistics)
        self.fresh = []

    def _absorb(self, levels: Levels, owners: Tensor) -> None:
        """Collect the images' features."""
        if not self.frozen:
            *compared, last = levels
            self.fresh.append([last.mean((2, 3)), owners, *compared])

    @torch.no_grad()
    def finish(self) -> None:
        """Join the new images to the bank, within its bound."""
        if not self.fresh:
            return
        columns, self.fresh = [torch.cat(same) for same in zip(*self.fresh, strict=True)], []
        known = self.stats["shares"].tolist() if "shares" in self.stats else []
        available = [*known, len(columns[0])]
        shares = available if self.bank is None else bank_shares(available, self.bank, self.bank)
        order = greedy_coreset(columns[0], shares[-1], self.seed)
        for name, column in zip(self._names(), columns, strict=True):
            self.stats[name] = with_share(self.stats[name] if known else None, known, shares, column[order])
        self.stats["shares"] = torch.tensor(shares)

    def _names(self) -> list[str]:
        return ["pooled", "owners", *(f"stride{stride}" for stride in self.strides)]

    def _predict_on(self, levels: Levels, owners: Tensor | None = None) -> Prediction:
        """Squared distances to the nearest patches as the map; mean squared distance to the nearest images."""
        *compared, last = levels
        apart = (last.mean((2, 3))[:, None] - self.stats["pooled"]).square().sum(2)
        if owners is not None:
            own = owners[:, None] == self.stats["owners"]
            own &= ~own.all(1, keepdim=True)  # an image that is compared with itself rather than with none
            apart = apart.masked_fill(own, torch.inf)
        distances, alike = apart.topk(min(self.neighbours, apart.shape[1]), largest=False)
        others = distances.isfinite()  # an image's own copies, left out, lie behind all others
        patches = side_by_side(compared).permute(0, 2, 3, 1)
        grids = [self._correspond(one, near[kept]) for one, near, kept in zip(patches, alike, others, strict=True)]
        anomaly_map = upsample_and_smooth(torch.stack(grids), self.image_size, self.sigma)
        return Prediction(distances.where(others, 0).sum(1) / others.sum(1), anomaly_map)

    def _correspond(self, patches: Tensor, alike: Tensor) -> Tensor:
        """(h, w) squared distances of an image's patches (h, w, C) to those of the images `alike` (K,)."""
        gallery = side_by_side([self.stats[name][alike] for name in self._names()[2:]]).permute(0, 2, 3, 1)
        distances, _ = nearest(patches.flatten(0, 1), gallery.flatten(0, 2))
        return distances.square().view(patches.shape[:2])
