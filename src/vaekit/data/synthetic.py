"""Data whose exact evidence is known: probabilistic PCA, for tests and benchmarks."""

# N examples, F features, D latent dimensions

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaekit.data.randomness import generator


@dataclass(frozen=True)
class ProbabilisticPCA:
    r"""The model :math:`x = W z + b + \sigma \epsilon` with standard normal :math:`z` and :math:`\epsilon`.

    Attributes:
        weight: :math:`W`, shape (F, D).
        bias: :math:`b`, shape (F,).
        sigma: :math:`\sigma > 0`.

    References:
        | Probabilistic Principal Component Analysis (Tipping and Bishop, 1999), equations 2 to 6
        | https://doi.org/10.1111/1467-9868.00196
    """

    weight: Tensor
    bias: Tensor
    sigma: float

    def __post_init__(self) -> None:
        if self.weight.dim() != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"weight has shape {tuple(self.weight.shape)} and bias {tuple(self.bias.shape)}, expected (F, D) and (F,)."
            )
        if not self.sigma > 0:
            raise ValueError(f"sigma is {self.sigma}, expected a positive number.")

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n examples, shape (N, F), drawn with a generator of their own."""
        features, latents = self.weight.shape
        noise = torch.randn(n, latents + features, generator=generator("probabilistic PCA", seed), dtype=torch.float64)
        z, epsilon = noise[:, :latents].to(self.weight), noise[:, latents:].to(self.weight)
        return z @ self.weight.T + self.bias + self.sigma * epsilon

    def evidence(self, x: Tensor) -> Tensor:
        r""":math:`\log N(x; b, W W^T + \sigma^2 I)` in nats, shape (*), for x of shape (*, F)."""
        covariance = self.weight @ self.weight.T + self.sigma**2 * torch.eye(len(self.bias)).to(self.weight)
        log_px: Tensor = MultivariateNormal(self.bias, covariance, validate_args=False).log_prob(x)  # type: ignore[no-untyped-call]
        return log_px

    def posterior(self, x: Tensor) -> MultivariateNormal:
        r"""The exact :math:`p(z \mid x)` for x of shape (*, F): normal with precision :math:`I + W^T W / \sigma^2`."""
        precision = torch.eye(self.weight.shape[1]).to(self.weight) + self.weight.T @ self.weight / self.sigma**2
        loc = torch.linalg.solve(precision, self.weight.T @ (x - self.bias).unsqueeze(-1) / self.sigma**2).squeeze(-1)
        return MultivariateNormal(loc, precision_matrix=precision, validate_args=False)


def probabilistic_pca(features: int, latents: int, sigma: float = 0.5, seed: int = 0) -> ProbabilisticPCA:
    """A model with standard normal weights and biases, float64, that depends on `seed` only."""
    numbers = torch.randn(
        features, latents + 1, generator=generator("weights of probabilistic PCA", seed), dtype=torch.float64
    )
    return ProbabilisticPCA(weight=numbers[:, :latents], bias=numbers[:, latents], sigma=sigma)
