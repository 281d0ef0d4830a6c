"""How a codebook is used by training examples: a small test split could not use all of a large one."""

# N examples, P positions, M codes

from __future__ import annotations

from vaekit.data.batch import Batch
from vaekit.distributions.quantized import Quantized
from vaekit.evaluation.codebook import codebook_numbers
from vaekit.evaluation.units import Estimate
from vaekit.models.vae import VAE


def code_symptoms(model: VAE, train: Batch) -> dict[str, Estimate]:
    """`codes`, `codes_used` (a number) and `codes_perplexity` over training examples, and `code_choices`, how many were made."""
    q = model.posterior(train.x, train.context)
    if not isinstance(q, Quantized):
        return {}
    chosen = q.codes[0].flatten(1).cpu()
    numbers = codebook_numbers(chosen, q.size)
    told = {
        "codes": (float(q.size), "size of the codebook"),
        "codes_used": (numbers["codebook_used"] * q.size, "codes that training examples choose"),
        "codes_perplexity": (numbers["codebook_perplexity"], "exp of the entropy of the codes of training examples"),
        "code_choices": (float(chosen.numel()), "codes that these examples could have chosen at most"),
    }
    return {name: Estimate(value, 0.0, "codes", len(chosen), words) for name, (value, words) in told.items()}
