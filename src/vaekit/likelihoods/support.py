"""What likelihoods ask of the values in the data, said in one way."""

from __future__ import annotations

from vaekit.likelihoods.base import Values


def check_unit_interval(values: Values, name: str) -> None:
    """Raise unless all values lie in [0, 1].

    Arguments:
        values: Of the data.
        name: Of the likelihood, in a sentence.
    """
    if not (values.low >= 0.0 and values.high <= 1.0):  # so that NaN is refused as well
        remedy = f"{values.remedies['scale']}, or " if "scale" in values.remedies else ""
        raise ValueError(
            f"The {name} likelihood expects values in [0, 1], received values in [{values.low:.4g}, {values.high:.4g}]. "
            f"Write {remedy}likelihood=normal."
        )


def check_levels(values: Values, name: str, levels: int) -> None:
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
