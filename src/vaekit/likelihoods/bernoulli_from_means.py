"""The Bernoulli likelihood whose decoder begins at the means of the data."""

from __future__ import annotations

from torch import Tensor

from vaekit.likelihoods.bernoulli import Bernoulli

# a value that is 0 or 1 in all data would send its logit to infinity
_INSIDE = 1e-3


class BernoulliFromMeans(Bernoulli):
    r"""As `Bernoulli`, but the last bias of the decoder begins at the logits of the training means.

    .. math:: \log \frac{m_d}{1 - m_d}, \qquad m_d \text{ the mean of } x_d \text{ held to } [0.001, 0.999]

    An untrained decoder then puts out the independent model of the values, and the first steps are not spent on it.

    Arguments:
        event_shape: Shape of one example.

    References:
        | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), as the code that goes with it does
        | https://arxiv.org/abs/1509.00519
    """

    def beginning(self, mean: Tensor) -> Tensor | None:
        """The logits of the means."""
        return mean.clamp(_INSIDE, 1.0 - _INSIDE).logit()
