"""A mixture of full normals, fitted to latents by expectation maximisation."""

# N latents, n of them at a time, M components, L dimensions of a flattened latent

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vaekit.distributions.draw import chosen
from vaekit.distributions.noise import standard_normal
from vaekit.priors.fitted import Fitted, normal_log_density


class FittedMixture(Fitted):
    r"""A mixture of M normals with full covariances, :math:`\sum_m w_m N(\mu_m, \Sigma_m)`.

    scikit-learn's expectation maximisation, from k-means, on latents of which each dimension has been brought to unit variance.

    Arguments:
        event_shape: Shape of one latent.
        components: M; fitting needs at least as many latents.

    Raises:
        ValueError: If `components` is below 1.

    References:
        | From Variational to Deterministic Autoencoders (Ghosh et al., 2020), section 4: a mixture of 10 normals
        | https://arxiv.org/abs/1903.12436
    """

    kind: ClassVar[str] = "mixture"
    weights: Tensor
    means: Tensor
    trils: Tensor

    def __init__(self, event_shape: Sequence[int], components: int = 10) -> None:
        super().__init__(event_shape)
        if components < 1:
            raise ValueError(f"components is {components}, expected 1 or more.")
        size = self.event_shape.numel()
        self.register_buffer("weights", torch.full((components,), 1.0 / components))
        self.register_buffer("means", torch.zeros(components, size))
        self.register_buffer("trils", torch.eye(size).repeat(components, 1, 1))

    def estimate(self, latents: Tensor, seed: int) -> None:
        """Expectation maximisation."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        if len(latents) < len(self.weights):
            raise ValueError(
                f"A mixture of {len(self.weights)} components needs as many latents, received {len(latents)}; write components="
                f"{len(latents)} or fewer."
            )
        model = GaussianMixture(len(self.weights), max_iter=500, reg_covar=1e-6, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # an EM that was stopped early is still a density, and its score says how good it is
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(self._standardised(latents).double().cpu().numpy())
        self.weights.copy_(torch.from_numpy(model.weights_))
        self.means.copy_(torch.from_numpy(model.means_))
        self.trils.copy_(torch.linalg.cholesky(torch.from_numpy(model.covariances_)))

    def log_density(self, latents: Tensor) -> Tensor:
        """Nats, (n, *z) -> (n,)."""
        flat = self._standardised(latents)
        parts = [normal_log_density(flat - mean, tril) for mean, tril in zip(self.means, self.trils, strict=True)]
        mixed = (torch.stack(parts, 1) + self.weights.log()).logsumexp(1)
        return mixed - self.scale.log().sum()

    def drawn(self, lead: Sequence[int]) -> Tensor:
        """A component for each, and a draw from it."""
        component = chosen(self.weights.expand(*lead, -1))
        shape = torch.Size([*lead, self.means.shape[1]])
        noise = standard_normal(shape, dtype=self.means.dtype, device=self.means.device)
        spread = torch.einsum("...ij,...j->...i", self.trils[component], noise)
        return self.loc + self.scale * (self.means[component] + spread).reshape(*lead, *self.event_shape)

    def _standardised(self, latents: Tensor) -> Tensor:
        return ((latents - self.loc) / self.scale).flatten(1)
