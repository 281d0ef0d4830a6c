"""From parts to models, where a part's shape follows from another part."""

from __future__ import annotations

from collections.abc import Callable

from vaekit.conditionals.base import Conditional
from vaekit.likelihoods.base import Likelihood
from vaekit.models.hierarchy import flat as flat_hierarchy
from vaekit.models.vae import VAE
from vaekit.networks.base import Network

NetworkFactory = Callable[..., Network]


def flat(
    encoder: NetworkFactory, decoder: NetworkFactory, posterior: Conditional, prior: Conditional, likelihood: Likelihood
) -> VAE:
    """The ordinary VAE: one latent.

    Arguments:
        encoder: Called with `in_shape` and `out_shape`: from the data to the posterior's context.
        decoder: Called with `in_shape` and `out_shape`: from the latent to the likelihood's context.
        posterior: q(z | features).
        prior: p(z).
        likelihood: p(x | decoded).
    """
    return VAE(
        encoder=encoder(in_shape=likelihood.event_shape, out_shape=posterior.context_shape),
        hierarchy=flat_hierarchy(posterior, prior),
        decoder=decoder(in_shape=prior.event_shape, out_shape=likelihood.context_shape),
        likelihood=likelihood,
    )
