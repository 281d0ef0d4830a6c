"""A neural spline flow, fitted to latents by maximum likelihood."""

# n latents at a time, L dimensions of a flattened latent

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vaekit.distributions.noise import standard_normal
from vaekit.priors.fitted import Fitted
from vaekit.priors.learning import maximise


class FittedFlow(Fitted):
    """An autoregressive neural spline flow over latents of which each dimension has been brought to unit variance.

    The flow is zuko's, which comes with the extra `flow`.

    Arguments:
        event_shape: Shape of one latent.
        transforms: Spline transforms, one after another.
        hidden_dims: Widths of the network inside each.
        steps: Of the optimizer in a fit.

    Raises:
        RuntimeError: If zuko is not installed.

    References:
        | Neural Spline Flows (Durkan et al., 2019), https://arxiv.org/abs/1906.04032
        | Diagnosing and Enhancing VAE Models (Dai and Wipf, 2019), section 4, https://arxiv.org/abs/1903.05789
    """

    kind: ClassVar[str] = "flow"

    def __init__(
        self,
        event_shape: Sequence[int],
        transforms: int = 3,
        hidden_dims: Sequence[int] = (64, 64),
        steps: int = 1000,
    ) -> None:
        super().__init__(event_shape)
        if transforms < 1 or steps < 1:
            raise ValueError(f"transforms is {transforms} and steps {steps}, expected 1 or more of both.")
        self.transforms, self.hidden_dims, self.steps = transforms, tuple(hidden_dims), steps
        with torch.random.fork_rng(devices=[]):  # these weights are only there to be replaced
            self.flow = self._fresh()

    def estimate(self, latents: Tensor, seed: int) -> None:
        """Maximum likelihood from fresh weights."""
        self.flow = self._fresh().to(latents)
        maximise(self.flow, self._flat_log_density, self._standardised(latents), steps=self.steps, lr=3e-3)

    def log_density(self, latents: Tensor) -> Tensor:
        """Nats, (n, *z) -> (n,)."""
        return self._flat_log_density(self._standardised(latents)) - self.scale.log().sum()

    def drawn(self, lead: Sequence[int]) -> Tensor:
        """The flow's image of standard normal noise."""
        shape = torch.Size([*lead, self.event_shape.numel()])
        noise = standard_normal(shape, dtype=self.loc.dtype, device=self.loc.device)
        flat: Tensor = self.flow().transform.inv(noise)
        return self.loc + self.scale * flat.reshape(*lead, *self.event_shape)

    def _flat_log_density(self, flat: Tensor) -> Tensor:
        nats: Tensor = self.flow().log_prob(flat)
        return nats

    def _standardised(self, latents: Tensor) -> Tensor:
        return ((latents - self.loc) / self.scale).flatten(1)

    def _fresh(self) -> nn.Module:
        flow: nn.Module = _zuko().NSF(
            features=self.event_shape.numel(), transforms=self.transforms, hidden_features=self.hidden_dims
        )
        return flow.requires_grad_(False)


def _zuko() -> Any:
    try:
        import zuko.flows
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "priors.FittedFlow needs zuko: install vaekit with its extra, pip install 'vaekit[flow]'; or take the prior mixture."
        ) from error
    return zuko.flows
