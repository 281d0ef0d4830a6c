"""What likelihoods ask of the values in the data, said in one way."""

from __future__ import annotations

from vaekit.likelihoods.base import DataRange


def check_unit_interval(values: DataRange, name: str) -> None:
    """Raise unless all values lie in [0, 1].

    Arguments:
        values: Of the data.
        name: Of the likelihood, in a sentence.
    """
    if not (values.low >= 0.0 and values.high <= 1.0):  # so that NaN is refused as well
        remedy = f"{values.remedies['scale']}, or " if "scale" in values.remedies else ""
        fitting = "negative_binomial" if values.counts else "normal"
        raise ValueError(
            f"The {name} likelihood expects values in [0, 1], received values in [{values.low:.4g}, {values.high:.4g}]. "
            f"Write {remedy}likelihood={fitting}."
        )


def check_counts(values: DataRange, name: str) -> None:
    """Raise unless every value is a number of things that were counted.

    Numbers that were normalised or put on a logarithm scale are no counts any more, whether or not they look like it: a
    probability of them would compare with nothing.
    """
    if not values.counts:
        remedy = f"{values.remedies['counts']}, or " if "counts" in values.remedies else ""
        raise ValueError(
            f"The {name} likelihood expects counts, received values in [{values.low:.4g}, {values.high:.4g}] that are none, or "
            f"none any more. Write {remedy}model=vae, or likelihood=normal with a network that is not for counts."
        )


def check_no_counts(values: DataRange, name: str) -> None:
    """Raise for counts: a density knows neither that they are whole numbers nor that their variance grows with their mean.

    Fitted to raw counts of genes it sees a dozen of them, those with the largest variance.
    """
    if values.counts:
        remedy = f"{values.remedies['logarithm']}, or " if "logarithm" in values.remedies else ""
        raise ValueError(
            f"The {name} likelihood is a density, received raw counts in [{values.low:.4g}, {values.high:.4g}], whose variance "
            f"grows with their mean. Write {remedy}likelihood=negative_binomial."
        )


def check_levels(values: DataRange, name: str, levels: int) -> None:
    """Raise unless every value is one of 0, 1/(levels - 1), ..., 1."""
    check_unit_interval(values, name)
    expected = f"The {name} likelihood has {levels} levels and expects every value to be {_said(levels)}"
    if values.levels is None:
        raise ValueError(
            f"{expected}, received values in [{values.low:.4g}, {values.high:.4g}] that are not of this kind. "
            "Write likelihood=normal or likelihood=continuous_bernoulli."
        )
    if values.levels != levels:
        remedy = (
            "likelihood=bernoulli, or data.binarisation=none"
            if values.levels == 2
            else f"likelihood.levels={values.levels}"
        )
        raise ValueError(
            f"{expected}, received values with {values.levels} levels, each {_said(values.levels)}. Write {remedy}."
        )


def given_levels(levels: int | None) -> int:
    """`levels`, if it is a number of them.

    Raises:
        ValueError: If the data have none.
    """
    if levels is None:
        raise ValueError(
            "This likelihood is for values of a known number of levels, and those of the data are continuous. "
            "Write likelihood=normal or likelihood=continuous_bernoulli."
        )
    if levels < 2:
        raise ValueError(f"levels is {levels}, expected 2 or more: 256 for 8-bit images.")
    return levels


def _said(levels: int) -> str:
    return "0 or 1" if levels == 2 else f"one of 0, 1/{levels - 1}, ..., 1"
