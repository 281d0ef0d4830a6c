"""Other libraries at the same work: pythae, Lightning and JAX, each as its own documentation uses it. None is needed to import."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from plain import PlainVAE
from turns import Steps, Stopwatch, Taken

logging.disable(logging.WARNING)  # these libraries tell much of themselves


def lightning_steps(model: PlainVAE, x: Tensor, batch: int) -> Steps:
    """Lightning over float data that are in memory: its own clock runs from the first batch of an epoch to the last."""
    import lightning

    warnings.filterwarnings("ignore", module="lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.whole = model, Taken(0.0, 0.0)

        def training_step(self, batch: Any, number: int) -> Tensor:
            loss = self.model.loss(batch[0])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

        def on_train_epoch_start(self) -> None:
            self.watch = Stopwatch()

        def on_train_epoch_end(self) -> None:
            self.whole = self.watch.taken()

    module = Module()

    def steps(count: int) -> Taken:
        trainer = lightning.Trainer(
            max_epochs=1, limit_train_batches=count, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        loader = DataLoader(TensorDataset(x), batch_size=batch, shuffle=True)
        trainer.fit(module, loader)
        return module.whole

    return steps


def pythae_steps(widths: Sequence[int], latent: int, images: np.ndarray, batch: int) -> Steps:
    """pythae's own trainer, an epoch at a time over as many batches as there are steps."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.layers = _hidden([784, *widths])
            self.embedding, self.log_var = nn.Linear(widths[-1], latent), nn.Linear(widths[-1], latent)

        def forward(self, x: Tensor) -> Any:
            h = self.layers(x.flatten(1))
            return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.layers = nn.Sequential(_hidden([latent, *reversed(widths)]), nn.Linear(widths[0], 784), nn.Sigmoid())

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z).view(-1, 1, 28, 28))

    x = torch.from_numpy(images).float().div(255).unsqueeze(1)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=latent, reconstruction_loss="bce")
    model = VAE(config, encoder=Encoder(), decoder=Decoder())
    folder = tempfile.mkdtemp()  # it insists on writing somewhere

    def steps(count: int) -> Taken:
        data = BaseDataset(x[: count * batch], torch.zeros(count * batch))
        trainer = BaseTrainer(
            model, data, None,
            BaseTrainerConfig(output_dir=folder, num_epochs=1, per_device_train_batch_size=batch, no_cuda=True),
        )  # fmt: skip
        trainer.prepare_training()
        watch = Stopwatch()
        trainer.train_step(1)
        return watch.taken()

    return steps


def jax_steps(widths: Sequence[int], latent: int, images: np.ndarray, batch: int) -> Steps:
    """JAX: all steps of a call in one `lax.scan`, compiled before the clock starts; Adam written out."""
    import jax
    import jax.numpy as jnp

    pixels = 784
    x = jnp.asarray(images.reshape(len(images), pixels), jnp.float32) / 255
    key = jax.random.key(0)

    def layers(key: Any, sizes: Sequence[int]) -> list[Any]:
        made = []
        for before, after in pairwise(sizes):
            key, one, two = jax.random.split(key, 3)
            bound = before**-0.5
            weight = jax.random.uniform(one, (before, after), minval=-bound, maxval=bound)
            made.append((weight, jax.random.uniform(two, (after,), minval=-bound, maxval=bound)))
        return made

    def run(layers: list[Any], h: Any) -> Any:
        for weight, bias in layers[:-1]:
            h = jax.nn.relu(h @ weight + bias)
        weight, bias = layers[-1]
        return h @ weight + bias

    def loss(parameters: Any, x: Any, key: Any) -> Any:
        mu, logvar = jnp.split(run(parameters[0], x), 2, -1)
        z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
        logits = run(parameters[1], z)
        reconstruction = jnp.sum(jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits))))
        kl = -0.5 * jnp.sum(1 + logvar - mu**2 - jnp.exp(logvar))
        return (reconstruction + kl) / len(x)

    tree = jax.tree_util.tree_map
    parameters = layers(key, [pixels, *widths, 2 * latent]), layers(key, [latent, *reversed(widths), pixels])
    state = parameters, tree(jnp.zeros_like, parameters), tree(jnp.zeros_like, parameters), jnp.zeros(()), key

    def step(state: Any, index: Any) -> Any:
        parameters, first, second, count, key = state
        key, own = jax.random.split(key)
        value, gradient = jax.value_and_grad(loss)(parameters, x[index], own)
        count = count + 1
        first = tree(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = tree(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        parameters = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), parameters, first, second)
        return (parameters, first, second, count, key), value

    whole = jax.jit(lambda state, index: jax.lax.scan(step, state, index))
    rng = np.random.default_rng(0)

    def steps(count: int) -> Taken:
        nonlocal state
        index = jnp.asarray(rng.integers(0, len(images), size=(count, batch)))
        compiled = whole.lower(state, index).compile()
        watch = Stopwatch()
        state, losses = compiled(state, index)
        losses.block_until_ready()
        return watch.taken()

    return steps


def _hidden(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)
