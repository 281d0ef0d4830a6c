"""Distributions with their parameters held still: a density that is differentiated by the value alone."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch.distributions import Distribution, Independent, Laplace, MultivariateNormal, Normal

from vaekit.distributions.normal import NormalEvent


@singledispatch
def detached(q: Distribution) -> Distribution:
    r"""The same distribution, with parameters that no gradient reaches.

    Its log-density at a draw :math:`z = h_\phi(\epsilon)` has the path derivative
    :math:`\nabla_z \log q(z) \, \partial z / \partial \phi` and lacks the score :math:`\nabla_\phi \log q_\phi(z)`, whose mean is
    0.

    Only for distributions whose draws are differentiable functions of their parameters, with this very density: register a class
    of your own here.

    Raises:
        ValueError: For a distribution that is not registered, such as one over codes or categories.

    References:
        | Sticking the Landing (Roeder, Wu and Duvenaud, 2017), algorithm 1: its stop_gradient
        | https://arxiv.org/abs/1703.09194
    """
    raise ValueError(
        f"The draws of {type(q).__name__} are not known to be differentiable functions of its parameters, so there is no path "
        "derivative: write objective=elbo or objective=iwae, or posterior=normal."
    )


@detached.register
def _(q: Independent) -> Distribution:  # type: ignore[type-arg]
    return Independent(detached(q.base_dist), q.reinterpreted_batch_ndims, validate_args=False)


@detached.register
def _(q: NormalEvent) -> Distribution:
    shape = torch.Size([*q.batch_shape, *q.event_shape])
    return NormalEvent(q.loc.detach(), q.scale.detach(), shape, q.reinterpreted_batch_ndims)


@detached.register
def _(q: Normal) -> Distribution:
    return Normal(q.loc.detach(), q.scale.detach(), validate_args=False)


@detached.register
def _(q: Laplace) -> Distribution:
    return Laplace(q.loc.detach(), q.scale.detach(), validate_args=False)


@detached.register
def _(q: MultivariateNormal) -> Distribution:
    return MultivariateNormal(q.loc.detach(), scale_tril=q.scale_tril.detach(), validate_args=False)
