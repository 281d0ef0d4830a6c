"""Codebooks: the vectors that a quantiser chooses from, and how they follow the encoder."""

# M codes, D dimensions of a vector, n encoded vectors

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vaekit.distributions.noise import uniform


class Codebook(nn.Module, ABC):
    r"""M vectors, the running count of how often each is chosen, and the revival of those that are not.

    The count is :math:`N_m \leftarrow \gamma N_m + (1 - \gamma) n_m`, with :math:`n_m` the choices in a training batch. A code
    whose count is below a share `revive_below` of what an even use would give is dead: it is put on an encoder output drawn at
    random from the batch, with the count of even use. At the first step all are dead, and that is how a codebook begins.

    Arguments:
        dim: D.
        codes: M.
        decay: :math:`\gamma`.
        revive_below: Share of an even use; 0 revives nothing after the first step. A code that is never chosen falls below the
            default of 0.05 after 298 steps with the default decay.

    Attributes:
        vectors: Shape (M, D).
        usage: The counts, shape (M,); -1 before the first training step.

    Raises:
        ValueError: If `codes` is below 1, `decay` not in (0, 1), or `revive_below` not in [0, 1).

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), section 3 and appendix A.1 for the counts
        | https://arxiv.org/abs/1711.00937
        | Jukebox: A Generative Model for Music (Dhariwal et al., 2020), section 3.1 for the revival
        | https://arxiv.org/abs/2005.00341
    """

    vectors: Tensor
    usage: Tensor

    def __init__(self, dim: int, codes: int = 512, decay: float = 0.99, revive_below: float = 0.05) -> None:
        super().__init__()
        if codes < 1:
            raise ValueError(f"codes is {codes}, expected 1 or more.")
        if not 0.0 < decay < 1.0:
            raise ValueError(f"decay is {decay}, expected a number between 0 and 1, for example 0.99.")
        if not 0.0 <= revive_below < 1.0:
            raise ValueError(f"revive_below is {revive_below}, expected a share from 0 to below 1.")
        self.decay, self.revive_below = decay, revive_below
        self.place((torch.rand(codes, dim) * 2.0 - 1.0) / codes)
        self.register_buffer("usage", torch.full((codes,), -1.0))

    @abstractmethod
    def place(self, vectors: Tensor) -> None:
        """Make `vectors`, (M, D), the vectors that training starts from."""

    @abstractmethod
    def follow(self, encoded: Tensor, codes: Tensor, counts: Tensor) -> None:
        """Move the vectors towards the encoder outputs that have chosen them, if it is not the optimizer that moves them.

        Arguments:
            encoded: (n, D).
            codes: Their choices, int64, (n,).
            counts: How often each code was chosen, (M,). `usage` has them already.
        """

    @torch.no_grad()
    def revive(self, encoded: Tensor) -> None:
        """Put dead codes on random ones of the encoder outputs (n, D). To be called in training, before these are quantised."""
        even = len(encoded) / len(self.usage)
        dead = self.usage < self.revive_below * even
        shape = torch.Size([1, 1, len(self.usage)])
        numbers = uniform(shape, dtype=torch.float32, device=encoded.device).flatten()
        drawn = encoded.index_select(0, (numbers * len(encoded)).long().clamp_max(len(encoded) - 1))
        # without asking whether there is any: that would wait for the device
        self.vectors.copy_(torch.where(dead[:, None], drawn.to(self.vectors), self.vectors))
        self.usage.copy_(torch.where(dead, self.usage.new_tensor(even), self.usage))

    @torch.no_grad()
    def observe(self, encoded: Tensor, codes: Tensor) -> None:
        """Count the choices `codes` (n,) of encoder outputs (n, D), and follow them. To be called in training."""
        counts = torch.zeros_like(self.usage).index_add_(0, codes, torch.ones_like(codes, dtype=self.usage.dtype))
        self.usage.mul_(self.decay).add_(counts, alpha=1.0 - self.decay)
        self.follow(encoded, codes, counts)


class EMACodebook(Codebook):
    r"""A codebook whose vectors are running means of the encoder outputs that choose them.

    The paper keeps the counts and the sums, :math:`m_i \leftarrow \gamma m_i + (1 - \gamma) \sum_j z_{i,j}`, and divides. The same
    is written here without the sums,

    .. math:: e_i \leftarrow e_i + (1 - \gamma) \frac{\sum_j z_{i,j} - n_i e_i}{N_i},

    as :math:`m_i = N_i e_i`: a vector that nobody chooses stays where it is, to the last bit and however long, where counts and
    sums that do not start alike, or both fade to nothing, would send it to infinity.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), appendix A.1, equations 6 to 8
        | https://arxiv.org/abs/1711.00937
    """

    def place(self, vectors: Tensor) -> None:
        """A buffer: no optimizer knows it."""
        self.register_buffer("vectors", vectors)

    def follow(self, encoded: Tensor, codes: Tensor, counts: Tensor) -> None:
        """The running means."""
        sums = torch.zeros_like(self.vectors).index_add_(0, codes, encoded.to(self.vectors))
        # who was chosen has a count of 1 - gamma or more; who was not has nothing to divide
        moved = (sums - counts[:, None] * self.vectors) / self.usage.clamp_min(0.5 * (1.0 - self.decay))[:, None]
        self.vectors.add_(moved, alpha=1.0 - self.decay)


class GradientCodebook(Codebook):
    """A codebook that the optimizer moves, by the gradient of the term `objectives.Penalty("codebook")`.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), equation 3, its second term
        | https://arxiv.org/abs/1711.00937
    """

    def place(self, vectors: Tensor) -> None:
        """A parameter."""
        self.vectors = nn.Parameter(vectors)

    def follow(self, encoded: Tensor, codes: Tensor, counts: Tensor) -> None:
        """The optimizer does it."""
