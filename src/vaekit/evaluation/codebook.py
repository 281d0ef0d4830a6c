"""How a codebook is used by a whole data set. Over a batch these numbers would be bounded by the size of the batch."""

# N examples, P positions, M codes

from __future__ import annotations

from weakref import WeakSet

import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.distributions.quantized import Quantized
from vaekit.evaluation.passes import Plan, batches, measuring
from vaekit.evaluation.units import Estimate
from vaekit.models.vae import VAE

# asked once: after each epoch of a small model the question would take as long as two steps
_WITHOUT_CODES: WeakSet[VAE] = WeakSet()


def codes(model: VAE, split: Split, plan: Plan) -> tuple[Tensor, int] | None:
    """The codes of all positions of every example, int64 (N, P), on the CPU, and how many codes there are.

    Returns:
        None for a model whose first latent is not quantised.
    """
    if model in _WITHOUT_CODES:
        return None
    parts, size = [], 0
    with measuring(model):
        for batch in batches(split, plan):
            q = model.posterior(batch.x, batch.context)
            if not isinstance(q, Quantized):
                _WITHOUT_CODES.add(model)
                return None
            parts.append(q.codes[0].flatten(1).cpu())
            size = q.size
    return torch.cat(parts), size


def codebook_counts(codes: Tensor, size: int) -> Tensor:
    """How often each code is chosen, int64 (M,), by codes (N, P)."""
    return torch.bincount(codes.flatten(), minlength=size)


def codebook_estimates(codes: Tensor, size: int, resamples: int = 100) -> dict[str, Estimate]:
    r"""Perplexity and share of the codes that are used.

    .. math:: \text{perplexity} = \exp \Big( -\sum_m f_m \log f_m \Big)

    with f the frequency of each code over all positions of all examples: M if all are used alike, 1 if only one is.

    Arguments:
        codes: Shape (N, P).
        size: M.
        resamples: Bootstrap resamples of the examples behind the standard errors, drawn with a fixed seed. As every perplexity
            from finite data, it is a little too low; the standard error does not include that.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937
        | An Introduction to the Bootstrap (Efron and Tibshirani, 1993), chapter 6, for the standard errors
    """
    n, positions = codes.shape
    generator = torch.Generator().manual_seed(0)
    flat, numbers = codes.flatten(), []
    for _ in range(resamples):
        times = torch.bincount(torch.randint(n, (n,), generator=generator), minlength=n).double()
        weights = times.repeat_interleave(positions)
        numbers.append(_numbers(torch.bincount(flat, weights=weights, minlength=size)))
    errors = torch.stack(numbers).std(0, correction=1).tolist()
    values = codebook_numbers(codes, size)
    words = f"over all {positions} positions of every example, of {size} codes"
    return {
        "codebook_perplexity": Estimate(
            values["codebook_perplexity"], errors[0], "codes", n, f"exp of the entropy of the codes {words}"
        ),
        "codebook_used": Estimate(
            values["codebook_used"], errors[1], "1", n, f"share of the codes that are chosen at all, {words}"
        ),
    }


def codebook_numbers(codes: Tensor, size: int) -> dict[str, float]:
    """The values of `codebook_estimates` without their errors, which cost a hundred times as much."""
    perplexity, share = _numbers(codebook_counts(codes, size).double()).tolist()
    return {"codebook_perplexity": perplexity, "codebook_used": share}


def _numbers(counts: Tensor) -> Tensor:
    frequency = counts / counts.sum()
    return torch.stack([torch.special.entr(frequency).sum().exp(), (counts > 0).double().mean()])
