r"""Probabilities of counts under a model of their expression: of real values that round to them.

A density of expression and a probability of counts do not compare. Nor does the change of variables help: the density at the zeros
of sparse data grows without bound as the scale of the model falls, while no probability is above 1. So the model is asked for the
probability of the interval of expression that belongs to a count.
"""

# K samples, B batch, N examples, F features, L latent dimensions

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from vaekit.data.batch import Batch, Split
from vaekit.distributions.noise import PerExample, standard_normal, use
from vaekit.errors import ConfigError
from vaekit.evaluation.cells import Recovered
from vaekit.evaluation.each import Ledger, each
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.units import Estimate, mean
from vaekit.math.importance import importance_bound
from vaekit.models.vae import VAE

# noise of the draws here is independent of that of every other pass
_DRAWS = 61 << 20
# of the search for the mode of an example, and of the derivatives of the decoder there
_STEPS, _RATE, _STEP = 200, 0.05, 1e-4
# the proposal is wider than the curvature at the mode says: the tails of what it stands for are heavier
_WIDEN = 1.3
# decoded values at a time
_VALUES = 1 << 22


def rounded_counts_nll(
    model: VAE, split: Split, plan: Plan, way: Recovered, *, ledger: Ledger | None = None
) -> tuple[Estimate, Tensor]:
    r"""-log p of the counts for a VAE with one latent and a normal likelihood of log1p expression, by importance sampling.

    With library :math:`\ell` of a cell, target t, and :math:`y(c) = \log(1 + t c / \ell)` the expression of a count c,

    .. math:: P(c_f|z) = \Phi\left(\frac{y(c_f + 1/2) - \mu_f}{\sigma_f}\right)
        - \Phi\left(\frac{y(c_f - 1/2) - \mu_f}{\sigma_f}\right),

    where the lower end for a count of 0 is minus infinity. The intervals tile the real line, so these are probabilities that sum
    to 1 over the counts 0, 1, 2, ... of each feature. Given the library, as a model of counts that is told the library is.

    q(z|x) was fitted to the density, and its draws miss the codes that explain the counts: its bound was 800 nats too low where it
    was looked at. So draws are from a normal around the mode of :math:`p(z) P(c|z)`, with its curvature; any proposal gives a
    bound.

    Arguments:
        model: With one latent, real, and a normal likelihood.
        split: Whose examples, expression as log1p of normalised counts.
        plan: Batch size, K and seed.
        way: Back to counts.
        ledger: Where numbers are kept, so that what is done is not done twice.

    Returns:
        Nats per example, and the numbers of the examples, (N,), float64.

    Raises:
        ConfigError: If the likelihood is not normal, there are several latents, or the expression is no logarithm.
    """
    if not way.restore.logarithm or way.restore.mean is not None:
        raise ConfigError("Counts round to log1p expression and to no other: write expression=log1p.")
    if len(model.hierarchy.open()) != 1:
        raise ConfigError("Rounding is of models with one latent: write model=mlp.")
    exact = copy.deepcopy(model).double().eval()

    def measure(model: VAE, batch: Batch, plan: Plan) -> dict[str, Tensor]:
        context = batch.context.double() if batch.context is not None else None
        joint = _Joint(exact, context, *_edges(way.counts(split, batch), way.restore.target))
        mode = joint.mode(exact.encode(batch.x.double(), context))
        proposal = joint.around(mode)
        chunk = max(1, _VALUES // batch.x.numel())
        log_w = []
        for first in range(0, plan.samples, chunk):
            count = min(chunk, plan.samples - first)
            with use(PerExample(plan.seed, batch.index, first_sample=first, stream=_DRAWS)):
                noise = standard_normal(torch.Size((count, *mode.shape)), dtype=mode.dtype, device=mode.device)
            z = proposal.loc + (proposal.scale_tril @ noise[..., None])[..., 0]
            log_w.append(joint(z) - proposal.log_prob(z))  # type: ignore[no-untyped-call]
        return {"nll": -importance_bound(torch.cat(log_w))}

    found = each(model, split, plan, measure, ledger=ledger)["nll"]
    words = (
        "-log p of the counts whose log1p expression the model's values round to, given the library; log of the mean of "
        f"K = {plan.samples:,} importance weights, draws around the mode of each example"
    )
    return mean(found, "nats", words), found


@dataclass(frozen=True)
class _Joint:
    """log p(z) P(c|z) of the examples of a batch.

    Attributes:
        model: float64.
        context: Of the examples, or None.
        low: Lower ends of the intervals, (B, F).
        high: Upper ends.
    """

    model: VAE
    context: Tensor | None
    low: Tensor
    high: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """Nats, (K, B), for z of shape (K, B, L)."""
        loc, scale = self.normal(z)
        level = self.model.hierarchy.open()[0]
        log_p: Tensor = level.prior(z.new_zeros((*z.shape[:2], 0)), self.model).log_prob(z)
        return log_p + log_interval(self.low, self.high, loc, scale).sum(-1)

    def normal(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Means and scales of expression, (K, B, F), for z of shape (K, B, L)."""
        count, examples = z.shape[:2]
        context = None if self.context is None else self.context.repeat(count, 1)
        px = self.model.decode(z.flatten(0, 1), context)
        base = px.base_dist if isinstance(px, Independent) else None
        if not isinstance(base, Normal):
            raise ConfigError("Rounding is of a normal likelihood: write likelihood=normal_learned.")
        return base.loc.view(count, examples, -1), base.scale.expand_as(base.loc).view(count, examples, -1)

    def mode(self, start: Tensor) -> Tensor:
        """Where the joint density is greatest, (B, L): each example goes its own way."""
        with torch.enable_grad():
            z = start.detach().clone().requires_grad_()
            optimizer = torch.optim.Adam([z], lr=_RATE)
            for _ in range(_STEPS):
                (z.grad,) = torch.autograd.grad(-self(z[None]).sum(), z)
                optimizer.step()
        return z.detach()

    def around(self, mode: Tensor) -> MultivariateNormal:
        r"""The proposal: precision :math:`I + J^\top \mathrm{diag}(h) J`, with h the curvature of log P in :math:`\mu`.

        log P is concave in :math:`\mu`, so h is not negative.
        """
        size = mode.shape[1]
        steps = _STEP * torch.eye(size, dtype=mode.dtype, device=mode.device)[:, None]
        jacobian = (self.normal(mode + steps)[0] - self.normal(mode - steps)[0]) / (2 * _STEP)
        loc, scale = (part[0] for part in self.normal(mode[None]))
        h = _curvature(lambda mu: log_interval(self.low, self.high, mu, scale), loc).clamp_min(0.0)
        precision = torch.einsum("lbf,bf,mbf->blm", jacobian, h, jacobian) + torch.eye(size).to(mode)
        return MultivariateNormal(mode, precision_matrix=precision / _WIDEN, validate_args=False)


def log_interval(low: Tensor, high: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    r""":math:`\log[\Phi((b - \mu)/\sigma) - \Phi((a - \mu)/\sigma)]` for a < b, nats, of tensors that broadcast; a may be infinite.

    Intervals above the mean are mirrored, so that the difference is of lower tails and exact however far out they lie.
    """
    a, b = (low - loc) / scale, (high - loc) / scale
    mirrored = a > 0
    below, above = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
    upper = torch.special.log_ndtr(above)
    endless = below.isinf()
    # a branch that is not taken must have a finite derivative, or the gradient has none
    distance = torch.special.log_ndtr(below.masked_fill(endless, 0.0)) - upper
    distance = distance.masked_fill(endless, -1.0).clamp_max(-1e-300)
    near = distance > -math.log(2.0)
    narrow = (-torch.expm1(distance.masked_fill(~near, -0.5))).log()
    wide = torch.log1p(-distance.masked_fill(near, -1.0).exp())
    nats: Tensor = upper + torch.where(near, narrow, wide).masked_fill(endless, 0.0)
    return nats


def _curvature(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Minus the second derivative of an elementwise function."""
    with torch.enable_grad():
        x = at.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(slope.sum(), x)
    return -second.nan_to_num(0.0, 0.0, 0.0)


def _edges(counts: Tensor, target: float) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of the intervals, (B, F) each."""
    factor = target / counts.sum(1, keepdim=True).clamp_min(1.0)
    low = torch.where(counts > 0, (factor * (counts - 0.5).clamp_min(0.0)).log1p(), -torch.inf)
    return low, (factor * (counts + 0.5)).log1p()
