"""Variational autoencoder: rebuilds good images, and can draw new ones (Kingma, Welling 2014; thesis 2.3)."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.hints import ImageSize, Range, Seed
from continuad.core.types import Prediction
from continuad.vision.reconstruction import (
    Decoder,
    Encoder,
    Error,
    Latent,
    Width,
    reconstruction_map,
    variational_loss,
)


class Vae(Detector):
    """Variational autoencoder with the networks of `autoencoder`.

    The encoder answers a mean m and a log-variance v for each of `latent` numbers; the decoder rebuilds the
    image x of N values as y from m + exp(v / 2) e, e normal, in training, and from m in prediction. The loss is
    mean (x - y)^2 + beta / N KL, KL = -1/2 sum (1 + v - m^2 - exp v): the bound on the likelihood for pixels with
    variance beta / 2. The map is what y differs from x in, averaged over colours; its maximum is the image score.

    Policies: it keeps nothing but weights, so all three are the same.

    Args:
        image_size: side or (H, W), at least 32.
        error: of the map, "l2" as in the loss, or "ssim", see `reconstruction_map`. Learning is the same.
        latent: numbers an image is squeezed through.
        beta: weight of the divergence from the prior. Larger: smoother images, and drawn ones closer to real.
            0 leaves it out. None: twice what is not rebuilt at the time, see `variational_loss`.
        width: scales all channels.
        seed: of the random weights.
    """

    batch_size = 16
    steps = 3000  # as `autoencoder`

    def __init__(
        self,
        image_size: ImageSize = 256,
        error: Error = "l2",
        latent: Latent = 100,
        beta: Annotated[float, Range(0, 1e6)] | None = None,
        width: Width = 1.0,
        seed: Seed = 0,
    ):
        super().__init__(image_size)
        self.width = width
        self.error, self.latent, self.beta, self.seed = error, latent, beta, seed
        self.encoder = Encoder(self.image_size, 2 * latent, width)
        self.decoder = Decoder(self.image_size, latent, width)

    def step(self, images: Tensor) -> Tensor:
        """The loss () on uint8 images (B, 3, H, W). In eval mode nothing is drawn: y is rebuilt from m."""
        return variational_loss(self.encoder, self.decoder, images / 255, self.beta, self.training)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Uint8 images rebuilt from their means, (B, 3, H, W) on the scale [0, 1], not clipped to it."""
        mean, _ = self.encoder(images / 255).chunk(2, 1)
        return [self.decoder(mean)]

    def _predict(self, images: Tensor) -> Prediction:
        """Map of `error` and its maximum; the same every time."""
        anomaly_map = reconstruction_map(self(images)[0], images / 255, self.error)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    @torch.no_grad()
    def sample(self, number: int) -> Tensor:
        """New uint8 images (number, 3, H, W) from the prior, drawn from torch's global generator."""
        drawn = self.decoder(torch.randn(number, self.latent).to(self.device))
        return (255 * drawn).round().clamp(0, 255).to(torch.uint8)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, 2e-4, weight decay 1e-5, as `autoencoder`."""
        return torch.optim.Adam(self.weights().values(), 2e-4, weight_decay=1e-5)
