"""One draw of every latent of the examples that are looked at."""

# B examples

from __future__ import annotations

from torch import Tensor

from vaekit.data.batch import Batch
from vaekit.distributions.noise import PerExample, use
from vaekit.evaluation.passes import Plan
from vaekit.models.trace import Trace
from vaekit.models.vae import VAE

# far from the streams of the data, 0, and of the latents, 1 << 16
STREAM = 11 << 20


def drawn(model: VAE, batch: Batch, plan: Plan) -> Trace:
    """A trace with one draw from q(z|x) of each example: always the same for a seed."""
    with use(PerExample(plan.seed, batch.index, stream=STREAM)):
        trace: Trace = model(batch.x, 1, batch.context)
    return trace


def loss_of(trace: Trace, bounded: bool) -> Tensor:
    """-ELBO of each example, nats, (B,), float64; -log p(x|z) alone where the ELBO bounds nothing."""
    distortion = -trace.log_px[0].double()
    return distortion + trace.kl()[0].double() if bounded else distortion
