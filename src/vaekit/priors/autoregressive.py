"""A small causal transformer over the codes of a VQ-VAE, fitted after the training."""

# n maps at a time, P positions in raster order, M codes, D dimensions of a code's vector, W width

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vaekit.conditionals.codebook import Codebook
from vaekit.distributions.draw import chosen
from vaekit.distributions.quantized import codes_of, vectors_of
from vaekit.priors.fitted import Fitted
from vaekit.priors.learning import maximise


class FittedAutoregressive(Fitted):
    r""":math:`p(z) = \prod_i p(z_i | z_{<i})` over the codes of a map, position by position from the top left.

    The paper fits a PixelCNN; a causal transformer sees as much, and all of what came before.

    Arguments:
        event_shape: (D, *s), of the map of vectors.
        codebook: That of the posterior. It belongs to the posterior: this prior only looks into it.
        width: Of the transformer, a multiple of 4.
        layers: Of the transformer.
        steps: Of the optimizer in a fit.

    Raises:
        ValueError: If `width` is no multiple of 4, or `layers` or `steps` is below 1.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), section 3.3, https://arxiv.org/abs/1711.00937
        | Attention Is All You Need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762
    """

    kind: ClassVar[str] = "autoregressive"

    def __init__(
        self,
        event_shape: Sequence[int],
        codebook: Codebook,
        width: int = 64,
        layers: int = 2,
        steps: int = 2000,
    ) -> None:
        super().__init__(event_shape)
        if width < 4 or width % 4 or layers < 1 or steps < 1:
            raise ValueError(
                f"width is {width}, layers {layers} and steps {steps}; expected a multiple of 4, and 1 or more of the others."
            )
        self._codebook = (codebook,)  # a tuple hides it from the state dict, where the posterior has it
        self.width, self.layers, self.steps = width, layers, steps
        with torch.random.fork_rng(devices=[]):  # these weights are only there to be replaced
            self.network = self._fresh()

    @property
    def codebook(self) -> Tensor:
        """The vectors of the codes, (M, D)."""
        return self._codebook[0].vectors.detach()

    def estimate(self, latents: Tensor, seed: int) -> None:
        """Maximum likelihood of the codes of these vectors, from fresh weights."""
        self.network = self._fresh().to(latents)
        codes = codes_of(latents[None], self.codebook)[0].flatten(1)
        maximise(self.network, self._log_prob, codes, steps=self.steps, batch_size=128)

    def log_density(self, latents: Tensor) -> Tensor:
        """Nats of the codes of these vectors, (n, *z) -> (n,)."""
        return self.log_prob_of_codes(codes_of(latents[None], self.codebook)[0])

    def log_prob_of_codes(self, codes: Tensor) -> Tensor:
        """Nats, int64 (n, *s) -> (n,)."""
        return torch.cat([self._log_prob(part) for part in torch.split(codes.reshape(len(codes), -1), 512)])

    def drawn(self, lead: Sequence[int]) -> Tensor:
        """Vectors of codes that are drawn position by position, (*lead, *z)."""
        count = torch.Size(lead).numel()
        codes = torch.zeros((count, 0), dtype=torch.int64, device=self.loc.device)
        for _ in range(self._positions):
            probs = self.network(codes)[:, -1].softmax(-1)
            codes = torch.cat([codes, chosen(probs.reshape(*lead, 1, -1)).reshape(count, 1)], 1)
        return vectors_of(codes.reshape(1, count, *self.event_shape[1:]), self.codebook).reshape(
            *lead, *self.event_shape
        )

    @property
    def _positions(self) -> int:
        return self.event_shape[1:].numel()

    def _log_prob(self, codes: Tensor) -> Tensor:
        """(n, P) -> (n,)."""
        log_probs: Tensor = self.network(codes[:, :-1]).log_softmax(-1)
        return log_probs.gather(-1, codes[..., None])[..., 0].sum(1)

    def _fresh(self) -> nn.Module:
        return CausalTransformer(len(self.codebook), self._positions, self.width, self.layers).requires_grad_(False)


class CausalTransformer(nn.Module):
    """From the codes of the first positions to the logits of each of them and of the one after.

    Arguments:
        codes: M.
        positions: P, the most there can be.
        width: W.
        layers: Blocks of attention and a network of two layers, each with a residual connection.
    """

    def __init__(self, codes: int, positions: int, width: int, layers: int) -> None:
        super().__init__()
        # the first row stands before the first position, where nothing has been seen
        self.embedding = nn.Embedding(codes + 1, width)
        self.place = nn.Parameter(0.02 * torch.randn(positions, width))
        self.blocks = nn.ModuleList([CausalBlock(width) for _ in range(layers)])
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, codes))

    def forward(self, codes: Tensor) -> Tensor:
        """int64 (n, p) with p < P -> (n, p + 1, M)."""
        shifted = torch.cat([codes.new_zeros((len(codes), 1)), codes + 1], 1)
        h = self.embedding(shifted) + self.place[: shifted.shape[1]]
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.out(h)
        return logits


class CausalBlock(nn.Module):
    """Attention to what came before, then a network for each position alone. Four heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        """(n, p, W), kept."""
        heads = self.queries_keys_values(self.before_attention(h)).unflatten(-1, (3, 4, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(query, key, value, is_causal=True)
        h = h + self.joined(attended.transpose(1, 2).flatten(2))
        out: Tensor = h + self.network(self.before_network(h))
        return out
