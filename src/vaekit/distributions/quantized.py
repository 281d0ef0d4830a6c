"""Vectors out of a codebook: the posterior of a VQ-VAE, and priors over its codes."""

# K samples, B batch, D dimensions of a vector, M codes, *s positions, n vectors; an event (D, *s) is a map of vectors

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from vaekit.distributions.draw import Draw, draw, reparameterised
from vaekit.distributions.noise import uniform
from vaekit.math.straight_through import straight_through

# distances held at a time: bounds memory for any number of vectors and codes
_DISTANCES = 1 << 22


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    r"""The code of each vector, :math:`\arg\min_m \|z - e_m\|_2`; of equally near ones the first.

    Arguments:
        vectors: Shape (n, D).
        codebook: Shape (M, D).

    Returns:
        int64, shape (n,).

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), equation 1
        | https://arxiv.org/abs/1711.00937
    """
    # |z - e|^2 = |z|^2 - 2 z e + |e|^2, where the first is the same for all codes. Far from the origin the difference of the other
    # two would lose its digits, so the origin moves to the codes
    origin = codebook.mean(0)
    centred = codebook - origin
    half_norms = 0.5 * centred.square().sum(1)
    rows = torch.split(vectors, max(1, _DISTANCES // len(codebook)))
    return torch.cat([(half_norms - (part - origin) @ centred.T).argmin(1) for part in rows])


def codes_of(values: Tensor, codebook: Tensor) -> Tensor:
    """The codes of maps of vectors: (*lead, D, *s) with two leading dimensions -> int64, (*lead, *s)."""
    flat = values.movedim(2, -1)
    return nearest(flat.reshape(-1, flat.shape[-1]), codebook).reshape(flat.shape[:-1])


def vectors_of(codes: Tensor, codebook: Tensor) -> Tensor:
    """The maps of vectors of codes: int64 (K, B, *s) -> (K, B, D, *s), with gradients to the codebook."""
    flat = codebook.index_select(0, codes.flatten())
    return flat.reshape(*codes.shape, codebook.shape[1]).movedim(-1, 2)


class Quantized(Distribution):
    r"""All probability on one code at each position: :math:`q(z = m | x) = 1` for the code m nearest to the encoder's output.

    It is a distribution over codes, of which it shows the vectors: `log_prob` is 0 for its own vectors and minus infinity for all
    others, over the counting measure, which is also that of `CodesPrior`.

    Arguments:
        encoded: What the encoder put out, (K, B, D, *s).
        codes: int64, (K, B, *s).
        codebook: (M, D).

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), equations 1 and 2
        | https://arxiv.org/abs/1711.00937
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, encoded: Tensor, codes: Tensor, codebook: Tensor) -> None:
        self.encoded, self.codes, self.size = encoded, codes, len(codebook)
        self.vectors = vectors_of(codes, codebook)
        super().__init__(encoded.shape[:2], encoded.shape[2:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The vectors, (K, B, D, *s)."""
        return self.vectors.detach()

    @property
    def mode(self) -> Tensor:
        """The vectors, (K, B, D, *s)."""
        return self.vectors.detach()

    @property
    def variance(self) -> Tensor:
        """0, (K, B, D, *s)."""
        return torch.zeros_like(self.vectors)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The vectors, as often as asked for."""
        return self.mean.expand(self._extended_shape(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """0 for the vectors, minus infinity for all others, (K, B)."""
        same = (value == self.vectors).flatten(2).all(-1)
        return torch.where(same, self.encoded.new_zeros(()), -math.inf)


@draw.register
def _(q: Quantized) -> Draw:
    """The vectors, whose gradient goes to the encoder as it is, and the squared distance from either side.

    Section 3.2 of the paper: summed over the dimensions of a vector, averaged over the positions.
    """
    value = straight_through(q.vectors, q.encoded)
    penalties = {
        "commitment": _distance(q.encoded, q.vectors.detach()),
        "codebook": _distance(q.encoded.detach(), q.vectors),
    }
    return Draw(value, lambda: q.encoded.new_zeros(q.batch_shape), penalties)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(2).reshape(*a.shape[:2], -1).mean(-1)


class CodesPrior(Distribution, ABC):
    """A distribution over maps of codes, of which it shows the vectors.

    Arguments:
        codebook: (M, D).
        batch_shape: (K, B).
        positions: Shape of the map, (*s).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, codebook: Tensor, batch_shape: Sequence[int], positions: Sequence[int]) -> None:
        self.codebook, self.positions = codebook, torch.Size(positions)
        super().__init__(torch.Size(batch_shape), torch.Size([codebook.shape[1], *positions]), validate_args=False)

    @abstractmethod
    def log_prob_of_codes(self, codes: Tensor) -> Tensor:
        """Nats, int64 (K, B, *s) -> (K, B)."""

    @abstractmethod
    def drawn_codes(self) -> Tensor:
        """int64, (K, B, *s), from `vaekit.distributions.noise`."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of the codes whose vectors these are, (K, B)."""
        return self.log_prob_of_codes(codes_of(value.expand(self._extended_shape()), self.codebook))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Vectors of drawn codes, (*sample_shape, K, B, D, *s)."""
        count = torch.Size(sample_shape).numel()
        with torch.no_grad():
            drawn = torch.stack([vectors_of(self.drawn_codes(), self.codebook) for _ in range(count)])
        return drawn.reshape(self._extended_shape(torch.Size(sample_shape)))


class UniformCodes(CodesPrior):
    """Each code as likely as any other, at every position alone: what the paper trains with.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), section 3.1
        | https://arxiv.org/abs/1711.00937
    """

    def log_prob_of_codes(self, codes: Tensor) -> Tensor:
        """-positions x log M, (K, B)."""
        nats = -self.positions.numel() * math.log(len(self.codebook))
        return self.codebook.new_full(codes.shape[:2], nats)

    def log_prob(self, value: Tensor) -> Tensor:
        """The same for the vectors of any codes, so nothing is looked up, (K, B)."""
        return self.log_prob_of_codes(value[:, :, 0]).expand(self.batch_shape)

    def drawn_codes(self) -> Tensor:
        """int64, (K, B, *s)."""
        shape = torch.Size([*self.batch_shape, *self.positions])
        numbers = uniform(shape, dtype=self.codebook.dtype, device=self.codebook.device)
        return (numbers * len(self.codebook)).long().clamp_max(len(self.codebook) - 1)


@reparameterised.register
def _(q: CodesPrior) -> Tensor:
    return q.sample()


@register_kl(Quantized, CodesPrior)  # type: ignore[no-untyped-call,untyped-decorator]
def _(q: Quantized, p: CodesPrior) -> Tensor:
    # a point mass has no entropy
    return -p.log_prob_of_codes(q.codes)
