"""A number is written to the last digit that its error justifies, and stays the number that it was."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaekit.report.tables import digits, html_table, plain_table, written


@dataclass(frozen=True)
class Measured:
    value: float
    standard_error: float
    unit: str = "nats"
    n: int = 100


@pytest.mark.parametrize(
    ("value", "error", "unit", "text"),
    [
        (-24.3123, 0.42, "nats", "-24.31 ± 0.42 nats"),
        (-24.3, 0.0, "nats", "-24.3 nats"),
        (11, 0.0, "1", "11"),
        (4567.8, 123.0, "nats", "4570 ± 120 nats"),
        (99.96, 0.0996, "nats", "99.96 ± 0.10 nats"),
        (-0.001, 0.5, "nats", "0.00 ± 0.50 nats"),
        (1.23e-7, 4e-9, "nats", "1.230e-07 ± 0.040e-07 nats"),
        (3.0, 0.012, "bits/dim", "3.000 ± 0.012 bits/dim"),
        (math.nan, 0.1, "nats", "not finite"),
        (-math.inf, 0.1, "nats", "not finite"),
        (2.5, math.nan, "nats", "2.5 ± unknown nats"),
        (2.5, -1.0, "nats", "2.5 ± unknown nats"),
        (0.0, 0.0, "1", "0"),
    ],
)
def test_written(value, error, unit, text):
    assert written(Measured(value, error, unit)) == text


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
def test_what_is_written_is_the_number_within_a_twentieth_of_its_error(value, error):
    shown_value, shown_error = digits(value, error)
    if error > 1e-9 * abs(value):
        assert abs(float(shown_value) - value) <= 0.051 * error
        assert abs(float(shown_error) - error) <= 0.051 * error


@given(st.floats(-1e5, 1e5), st.floats(1e-4, 1e3))
def test_value_and_error_end_at_the_same_decimal_and_the_error_has_two_digits(value, error):
    shown_value, shown_error = digits(value, error)
    assert len(shown_value.partition(".")[2]) == len(shown_error.partition(".")[2])
    significant = shown_error.replace(".", "").strip("0" if error >= 100 else "").lstrip("0")
    assert len(significant) <= 2


@given(st.floats(), st.floats())
def test_every_pair_of_floats_is_written(value, error):
    assert all(isinstance(part, str) for part in digits(value, error))


def test_plain_table_is_aligned():
    lines = plain_table({"elbo": Measured(-24.3123, 0.42), "active_units": Measured(11, 0.0, "1", 10_000)}).split("\n")
    assert lines == [
        "name           value        unit       n",
        "elbo          -24.31 ± 0.42 nats     100",
        "active_units      11              10,000",
    ]


def test_plain_table_sends_no_control_characters_to_the_terminal():
    text = plain_table({"a\x1b[31mred\nb": Measured(1.0, 0.1, "na\x07ts")})
    assert "\x1b" not in text
    assert "\x07" not in text
    assert len(text.split("\n")) == 2


def test_html_table_shows_the_estimator_only_where_there_is_one():
    metrics = {"elbo": Measured(-24.3, 0.4), "<b>": Measured(1.0, 0.1)}
    assert "estimator" not in html_table(metrics)
    assert "K = 5" in html_table(metrics, {"elbo": "K = 5"})
    assert '<td class="name">&lt;b&gt;</td>' in html_table(metrics)
