"""Generative replay: a network that draws images like the earlier ones takes their place (Shin et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from continuad.core.batches import steps_of
from continuad.core.detector import Detector
from continuad.core.fit import seed_of
from continuad.core.hints import Count, Seed
from continuad.core.strategy import Strategy
from continuad.core.types import Batch, Images, Task
from continuad.vision.reconstruction import Decoder, Encoder, Latent, Width, variational_loss

BATCH, RATE = 8, 1e-3
STEPS = 1000  # of the generator, where nobody says how many


class Generative(Strategy):
    """No image is kept. A variational autoencoder learns each task's images beside those it draws of the earlier ones;
    the detector gets as many drawn images a step as new ones. Memory is constant.

    Drawn images are smooth and lack fine texture: they remind a detector of what a product looks like rather than of
    what its surface is made of. Thresholds are set on the newest task's val images alone.

    Args:
        drawn: how many different images stand for all earlier tasks.
        steps: of the generator, a task; None: as many as the detector was given, or 1,000 if it takes its own.
        latent, width: the generator's numbers an image, and its size (see `Encoder`).
    """

    def __init__(
        self,
        detector: Detector,
        drawn: Count = 300,
        steps: Count | None = None,
        latent: Latent = 100,
        width: Width = 0.5,
        seed: Seed = 0,
    ):
        super().__init__(detector, seed)
        self.drawn, self.steps, self.latent, self.width = drawn, steps, latent, width
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.generator = Generator(detector.image_size, latent, width)

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images, and drawn ones from the second task on."""
        return task.train, self._pictures() if self._knows() else None

    def after(self, task: Task) -> None:
        """Teach the generator the task, and again what it knew."""
        torch.manual_seed(seed_of(self.seed, task.index))
        before = self._pictures(frozen=True) if self._knows() else None
        optimiser = torch.optim.Adam(self.generator.parameters(), RATE)
        order = torch.Generator().manual_seed(seed_of(self.seed, task.index))
        self.generator.train()
        steps = self.steps or self.budget.steps or STEPS
        for step, images in enumerate(steps_of(task.train, before, BATCH, range(steps), order)):
            optimiser.zero_grad()
            self.generator.loss(images.to(self.detector.device) / 255).backward()
            optimiser.step()
            if self._progress:
                self._progress(step + 1, steps)
        self._count_held(optimiser, before.decoder if before else None)
        optimiser.zero_grad()
        self.generator.eval()
        self.kept["tasks"] = torch.tensor(task.index + 1)

    def _knows(self) -> bool:
        return "tasks" in self.kept

    def _pictures(self, frozen: bool = False) -> DrawnImages:
        """Images from the generator as it is, or as it is now even while it learns on."""
        decoder = self.generator.decoder
        if frozen:
            decoder = Decoder(self.detector.image_size, self.latent, self.width).to(self.detector.device)
            decoder.load_state_dict(self.generator.decoder.state_dict())
        return DrawnImages(decoder, self.drawn, self.latent, self.seed)


class Generator(nn.Module):
    """Variational autoencoder of whole images."""

    def __init__(self, image_size: tuple[int, int], latent: int, width: float):
        super().__init__()
        self.encoder = Encoder(image_size, 2 * latent, width)
        self.decoder = Decoder(image_size, latent, width)

    def loss(self, x: Tensor) -> Tensor:
        """The bound () on the likelihood of images (B, 3, H, W) in [0, 1]; see `variational_loss`."""
        return variational_loss(self.encoder, self.decoder, x, None, draw=True)


@dataclass(frozen=True, eq=False)
class DrawnImages:
    """As many images as asked for, each from its own latent numbers: the same index is the same image every time."""

    decoder: Decoder
    count: int
    latent: int
    seed: int

    def __len__(self) -> int:
        return self.count

    @torch.no_grad()
    def __getitems__(self, indices: list[int]) -> Batch:
        """Several images at once."""
        makers = [torch.Generator().manual_seed(seed_of(self.seed, index)) for index in indices]
        latent = torch.stack([torch.randn(self.latent, generator=maker) for maker in makers])
        device = next(self.decoder.parameters()).device
        images = (255 * self.decoder(latent.to(device))).round().clamp(0, 255).to(torch.uint8).cpu()
        return Batch.good(images)
