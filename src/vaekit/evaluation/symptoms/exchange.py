"""What the decoder makes of z, and of the condition: how much worse it does with those of another example."""

# B examples, L latent dimensions

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.batch import Batch
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.symptoms.drawn import drawn
from vaekit.evaluation.units import Estimate, mean
from vaekit.models.vae import VAE


def exchange_symptoms(model: VAE, batch: Batch, plan: Plan) -> dict[str, Estimate]:
    r"""Loss of log p(x|z) when z, or the condition, is that of the example half of the batch away.

    .. math:: \log p(x_i | z_i) - \log p(x_i | z_{i+B/2}), \qquad z_i \sim q(z|x_i)

    Not that of the next one, which is of the same class where examples are sorted, and nearly the same where they are a film. A
    decoder that ignores z loses nothing; one that uses it loses at least about as many nats as the KL says that z carries.

    Arguments:
        model: In evaluation mode.
        batch: Two examples or more.
        plan: Its seed.

    Returns:
        `swap_z`, and `swap_context` for a conditional model: nats, means over examples.
    """
    if len(batch.x) < 2:
        return {}
    trace = drawn(model, batch, plan)
    own = trace.log_px[0].double()
    z = torch.cat([latent.draw.value[0].flatten(1) for latent in trace.latents], 1)

    def loss(z: Tensor, context: Tensor | None) -> Tensor:
        return own - model.decode(z, context).log_prob(batch.x)[0].double()

    away = len(batch.x) // 2
    found = {"swap_z": _told(loss(z.roll(away, 0), batch.context), "z")}
    if model.conditional and batch.context is not None:
        found["swap_context"] = _told(loss(z, batch.context.roll(away, 0)), "the condition")
    return found


def _told(values: Tensor, what: str) -> Estimate:
    return mean(values, "nats", f"loss of log p(x|z) when {what} is that of another example, one draw")
