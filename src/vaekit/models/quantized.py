"""The model with a map of codes: posterior and prior share a codebook, and the size of the map follows from the image."""

# (C, H, W) image, (D, h, w) map of vectors

from __future__ import annotations

from vaekit.conditionals.quantized import Quantized
from vaekit.likelihoods.base import Likelihood
from vaekit.models.factories import ConditionalFactory, NetworkFactory
from vaekit.models.hierarchy import flat
from vaekit.models.vae import VAE
from vaekit.networks.base import check_image_shape


def quantized(
    encoder: NetworkFactory,
    decoder: NetworkFactory,
    posterior: ConditionalFactory,
    prior: ConditionalFactory,
    likelihood: Likelihood,
    embedding_dim: int = 64,
    downsampling: int = 4,
) -> VAE:
    """The VQ-VAE: one latent, a map of vectors that are all out of one codebook.

    Arguments:
        encoder: Called with `in_shape` and `out_shape`: from the image to the map.
        decoder: Called with `in_shape` and `out_shape`: from the map to the likelihood's context.
        posterior: Called with `event_shape`: has a codebook.
        prior: Called with `event_shape` and `codebook`: over that codebook.
        likelihood: p(x | decoded), of images.
        embedding_dim: D.
        downsampling: A power of two: pixels of the image, along each side, to one position of the map; rounded up.

    Raises:
        ValueError: If `downsampling` is no power of two, the data are no images, or the posterior has no codebook.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937
    """
    check_image_shape(likelihood.event_shape, "data")
    if downsampling < 1 or downsampling & (downsampling - 1):
        raise ValueError(f"downsampling is {downsampling}, expected a power of two: 1, 2, 4, 8, ...")
    height, width = (-(-side // downsampling) for side in likelihood.event_shape[1:])
    shape = (embedding_dim, height, width)
    q = posterior(event_shape=shape)
    if not isinstance(q, Quantized):
        raise ValueError(
            f"models.quantized needs a posterior with a codebook, received {type(q).__name__}; write posterior=quantized."
        )
    p = prior(event_shape=shape, codebook=q.codebook)
    return VAE(
        encoder=encoder(in_shape=likelihood.event_shape, out_shape=q.context_shape),
        hierarchy=flat(q, p),
        decoder=decoder(in_shape=p.event_shape, out_shape=likelihood.context_shape),
        likelihood=likelihood,
    )
