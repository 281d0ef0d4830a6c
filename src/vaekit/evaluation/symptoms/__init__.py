"""What a diagnosis needs of a model and its data beyond the numbers of an evaluation: cheap, on a bounded number of examples."""

from __future__ import annotations

from vaekit.data.batch import Dataset
from vaekit.evaluation.passes import Plan, measuring
from vaekit.evaluation.symptoms.codes import code_symptoms
from vaekit.evaluation.symptoms.exchange import exchange_symptoms
from vaekit.evaluation.symptoms.fit import data_symptoms, fit_symptoms
from vaekit.evaluation.symptoms.look import look
from vaekit.evaluation.symptoms.modes import mode_symptoms
from vaekit.evaluation.symptoms.prior import prior_symptoms
from vaekit.evaluation.symptoms.weights import finite, unit_symptoms, weight_symptoms
from vaekit.evaluation.units import Estimate
from vaekit.models.vae import VAE

__all__ = ["symptoms"]


def symptoms(model: VAE, dataset: Dataset, split: str, plan: Plan, batch_size: int) -> dict[str, Estimate]:
    """Everything that the rules of the doctor ask and no evaluation measures.

    Arguments:
        model: On the device of the data.
        dataset: Its training part is looked at beside the split.
        split: Held-out examples: test or validation.
        plan: Whose seed is used.
        batch_size: Of the training: batch normalisation is asked in batches of this size.

    Returns:
        By name. What a model has not (a codebook, dropout, a prior to draw from) is not there.
    """
    held, train = look(dataset.split(split), plan), look(dataset.train, plan)
    with measuring(model):
        found = data_symptoms(dataset, train)
        found |= weight_symptoms(model)
        found |= unit_symptoms(model, train)
        if finite(model):
            found |= exchange_symptoms(model, held, plan)
            found |= fit_symptoms(model, held, train, plan)
            found |= prior_symptoms(model, train, plan)
            found |= code_symptoms(model, train)
            found |= mode_symptoms(model, train, plan, batch_size)
    return found
