"""What can be said of a training that has left no model: of its data alone."""

from __future__ import annotations

from vaekit.data.batch import Dataset
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.symptoms.fit import data_symptoms
from vaekit.evaluation.symptoms.look import look
from vaekit.evaluation.units import Estimate


def data_only(dataset: Dataset, plan: Plan) -> dict[str, Estimate]:
    """The symptoms of the data."""
    return data_symptoms(dataset, look(dataset.train, plan))
