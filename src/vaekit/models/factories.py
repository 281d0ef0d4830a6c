"""From parts to models, where a part's shape follows from another part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from vaekit.conditionals.base import Conditional
from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.bernoulli import Bernoulli
from vaekit.likelihoods.pyramid import LikelihoodFactory, Pyramid
from vaekit.models.bottom_up import BelowOnly, BottomUp
from vaekit.models.hierarchy import TopDown
from vaekit.models.hierarchy import flat as flat_hierarchy
from vaekit.models.level import DrawOnly, FeaturesOnly, Level
from vaekit.models.vae import VAE
from vaekit.networks.base import Network
from vaekit.networks.growing import Growth, check_growing
from vaekit.networks.residual import ImageBelow, ImagePyramid, ResidualFeatures, ResidualImage
from vaekit.priors.vamp import Vamp

NetworkFactory = Callable[..., Network]
ConditionalFactory = Callable[..., Conditional]


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


def two_layers(
    encoder: NetworkFactory,
    decoder: NetworkFactory,
    posterior: Conditional,
    prior: Conditional,
    likelihood: Likelihood,
    upper_encoder: NetworkFactory,
    upper_decoder: NetworkFactory,
    lower_posterior: Conditional,
    lower_prior: Conditional,
) -> VAE:
    r"""The VAE with two stochastic layers: h1 next to the data and h2 above it.

    .. math:: p(h_2) \, p(h_1|h_2) \, p(x|h_1), \qquad q(h_1|x) \, q(h_2|h_1)

    Arguments:
        encoder: From the data to the context of q(h1|x).
        decoder: From h1 to the likelihood's context.
        posterior: q(h2 | what `upper_encoder` makes of h1).
        prior: p(h2).
        likelihood: p(x | decoded h1).
        upper_encoder: From h1 to the context of q(h2|h1).
        upper_decoder: From h2 to the context of p(h1|h2).
        lower_posterior: q(h1 | encoded).
        lower_prior: p(h1 | what `upper_decoder` makes of h2); one that asks for no context makes the layers independent.

    Raises:
        ValueError: If the prior of h2 asks for the posterior of h2 given data, which has no density here.

    References:
        | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), equations 1 and 2, and section 5
        | https://arxiv.org/abs/1509.00519
    """
    if isinstance(prior, Vamp):
        raise ValueError(
            "The VampPrior is a mixture of posteriors given data, and that of the upper layer has no density given data: write "
            "prior=standard or prior=mixture."
        )
    size = lower_posterior.event_shape
    up = upper_encoder(in_shape=size, out_shape=posterior.context_shape)
    down = upper_decoder(in_shape=prior.event_shape, out_shape=lower_prior.context_shape)
    levels = [
        Level("h2", posterior, prior, join=BelowOnly(up), merge=DrawOnly()),
        Level("h1", lower_posterior, lower_prior, join=FeaturesOnly(), merge=DrawOnly(), inform=down),
    ]
    return VAE(
        encoder=encoder(in_shape=likelihood.event_shape, out_shape=lower_posterior.context_shape),
        hierarchy=BottomUp(levels),
        decoder=decoder(in_shape=size, out_shape=likelihood.context_shape),
        likelihood=likelihood,
    )


def growing(
    encoder: NetworkFactory,
    decoder: NetworkFactory,
    posterior: Conditional,
    prior: Conditional,
    likelihood: Likelihood,
    growth: Growth,
) -> VAE:
    r"""The VAE that grows: one latent, and networks that open one resolution after another.

    At resolution r the encoder sees the area-downsampled image, and the decoder's parameters are alike within blocks of
    n = (R / r)^2 pixels. The likelihood is always that of the whole image; for a block under Bernoulli,

    .. math:: \sum_{i=1}^n x_i \log \pi + (1 - x_i) \log(1 - \pi) = n \, (\bar x \log \pi + (1 - \bar x) \log(1 - \pi)),

    so the target of a stage is the area-downsampled image, and yet every stage bounds the same log p(x): a nat of KL weighs the
    same at all of them, and their numbers compare. Scored as a small image of its own, a 4x4 digit has half a nat to tell, and
    the latent would collapse before it has begun.

    Arguments:
        encoder: Called with `in_shape`, `out_shape` and `growth`.
        decoder: Likewise.
        posterior: q(z | features).
        prior: p(z).
        likelihood: p(x | decoded), of the image at its last resolution.
        growth: Shared by the networks: which resolutions are open.
    """
    return VAE(
        encoder=encoder(in_shape=likelihood.event_shape, out_shape=posterior.context_shape, growth=growth),
        hierarchy=flat_hierarchy(posterior, prior),
        decoder=decoder(in_shape=prior.event_shape, out_shape=likelihood.context_shape, growth=growth),
        likelihood=likelihood,
    )


def residual_growing(
    posterior: ConditionalFactory,
    prior: ConditionalFactory,
    finer_prior: ConditionalFactory,
    likelihood: LikelihoodFactory,
    residual: LikelihoodFactory,
    growth: Growth,
    event_shape: Sequence[int],
    base_ch: int = 128,
    min_ch: int = 16,
) -> VAE:
    r"""The VAE of residuals: a latent for each stage, each adding to the image below what that image lacks.

    Stage 0 models the image at the lowest resolution. Stage s models :math:`x_s - \mathrm{up}(\hat x_{s-1})`, and its posterior,
    prior and decoder see the image below, through which no gradient passes. The bound that is trained,

    .. math:: \sum_{s \le S} E_q[\log p(x_s | z_{\le s})]
        - \mathrm{KL}(q(z_s | x, z_{<s}) \| p(z_s | z_{<s})) \le \log p(b, x_1, ..., x_S),

    is that of a model of all resolutions together: Jensen's inequality for the joint density. docs/theory.md has the derivation.

    Arguments:
        posterior: q(z_s | features), made once for each stage.
        prior: p(z_0).
        finer_prior: p(z_s | image below), made once for each stage above; one that asks for no context sees no image.
        likelihood: Called with `event_shape`: of the image seen at the lowest resolution; its context are logits.
        residual: Likewise, for each stage above; its context is the mean.
        growth: Which stages are open.
        event_shape: (C, R, R), with R the last resolution of `growth`.
        base_ch: Channels at the lowest resolution; each level above has half as many.
        min_ch: But never fewer than this.

    Raises:
        ValueError: If `event_shape` does not fit `growth`, or the likelihood of the base is not Bernoulli.
    """
    check_growing(event_shape, growth)
    pyramid = ImagePyramid(event_shape[0], growth.resolutions)
    levels = []
    for stage in range(len(growth.resolutions)):
        q, p = posterior(), prior() if stage == 0 else finer_prior()
        join = ResidualFeatures(stage, pyramid, q.context_shape, base_ch, min_ch)
        merge = ResidualImage(stage, pyramid, growth, p.event_shape, base_ch, min_ch)
        informed = stage > 0 and p.context_shape.numel() > 0
        inform = ImageBelow(stage, pyramid, p.context_shape, base_ch, min_ch) if informed else None
        levels.append(Level(f"z{stage}", q, p, join, merge, inform))
    made = Pyramid(event_shape, likelihood, residual, start_res=growth.resolutions[0])
    if not isinstance(made.parts[0], Bernoulli):
        raise ValueError(
            f"The base of the residual VAE is an image of logits, received {type(made.parts[0]).__name__} for it: write "
            "likelihood=bernoulli."
        )
    return VAE(encoder=nn.Identity(), hierarchy=TopDown(levels, growth), decoder=nn.Identity(), likelihood=made)
