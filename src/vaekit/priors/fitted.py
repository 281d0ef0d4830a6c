"""Priors that are fitted to the latents of a trained model: the second of two stages."""

# K samples, B batch, N latents, n of them at a time, L dimensions of a flattened latent, *z event of a latent

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import standard_normal
from vaekit.errors import NotFittedError

# latents scored at a time
_ROWS = 4096


class Fitted(Conditional):
    """A prior that knows nothing until `fit` has shown it latents. What it has learned lies in its state dict.

    It may stand in a model from the start, as the prior of an autoencoder does: nothing is asked of it until the training is over.

    Arguments:
        event_shape: Shape of one latent.

    Attributes:
        loc: Mean of the latents that it was fitted to, shape (*z).
        scale: Their standard deviation, each dimension alone, shape (*z).

    References:
        | From Variational to Deterministic Autoencoders (Ghosh et al., 2020), section 4: ex-post density estimation
        | https://arxiv.org/abs/1903.12436
        | Diagnosing and Enhancing VAE Models (Dai and Wipf, 2019), section 4: two stages, https://arxiv.org/abs/1903.05789
    """

    kind: ClassVar[str]
    """What `vaekit prior RUN ...` calls it."""

    fitted: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__(event_shape)
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("loc", torch.zeros(self.event_shape))
        self.register_buffer("scale", torch.ones(self.event_shape))

    @property
    def context_shape(self) -> torch.Size:
        """Nothing is needed: (0,)."""
        return torch.Size([0])

    @property
    def is_fitted(self) -> bool:
        """Whether it has seen latents."""
        return bool(self.fitted)

    def fit(self, latents: Tensor, seed: int = 0) -> None:
        """Learn from latents; the same latents and seed give the same prior on the CPU.

        Arguments:
            latents: Shape (N, *z), two or more.
            seed: Of whatever is random in the fit. torch's generators are left as they were.

        Raises:
            ValueError: If the latents are too few, of another shape, or not finite.
        """
        if latents.shape[1:] != self.event_shape or len(latents) < 2:
            raise ValueError(
                f"{type(self).__name__} expects two or more latents of shape {tuple(self.event_shape)}, received an array of "
                f"shape {tuple(latents.shape)}."
            )
        if not bool(latents.isfinite().all()):
            raise ValueError(f"{type(self).__name__} received latents that are not finite; train the model anew.")
        latents = latents.detach().to(self.loc)
        self.loc.copy_(latents.mean(0))
        # a dimension that never varies keeps a width, or it would have no density
        floor = 1e-6 + 1e-4 * latents.std(0, correction=0).max()
        self.scale.copy_(latents.std(0, correction=0).clamp_min(floor))
        devices = [latents.device] if latents.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            # not torch.manual_seed, which seeds every accelerator of the process
            torch.default_generator.manual_seed(seed)
            for device in devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            self.estimate(latents, seed)
        self.fitted.fill_(True)

    @abstractmethod
    def estimate(self, latents: Tensor, seed: int) -> None:
        """Learn from latents (N, *z), with torch's generators already seeded."""

    @abstractmethod
    def log_density(self, latents: Tensor) -> Tensor:
        """Nats, (n, *z) -> (n,)."""

    @abstractmethod
    def drawn(self, lead: Sequence[int]) -> Tensor:
        """Draws, (*lead, *z), from `vaekit.distributions.noise`."""

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B) of the context, event `event_shape`."""
        return FittedDistribution(self, context.shape[:2])

    def require_fitted(self) -> None:
        """Raise unless it has been fitted.

        Raises:
            NotFittedError: With what to do.
        """
        if not self.is_fitted:
            raise NotFittedError(
                f"priors.{type(self).__name__} has not been fitted to latents, so it has neither a density nor samples. It is "
                f"fitted when the training ends; for a trained model write: vaekit prior RUN {self.kind}"
            )


class FittedDistribution(Distribution):
    """The same fitted prior for a whole batch. It can be made before the prior is fitted, but not be asked anything.

    Arguments:
        prior: What knows.
        batch_shape: (K, B).

    Raises:
        NotFittedError: From every method, if the prior is not fitted.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, prior: Fitted, batch_shape: Sequence[int]) -> None:
        self.prior = prior
        super().__init__(torch.Size(batch_shape), prior.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean of the latents that the prior was fitted to, (K, B, *z)."""
        self.prior.require_fitted()
        return self.prior.loc.expand(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        """Their variance, (K, B, *z)."""
        self.prior.require_fitted()
        return self.prior.scale.square().expand(self._extended_shape())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, K, B, *z)."""
        self.prior.require_fitted()
        with torch.no_grad():
            return self.prior.drawn((*torch.Size(sample_shape), *self.batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, shape (K, B)."""
        self.prior.require_fitted()
        lead = value.shape[: value.dim() - len(self.event_shape)]
        rows = torch.split(value.reshape(-1, *self.event_shape), _ROWS)
        nats = torch.cat([self.prior.log_density(part) for part in rows]).reshape(lead)
        return nats + nats.new_zeros(self.batch_shape)  # a value without samples counts for all of them


@reparameterised.register
def _(q: FittedDistribution) -> Tensor:
    return q.sample()


class FittedNormal(Fitted):
    r"""A normal with full covariance, :math:`N(\hat\mu, \hat\Sigma)`: the mean and the covariance of the latents, in closed form.

    Arguments:
        event_shape: Shape of one latent.

    References:
        | From Variational to Deterministic Autoencoders (Ghosh et al., 2020), section 4, and table 1 for its samples
        | https://arxiv.org/abs/1903.12436
    """

    kind: ClassVar[str] = "normal"
    tril: Tensor

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__(event_shape)
        self.register_buffer("tril", torch.eye(self.event_shape.numel()))

    def estimate(self, latents: Tensor, seed: int) -> None:
        """Maximum likelihood; nothing is random."""
        centred = (latents - self.loc).flatten(1).double()
        covariance = centred.T @ centred / len(latents)
        # fewer latents than dimensions leave directions without any spread
        floor = 1e-6 * self.scale.flatten().double().square()
        self.tril.copy_(torch.linalg.cholesky(covariance + floor.diag()))

    def log_density(self, latents: Tensor) -> Tensor:
        """Nats, (n, *z) -> (n,)."""
        return normal_log_density((latents - self.loc).flatten(1), self.tril)

    def drawn(self, lead: Sequence[int]) -> Tensor:
        """mu + L epsilon."""
        noise = standard_normal(torch.Size([*lead, len(self.tril)]), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (noise @ self.tril.T).reshape(*lead, *self.event_shape)


def normal_log_density(centred: Tensor, tril: Tensor) -> Tensor:
    r"""log N(0, L L^T) of (n, L), given the lower triangle L: nats, (n,)."""
    whitened: Tensor = torch.linalg.solve_triangular(tril, centred.T, upper=False).T
    constant = 0.5 * centred.shape[1] * math.log(2.0 * math.pi)
    return -0.5 * whitened.square().sum(1) - tril.diagonal().log().sum() - constant
