"""The same models as a script writes them: torch.nn, sigmoid, binary cross-entropy, one image at a time from a DataLoader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset


class PlainImages(TorchDataset[tuple[Tensor, int]]):
    """One PIL image at a time, converted to a float tensor in [0, 1], as image data sets for scripts do."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index])  # what image data sets hand to their transforms
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True)).view(image.height, image.width, 1)
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255), int(self.labels[index])


class PlainVAE(nn.Module):
    """Encoder to 2 L numbers, decoder to logits of pixels, both of torch's own layers.

    Arguments:
        encoder: (N, C, H, W) to (N, 2 L).
        decoder: (N, L) to (N, C, H, W).
        samples: Draws of each example; more than one makes the importance-weighted bound.
        density: Of the data: "bernoulli", or "normal" with a standard deviation of 1.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, samples: int = 1, density: str = "bernoulli") -> None:
        super().__init__()
        self.encoder, self.decoder, self.samples, self.density = encoder, decoder, samples, density

    def loss(self, x: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, -1)
        if self.samples == 1:
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            out = self.decoder(z)
            if self.density == "normal":
                reconstruction = 0.5 * functional.mse_loss(out, x, reduction="sum")
            else:
                reconstruction = functional.binary_cross_entropy(torch.sigmoid(out), x, reduction="sum")
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            return (reconstruction + kl) / len(x)
        noise = torch.randn(self.samples, *mu.shape)
        z = mu + torch.exp(0.5 * logvar) * noise
        out = torch.sigmoid(self.decoder(z.flatten(0, 1))).view(self.samples, *x.shape)
        log_px = -functional.binary_cross_entropy(out, x.expand_as(out), reduction="none").flatten(2).sum(-1)
        log_p = -0.5 * (z.pow(2) + math.log(2 * math.pi)).sum(-1)
        log_q = -0.5 * (noise.pow(2) + logvar + math.log(2 * math.pi)).sum(-1)
        return -(torch.logsumexp(log_px + log_p - log_q, 0) - math.log(self.samples)).mean()


def perceptron(widths: Sequence[int], activation: type[nn.Module], image: Sequence[int] = ()) -> nn.Module:
    """Linear layers with activations between them; from or to images where `image` is their shape."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1], *([nn.Unflatten(1, tuple(image))] if image else []))


def mlp(widths: Sequence[int], latent: int, samples: int = 1, activation: type[nn.Module] = nn.ReLU) -> PlainVAE:
    """Of 28 x 28 images."""
    encoder = perceptron([784, *widths, 2 * latent], activation)
    return PlainVAE(encoder, perceptron([latent, *reversed(widths), 784], activation, (1, 28, 28)), samples)


def wide(features: int, widths: Sequence[int] = (2048, 1024, 512), latent: int = 64) -> tuple[nn.Module, nn.Module]:
    """For cells: GELU, and a tenth of the hidden units dropped."""

    def layers(sizes: Sequence[int], out: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        for before, after in pairwise(sizes):
            parts += [nn.Linear(before, after), nn.GELU(), nn.Dropout(0.1)]
        return nn.Sequential(*parts, nn.Linear(sizes[-1], out))

    return layers([features, *widths], 2 * latent), layers([latent, *reversed(widths)], features)


def convolutional(latent: int) -> tuple[nn.Module, nn.Module]:
    """28 x 28 to 7 x 7 and back: 32 and 64 channels, one hidden layer of 400."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 49, 400), nn.ReLU(), nn.Linear(400, 2 * latent),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(latent, 400), nn.ReLU(), nn.Linear(400, 64 * 49), nn.Unflatten(1, (64, 7, 7)), nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1),
    )  # fmt: skip
    return encoder, decoder


def progressive(latent: int) -> tuple[nn.Module, nn.Module]:
    """The last stage of the growing network: 32 x 32 down to 4 x 4, 16 up to 128 channels."""
    down: list[nn.Module] = [nn.Conv2d(1, 16, 1), nn.LeakyReLU(0.2)]
    for above, below in pairwise((16, 32, 64, 128)):
        down += [nn.Conv2d(above, below, 3, 1, 1), nn.LeakyReLU(0.2), nn.AvgPool2d(2)]
    down += [nn.Conv2d(128, 128, 3, 1, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(2048, 2 * latent)]
    up: list[nn.Module] = [nn.Linear(latent, 2048), nn.LeakyReLU(0.2), nn.Unflatten(1, (128, 4, 4))]
    up += [nn.Conv2d(128, 128, 3, 1, 1), nn.LeakyReLU(0.2)]
    for below, above in pairwise((128, 64, 32, 16)):
        up += [nn.Upsample(scale_factor=2), nn.Conv2d(below, above, 3, 1, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*down), nn.Sequential(*up, nn.Conv2d(16, 1, 1))


def script(model: PlainVAE, images: np.ndarray, labels: np.ndarray, batch: int, workers: int = 0) -> Any:
    """Steps of the plain script, and the mean loss of each epoch that it has been through."""
    return _steps(model, DataLoader(PlainImages(images, labels), batch_size=batch, shuffle=True, num_workers=workers))


def dense_script(model: PlainVAE, x: Tensor, batch: int) -> Any:
    """Steps of a script over a float tensor that is in memory, from whose rows a DataLoader makes batches."""
    return _steps(model, DataLoader(TensorDataset(x), batch_size=batch, shuffle=True))


def _steps(model: PlainVAE, loader: DataLoader[Any]) -> Any:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = _endless(loader)

    def steps(count: int) -> float:
        total = 0.0
        for _ in range(count):
            x, *_ = next(batches)
            optimizer.zero_grad()
            loss = model.loss(x)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / count

    return steps


def _endless(loader: DataLoader[Any]) -> Any:
    while True:
        yield from loader
