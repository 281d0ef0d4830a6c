"""Bounds between the ELBO and the importance-weighted bound, for encoders that a tight bound teaches badly."""

# S draws in all, M groups of K draws, S = M K, B batch

from __future__ import annotations

from torch import Tensor

from vaekit.math.importance import importance_bound
from vaekit.math.multi_sample import combined_bound, grouped_bound, in_groups
from vaekit.models.trace import Trace
from vaekit.objectives.bound import Bound
from vaekit.objectives.path import check_separate
from vaekit.objectives.routed import routed


class MIWAE(Bound):
    r"""Minus the mean over M groups of the importance-weighted bound of the K draws in each.

    .. math:: -\frac1M \sum_{m=1}^M \log \frac1K \sum_{k=1}^K w_{m,k}

    With M = 1 it is `ImportanceBound`, with K = 1 minus the ELBO. `training.samples` is M K.

    Arguments:
        groups: M.

    Raises:
        ValueError: If M is below 1; when called, if it does not divide the number of draws.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), section 5: MIWAE
        | https://arxiv.org/abs/1802.04537
    """

    def __init__(self, groups: int = 8) -> None:
        super().__init__()
        _check_groups(groups)
        self.groups = groups

    def bound(self, log_w: Tensor) -> Tensor:
        """Nats, shape (B,)."""
        return grouped_bound(log_w, self.groups)

    def check(self, trace: Trace) -> None:
        """Raise if the draws do not fall into M groups."""
        in_groups(trace.log_px, self.groups)


class CIWAE(Bound):
    r"""Minus a mixture of the ELBO and the importance-weighted bound of the same K draws.

    .. math:: -\beta \, \frac1K \sum_k \log w_k - (1 - \beta) \log \frac1K \sum_k w_k

    Arguments:
        beta: From 0, `ImportanceBound`, to 1, minus the ELBO.

    Raises:
        ValueError: If `beta` is not from 0 to 1.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), section 5: CIWAE
        | https://arxiv.org/abs/1802.04537
    """

    def __init__(self, beta: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= beta <= 1.0:
            raise ValueError(f"beta is {beta}, expected a share from 0 (IWAE) to 1 (the ELBO).")
        self.beta = beta

    def bound(self, log_w: Tensor) -> Tensor:
        """Nats, shape (B,)."""
        return combined_bound(log_w, self.beta)


class PIWAE(Bound):
    r"""The importance-weighted bound of all M K draws for the decoder, the bound of `MIWAE` for the encoder.

    .. math::
        \nabla_\theta = -\nabla_\theta \log \frac{1}{M K} \sum_{m,k} w_{m,k}, \qquad
        \nabla_\phi = -\nabla_\phi \frac1M \sum_m \log \frac1K \sum_k w_{m,k}

    The two sides minimise different numbers. The one that is reported is the decoder's: the importance-weighted bound with M K
    draws. It costs one more pass back through the decoder. `training.samples` is M K.

    Arguments:
        groups: M.

    Raises:
        ValueError: If M is below 1; when called, if it does not divide the number of draws, or one latent is drawn given another.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), section 5: PIWAE
        | https://arxiv.org/abs/1802.04537
    """

    def __init__(self, groups: int = 8) -> None:
        super().__init__()
        _check_groups(groups)
        self.groups = groups

    def bound(self, log_w: Tensor) -> Tensor:
        """The decoder's, nats, shape (B,)."""
        return importance_bound(log_w)

    def forward(self, trace: Trace) -> Tensor:
        """Nats, shape (B,)."""
        check_separate(trace)
        log_w = trace.log_w.detach()
        within = in_groups(log_w, self.groups).softmax(0) / self.groups
        encoder = within.transpose(0, 1).flatten(0, 1)
        log_q = sum((latent.log_q for latent in trace.latents), start=log_w.new_zeros(()))
        return -self.bound(log_w) - routed(trace, log_q, encoder=encoder, decoder=log_w.softmax(0))

    def check(self, trace: Trace) -> None:
        """Raise if the draws do not fall into M groups, or one latent is drawn given another."""
        in_groups(trace.log_px, self.groups)
        check_separate(trace)


def _check_groups(groups: int) -> None:
    if groups < 1:
        raise ValueError(f"groups is {groups}, expected 1 or more; training.samples is groups x K.")
