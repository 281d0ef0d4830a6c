"""How far all codes together are from the prior: what lies between decides whether samples will be good."""

# B examples, L latent dimensions

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.batch import Batch
from vaekit.distributions.quantized import Quantized
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.symptoms.drawn import drawn
from vaekit.evaluation.units import Estimate
from vaekit.models.vae import VAE

# draws of the prior for each example
_PRIOR_DRAWS = 8
# with fewer examples for each dimension than this a covariance is mostly noise: variances alone are compared
_PER_DIMENSION = 8


def prior_symptoms(model: VAE, batch: Batch, plan: Plan) -> dict[str, Estimate]:
    r"""The aggregate posterior against the prior, by their first two moments, and the dimensions that carry nothing.

    - `prior_gap`: :math:`\mathrm{KL}(N(m_q, S_q) \,\|\, N(m_p, S_p))` of normals with the moments of draws from
      :math:`q(z) = E_x q(z|x)` and from p(z), less its bias :math:`L (L + 3) / 4B` for equal distributions. No more than
      the part of KL(q(z) || p(z)) that means, variances and correlations show;
    - `code_scale`: largest root mean square of a dimension of the codes, in standard deviations of the prior;
    - `unused_dimensions`: share of the dimensions whose KL is below 0.01 nats.

    Of a hierarchy, the first latent. Codes of a codebook and categories have no such moments.
    """
    latent = drawn(model, batch, plan).latents[0]
    z = latent.draw.value[0].flatten(1).double()
    if isinstance(latent.q, Quantized) or len(latent.q.event_shape) != 1 or len(z) < _PER_DIMENSION:
        return {}
    p = latent.p.sample((_PRIOR_DRAWS,)).double().flatten(0, 2).flatten(1)
    if p.shape[1] != z.shape[1]:
        return {}
    n, size = z.shape
    full = n >= _PER_DIMENSION * size
    (mq, sq), (mp, sp) = _moments(z, full), _moments(p, full)
    bias = (size * (size + 3) / 4.0 if full else size) / n
    scale = ((z - mp).square().mean(0) / sp.diagonal().clamp_min(1e-12)).sqrt().max()
    words = "KL of normals with the moments of q(z) and p(z)" + ("" if full else ", without correlations")
    found = {
        "prior_gap": Estimate(_kl(mq, sq, mp, sp) - bias, 0.0, "nats", n, words),
        "code_scale": Estimate(float(scale), 0.0, "1", n, "largest RMS of a code's dimension, in units of the prior's"),
    }
    if model.bounded:
        kl = latent.kl_per_dimension()[0].double().mean(0)
        words = f"share of {size} latent dimensions with a KL below 0.01 nats"
        found["unused_dimensions"] = Estimate(float((kl < 0.01).double().mean()), 0.0, "1", n, words)
    return found


def _moments(z: Tensor, full: bool) -> tuple[Tensor, Tensor]:
    mean = z.mean(0)
    centred = z - mean
    covariance = centred.T @ centred / len(z) if full else centred.square().mean(0).diag()
    return mean, covariance + 1e-9 * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)


def _kl(mq: Tensor, sq: Tensor, mp: Tensor, sp: Tensor) -> float:
    inverse = torch.linalg.inv(sp)
    trace = (inverse @ sq).diagonal().sum()
    difference = mp - mq
    logs = torch.linalg.slogdet(sp).logabsdet - torch.linalg.slogdet(sq).logabsdet
    return float(0.5 * (trace - len(mq) + difference @ inverse @ difference + logs))
