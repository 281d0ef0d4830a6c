"""One epoch of the MNIST VAE (784-400-400-20, batch 128, Adam): vaekit's loop beside a plain DataLoader script.

The plain script is what people write: a `Dataset` that converts one image at a time from PIL to a float tensor, a `DataLoader`,
`sigmoid` and `binary_cross_entropy`, `optimizer.step()` and `loss.item()` in every step. Both train the same network on the same
59,000 images from the same start. The two take turns within one process, so that a noisy machine disturbs both.

    python benchmarks/mnist_epoch.py [--epochs 3] [--workers 0]

needs the MNIST files where `vaekit data` finds them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from plain import PlainImages
from vaekit.compose import compose, resolve
from vaekit.recipe import make_session, open_data
from vaekit.training import fit

BATCH, HIDDEN, LATENT = 128, 400, 20


class PlainVAE(nn.Module):
    """The same network, written as scripts write it."""

    def __init__(self) -> None:
        super().__init__()
        self.e1, self.e2 = nn.Linear(784, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.mu, self.logvar = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
        self.d1, self.d2, self.out = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = torch.relu(self.e2(torch.relu(self.e1(x.view(-1, 784)))))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        h = torch.relu(self.d2(torch.relu(self.d1(z))))
        return torch.sigmoid(self.out(h)), mu, logvar


def plain_epoch(images: np.ndarray, labels: np.ndarray, workers: int) -> Callable[[], float]:
    torch.manual_seed(42)
    model = PlainVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(PlainImages(images, labels), batch_size=BATCH, shuffle=True, num_workers=workers)

    def epoch() -> float:
        total = 0.0
        for x, _ in loader:
            optimizer.zero_grad()
            out, mu, logvar = model(x)
            reconstruction = functional.binary_cross_entropy(out, x.view(-1, 784), reduction="sum")
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            loss = (reconstruction + kl) / len(x)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        return total / len(images)

    return epoch


def vaekit_epoch() -> tuple[Callable[[], float], np.ndarray, np.ndarray]:
    dataset = open_data({"kind": "data.named", "name": "mnist"})
    config = resolve(compose(["data=mnist", "model=mlp"]), dataset.event_shape)
    session = make_session(config, dataset, torch.device("cpu"))
    steps = session.stream.steps_per_epoch

    def epoch() -> float:
        with session.generators.borrowed():
            fit(
                session.model, session.objective, session.players, session.stream,
                start=session.step, steps=session.step + steps, steps_per_epoch=steps, history=session.history,
            )  # fmt: skip
        session.step += steps
        return session.history.rows[-1]["train/loss"]

    assert dataset.train.labels is not None
    return epoch, dataset.train.stored[:, 0].numpy(), dataset.train.labels.numpy()


def timed(epoch: Callable[[], float]) -> tuple[float, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    loss = epoch()
    return time.perf_counter() - wall, time.process_time() - cpu, loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each, in turn (default 3)")
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader (default 0)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    ours, images, labels = vaekit_epoch()
    contestants = {"vaekit": ours, "plain DataLoader script": plain_epoch(images, labels, options.workers)}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contestants}
    for _ in range(options.epochs):
        for name, epoch in contestants.items():
            taken[name].append(timed(epoch))
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':<26}{'wall s':>8}{'CPU s':>8}{'min':>8}{'max':>8}   training loss by epoch")
    for name, runs in taken.items():
        walls = [wall for wall, _, _ in runs]
        losses = " ".join(f"{loss:.1f}" for _, _, loss in runs)
        cpu = statistics.median(cpu for _, cpu, _ in runs)
        print(f"{name:<26}{statistics.median(walls):>8.2f}{cpu:>8.2f}{min(walls):>8.2f}{max(walls):>8.2f}   {losses}")
    ratios = [a[0] / b[0] for a, b in zip(taken["vaekit"], taken["plain DataLoader script"], strict=True)]
    print(
        f"vaekit / plain, wall, pair by pair: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    if options.json:
        options.json.write_text(json.dumps({"taken": taken, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
