"""Bounds from thousands of draws against the exact evidence, and the passes that make them: in pieces, killed, resumed."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaekit.data.transforms import Dynamic, Scale
from vaekit.errors import ConfigError
from vaekit.evaluation import Plan, each, evidence, passes
from vaekit.evaluation.each import Ledger
from vaekit.evaluation.evidence import evidence_estimates
from vaekit.math.importance import effective_sample_size

Keep = Callable[[str, Mapping[str, Any]], Ledger]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    return lambda name, settings: Ledger(tmp_path / "evaluation", name, settings)


def test_the_effective_sample_size_is_that_of_the_definition() -> None:
    log_w = 3 * torch.randn(40, 7)
    w = np.exp(log_w.numpy())
    normalised = w / w.sum(0)
    np.testing.assert_allclose(effective_sample_size(log_w).numpy(), 1 / (normalised**2).sum(0), rtol=1e-12)
    np.testing.assert_allclose(effective_sample_size(log_w - 1e4), effective_sample_size(log_w), rtol=1e-9)
    torch.testing.assert_close(effective_sample_size(torch.full((9, 2), -5000.0)), torch.full((2,), 9.0))
    single = torch.tensor([0.0, -1e3, -1e3])[:, None]
    torch.testing.assert_close(effective_sample_size(single), torch.ones(1))


def test_bounds_of_a_known_evidence_rise_and_meet_it(inexact: Any, pca: Any, split: Any) -> None:
    """ELBO <= IWAE(K) <= IWAE(2K) <= log p(x), and 5000 draws within 0.01 nats of it."""
    x = pca.sample(100)
    evidence_ = float(pca.evidence(x).mean())
    found = evidence_estimates(inexact, split(x), Plan(), draws=(1, 2, 4, 8, 50, 500, 5000))
    bounds = [found[f"iwae_{k}"].value for k in (1, 2, 4, 8, 50, 500, 5000)]
    # nested groups of the same draws: for these it is so without any error
    for fewer, more in pairwise(bounds[:4]):
        assert more > fewer
    assert bounds == sorted(bounds)
    assert evidence_ - bounds[0] > 0.1
    # its error is a hundredth of that: by the variance of the weights it lacks about 0.0003, with a standard error of 0.002
    assert abs(bounds[-1] - evidence_) < 0.01
    assert found["iwae_5000"].n == 100
    assert found["iwae_5000"].unit == "nats"
    assert found["ess_5000"].unit == "draws"
    assert 1 < found["ess_50"].value < 50 < found["ess_5000"].value < 5000
    # what a bound is said to lack is what it lacks
    alone = evidence_estimates(inexact, split(x), Plan(), draws=(500,))["iwae_500"]
    said = float(alone.estimator.split("by about ")[1].split()[0])
    assert 0 < said < 0.02
    assert abs(alone.value + said - evidence_) < 0.005  # the bound's own noise is 0.003
    said = float(found["iwae_8"].estimator.split("by about ")[1].split()[0])
    assert abs(said - (evidence_ - bounds[3])) < 0.05 * said
    assert "mean of 100 disjoint groups" in found["iwae_50"].estimator
    assert "group" not in found["iwae_5000"].estimator


def test_the_mean_over_groups_is_as_unbiased_and_less_variable(inexact: Any, pca: Any, split: Any) -> None:
    x = pca.sample(1).expand(200, -1)  # one example four hundred times, each with draws of its own
    grouped = each.each(inexact, split(x), Plan(samples=60, seed=1), evidence._Weigh((5, 60)))["iwae_5"]
    alone = each.each(inexact, split(x), Plan(samples=5, seed=2), evidence._Weigh((5,)))["iwae_5"]
    difference = float(grouped.mean() - alone.mean())
    error = math.sqrt(float(grouped.var() + alone.var()) / 200)
    assert abs(difference) < 4 * error  # false alarm: 6e-5
    assert 6 < float(alone.var() / grouped.var()) < 24  # twelve groups


@pytest.mark.parametrize("exactly", [1, 7, 300])
def test_with_the_exact_posterior_every_weight_is_the_evidence(exactly: int, exact: Any, pca: Any, split: Any) -> None:
    x = pca.sample(20)
    found = evidence_estimates(exact, split(x), Plan(), draws=(exactly, 300))
    assert found[f"iwae_{exactly}"].value == pytest.approx(float(pca.evidence(x).mean()), rel=1e-10)
    assert found["ess_300"].value == pytest.approx(300, rel=1e-10)
    assert found["ess_300"].estimator.endswith(": 100 % of them; one example in twenty has 300 or fewer")
    assert "more draws change nothing" in found["iwae_300"].estimator


def test_effective_draws_are_said_in_plain_numbers() -> None:
    values = torch.full((40,), 4321.0, dtype=torch.float64)
    assert evidence._effective(values, 5000, 5000).estimator.endswith(
        ": 86 % of them; one example in twenty has 4,321 or fewer"
    )


@pytest.mark.parametrize("values", [35, 150, 10**6])
def test_pieces_that_do_not_divide_the_draws_change_nothing(
    values: int, tiny_vae: Any, split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws come in pieces of 7, 30 (of 103) and all at once: the same draws, all of them, divided by their number."""
    x = (torch.rand(6, 5) < 0.5).double()
    draws = (1, 10, 103)
    wanted = evidence_estimates(tiny_vae, split(x), Plan(batch_size=1), draws=draws)
    log_w = torch.cat([t.log_w for t in passes.traces(tiny_vae.eval(), whole(split(x)), Plan(samples=103))]).detach()
    by_hand = log_w.double().numpy()
    assert wanted["iwae_103"].value == pytest.approx(np.log(np.exp(by_hand).mean(0)).mean(), rel=1e-12)
    assert wanted["iwae_10"].value == pytest.approx(
        np.log(np.exp(by_hand[:100]).reshape(10, 10, 6).mean(1)).mean(), rel=1e-12
    )
    assert wanted["iwae_1"].value == pytest.approx(by_hand.mean(), rel=1e-12)
    monkeypatch.setattr(passes, "_VALUES", values)
    found = evidence_estimates(tiny_vae, split(x), Plan(batch_size=1), draws=draws)
    for name, estimate in wanted.items():
        assert found[name].value == pytest.approx(estimate.value, rel=1e-12), name


def whole(data: Any) -> Any:
    return passes.examples(data, torch.arange(len(data)), Plan())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_batch_size_changes_nothing(dtype: torch.dtype, tolerance: float, tiny_vae: Any) -> None:
    from vaekit.data.batch import Split

    stored = torch.rand(53, 5, generator=torch.Generator().manual_seed(2))
    data, model = Split(stored, (Scale(1.0, dtype), Dynamic())), tiny_vae.to(dtype)
    first, *others = (
        evidence_estimates(model, data, Plan(batch_size=size), draws=(1, 20, 41)) for size in (53, 1, 7, 50)
    )
    for other in others:
        assert other.keys() == first.keys()
        for name, estimate in first.items():
            assert other[name].value == pytest.approx(estimate.value, rel=tolerance), name
            assert other[name].standard_error == pytest.approx(estimate.standard_error, rel=10 * tolerance), name


def test_a_seed_gives_the_same_numbers_and_another_does_not(tiny_vae: Any, split: Any) -> None:
    data = split((torch.rand(50, 5) < 0.5).double())
    first, again, other = (evidence_estimates(tiny_vae, data, Plan(seed=s), draws=(9,)) for s in (1, 1, 2))
    assert first == again
    assert first["iwae_9"].value != other["iwae_9"].value


def test_a_loose_bound_is_called_loose(linear_gaussian: Any, pca: Any, split: Any) -> None:
    far = linear_gaussian(pca.weight, pca.bias, pca.sigma, shift=2.5, widen=0.3)
    x = pca.sample(40)
    found = evidence_estimates(far, split(x), Plan(), draws=(50,))
    assert float(pca.evidence(x).mean()) - found["iwae_50"].value > 1.0
    assert "a loose one" in found["iwae_50"].estimator


@pytest.mark.parametrize("draws", [(0,), (), (5, -1), (2_000_000,)])
def test_numbers_of_draws_that_cannot_be(draws: tuple[int, ...], tiny_vae: Any, split: Any) -> None:
    with pytest.raises(ConfigError, match="expected numbers from 1 to 1,000,000"):
        evidence_estimates(tiny_vae, split(torch.zeros(3, 5)), Plan(), draws=draws)


def test_a_model_without_a_density_is_refused(split: Any) -> None:
    from vaekit.conditionals import Delta
    from vaekit.likelihoods import Normal
    from vaekit.models import flat
    from vaekit.networks import MLP
    from vaekit.priors import FittedNormal

    model = flat(lambda **shapes: MLP(**shapes, hidden_dims=()), lambda **shapes: MLP(**shapes, hidden_dims=()),
                 Delta((2,)), FittedNormal((2,)), Normal((5,)))  # fmt: skip
    with pytest.raises(ConfigError, match="posterior=normal"):
        evidence_estimates(model, split(torch.zeros(3, 5)), Plan())


class Stop(Exception):  # noqa: N818
    """In the place of a kill."""


@pytest.mark.parametrize("after", [0, 1, 4, 10])
def test_interrupted_and_resumed_is_the_same_bit_for_bit(after: int, tiny_vae: Any, split: Any, keep: Keep) -> None:
    data, plan = split((torch.rand(53, 5) < 0.5).double()), Plan(batch_size=5)
    wanted = evidence_estimates(tiny_vae, data, plan, draws=(1, 11), keep=None)
    seen: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 5 * after and not seen.count((done, total)) > 1:
            raise Stop

    with pytest.raises(Stop):
        evidence_estimates(tiny_vae, data, plan, draws=(1, 11), keep=keep, tell=tell)
    seen.append((5 * after, 53))
    first = len(seen)
    assert evidence_estimates(tiny_vae, data, plan, draws=(1, 11), keep=keep, tell=tell) == wanted
    assert seen[first] == (5 * after, 53)
    assert seen[-1] == (53, 53)
    assert evidence_estimates(tiny_vae, data, plan, draws=(1, 11), keep=keep, tell=tell) == wanted
    assert seen[-1] == seen[-2] == (53, 53)  # nothing was left to do
    assert evidence_estimates(tiny_vae, data, plan, draws=(1, 12), keep=keep)["iwae_1"] != wanted["iwae_1"]


def test_killed_and_resumed_is_the_same_bit_for_bit(
    tiny_vae: Any, split: Any, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at five moments, in processes of their own."""
    data, plan = split((torch.rand(200, 5) < 0.5).double()), Plan(batch_size=2)
    wanted = evidence_estimates(tiny_vae, data, plan, draws=(3, 31))
    monkeypatch.setattr(each, "_SECONDS_BETWEEN_WRITES", 0.0)
    for _ in range(5):
        process = os.fork()
        if not process:
            try:
                evidence_estimates(
                    tiny_vae, data, plan, draws=(3, 31), keep=keep, tell=lambda done, total: time.sleep(0.002)
                )
            finally:
                os._exit(0)
        before = sum(path.stat().st_size for path in tmp_path.glob("evaluation/*.safetensors"))
        end = time.monotonic() + 20
        while sum(path.stat().st_size for path in tmp_path.glob("evaluation/*.safetensors")) <= before:
            assert time.monotonic() < end
            time.sleep(0.001)
        time.sleep(0.02)
        os.kill(process, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    begun: list[int] = []
    found = evidence_estimates(
        tiny_vae, data, plan, draws=(3, 31), keep=keep, tell=lambda done, total: begun.append(done)
    )
    assert 0 < begun[0] < 200
    assert found == wanted


def test_a_damaged_ledger_is_said_and_measured_anew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "bounds", {"seed": 1})
    assert ledger.read() == {}
    columns = {"a": torch.randn(9, dtype=torch.float64), "b": torch.randn(9, 2, dtype=torch.float64)}
    (tmp_path / f".{ledger.path.name}.4194305-1.draft").write_bytes(b"half")
    ledger.write(columns)
    content = ledger.path.read_bytes()
    for name, column in Ledger(tmp_path, "bounds", {"seed": 1}).read().items():
        assert torch.equal(column, columns[name])
    assert [path.name for path in tmp_path.iterdir()] == [ledger.path.name]
    for place in range(0, len(content), 31):
        flipped = bytearray(content)
        flipped[place] ^= 4
        ledger.path.write_bytes(flipped)
        with pytest.warns(UserWarning, match="is damaged .* measured anew"):
            assert ledger.read() == {}
    for cut in (b"", content[:20], content[:-1], content + b"x"):
        ledger.path.write_bytes(cut)
        with pytest.warns(UserWarning, match="is damaged"):
            assert ledger.read() == {}
    assert Ledger(tmp_path, "bounds", {"seed": 2}).path != ledger.path


def test_a_folder_that_cannot_be_written_costs_the_resuming_only(
    tiny_vae: Any, split: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evaluation").write_text("a file stands where the folder should be")
    monkeypatch.setattr(each, "_SECONDS_BETWEEN_WRITES", 0.0)
    data = split((torch.rand(8, 5) < 0.5).double())
    wanted = evidence_estimates(tiny_vae, data, Plan(batch_size=2), draws=(3,))
    with pytest.warns(UserWarning, match="cannot be written") as said:
        found = evidence_estimates(
            tiny_vae, data, Plan(batch_size=2), draws=(3,),
            keep=lambda name, settings: Ledger(tmp_path / "evaluation", name, settings),
        )  # fmt: skip
    assert found == wanted
    assert len(said) == 1


def test_a_ledger_of_more_examples_than_there_are_is_not_used(tiny_vae: Any, split: Any, keep: Keep) -> None:
    x = (torch.rand(9, 5) < 0.5).double()
    evidence_estimates(tiny_vae, split(x), Plan(), draws=(3,), keep=keep)
    found = evidence_estimates(tiny_vae, split(x[:4]), Plan(), draws=(3,), keep=keep)
    assert found == evidence_estimates(tiny_vae, split(x[:4]), Plan(), draws=(3,))
