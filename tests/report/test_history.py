"""The rows of a run as panels: signs, merging, ranges."""

import math

import pytest

from vaekit.report.history import panels


def row(epoch, train=100.0, val=None, kl=20.0):
    made = {"step": 10 * epoch, "epoch": epoch, "examples": 640 * epoch}
    made |= {"train/loss": 3 * train, "train/recon_loss": train - kl, "train/kl_loss": kl, "train/elbo": -train}
    if val is not None:
        made |= {"val/loss": 3 * val, "val/recon_loss": val - kl, "val/kl_loss": kl, "val/elbo": -val}
    return made


def test_the_negative_elbo_is_not_the_weighted_loss():
    elbo, reconstruction, kl = panels([row(1), row(2, 90.0, val=95.0)])
    assert [curve.values for curve in elbo.curves] == [(100.0, 90.0), (95.0,)]
    assert reconstruction.curves[0].values == (80.0, 70.0)
    assert kl.curves[0].values == (20.0, 20.0)


def test_without_an_elbo_it_is_the_sum_of_its_parts():
    (elbo, *_) = panels([{"epoch": 1, "train/recon_loss": 80.0, "train/kl_loss": 20.0}])
    assert elbo.curves[0].values == (100.0,)


def test_an_epoch_that_was_written_twice_counts_once_and_the_later_wins():
    (elbo, *_) = panels([row(1), row(2, 90.0), row(2, 80.0), row(3, 70.0)])
    assert elbo.curves[0].times == (1.0, 2.0, 3.0)
    assert elbo.curves[0].values == (100.0, 80.0, 70.0)


def test_steps_are_the_clock_before_the_first_epoch_ends():
    (panel, *_) = panels([{"step": step, "train/recon_loss": 5.0, "train/kl_loss": 1.0} for step in (10, 20, 30)])
    assert panel.clock == "step"
    assert panel.curves[0].times == (10.0, 20.0, 30.0)


def test_not_finite_values_are_gaps_that_are_counted():
    rows = [row(epoch) for epoch in range(1, 6)]
    rows[1]["train/elbo"], rows[2]["train/elbo"], rows[3]["train/elbo"] = math.nan, math.inf, "many"
    (elbo, *_) = panels(rows)
    assert elbo.gaps() == 3
    assert math.isfinite(elbo.low)
    assert math.isfinite(elbo.high)


def test_the_first_epochs_do_not_squeeze_the_rest():
    (elbo, *_) = panels([row(epoch, 100.0 + 5000.0 * math.exp(-2 * epoch) + epoch / 10) for epoch in range(1, 31)])
    assert elbo.high < 200
    assert "cut off above" in elbo.cut()


def test_one_spike_does_not_squeeze_the_rest_but_is_told():
    rows = [row(epoch, 100.0 - epoch / 10) for epoch in range(1, 31)]
    rows[20]["train/elbo"] = -1e12
    (elbo, *_) = panels(rows)
    assert elbo.high < 200
    assert "1e+12" in elbo.cut()


def test_an_ordinary_run_is_shown_whole():
    (elbo, *_) = panels([row(epoch, 100.0 - epoch) for epoch in range(1, 31)])
    assert elbo.low < 70
    assert elbo.high > 99
    assert elbo.cut() == ""


@pytest.mark.parametrize("rows", [[], [{}], [{"epoch": 1}], [{"train/elbo": 1.0}], [{"epoch": "x", "train/elbo": 1.0}]])
def test_no_data_no_panels(rows):
    assert panels(rows) == ()


def test_the_kept_epoch_is_the_one_that_is_marked() -> None:
    """A later stage of a growing model may have larger numbers, and yet its weights are the ones that were kept."""
    rows = [
        {"epoch": epoch, "train/elbo": -value, "val/elbo": -value, "kept": kept}
        for epoch, value, kept in ((1, 30.0, 1.0), (2, 50.0, 0.0), (3, 45.0, 1.0), (4, 46.0, 0.0))
    ]
    (panel,) = panels(rows)
    assert panel.kept == 3
    (validation,) = (curve for curve in panel.curves if curve.split == "val")
    assert validation.best(panel.kept) == (3, 45.0)
    assert validation.best() == (1, 30.0)
    assert validation.best(99.0) == (1, 30.0)
