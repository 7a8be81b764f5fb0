"""Autoencoder: what a few numbers cannot rebuild is anomalous (Bergmann et al. 2019; thesis 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from continuad.core.detector import Detector
from continuad.core.hints import ImageSize, Seed
from continuad.core.types import Prediction
from continuad.vision.reconstruction import Decoder, Encoder, Error, Latent, Width, reconstruction_map
from continuad.vision.ssim import ssim_loss


class Autoencoder(Detector):
    """Convolutional autoencoder.

    The image x is squeezed through `latent` numbers and rebuilt as y. Map, averaged over the colours c of a pixel:
    "ssim": 1 - SSIM(x, y)_c, "l2": (x_c - y_c)^2. The loss is the mean of the same over the image, the image
    score the maximum of the map; nothing is smoothed, as in the paper. Unlike there, textures are not cut into
    patches and images are not turned at random.

    Policies: it keeps nothing but weights, so all three are the same.

    Args:
        image_size: side or (H, W), at least 32.
        loss: "ssim" compares structure, "l2" pixels.
        latent: numbers an image is squeezed through.
        width: scales all channels; 1 is the published network.
        seed: of the random weights.
    """

    batch_size = 16
    steps = 3000  # the paper's 200 epochs over 240 images, an average MVTec product

    def __init__(
        self,
        image_size: ImageSize = 256,
        loss: Error = "ssim",
        latent: Latent = 100,
        width: Width = 1.0,
        seed: Seed = 0,
    ):
        super().__init__(image_size)
        self.width = width
        self.loss, self.latent, self.seed = loss, latent, seed
        self.encoder = Encoder(self.image_size, latent, width)
        self.decoder = Decoder(self.image_size, latent, width)

    def step(self, images: Tensor) -> Tensor:
        """The loss () on uint8 images (B, 3, H, W)."""
        x, rebuilt = images / 255, self(images)[0]
        return ssim_loss(rebuilt, x) if self.loss == "ssim" else F.mse_loss(rebuilt, x)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Uint8 images rebuilt, (B, 3, H, W) on the scale [0, 1], not clipped to it."""
        return [self.decoder(self.encoder(images / 255))]

    def _predict(self, images: Tensor) -> Prediction:
        """Map of `loss` and its maximum."""
        anomaly_map = reconstruction_map(self(images)[0], images / 255, self.loss)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, 2e-4, weight decay 1e-5."""
        return torch.optim.Adam(self.weights().values(), 2e-4, weight_decay=1e-5)
