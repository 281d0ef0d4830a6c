"""Signal and noise of gradients: where both are known, where theory says how they grow, and where there is nothing to measure.

The model of Rainforth et al. (2018), section 4: z ~ N(mu, I), x ~ N(z, I), q(z|x) = N(A x + b, 2/3 I), in 20 dimensions.
"""

# n draws of a gradient, P parameters, K samples, B batch

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, OneHotCategorical
from torch.distributions import Normal as TorchNormal

from vaekit.conditionals import Conditional, Delta, RelaxedCategorical
from vaekit.conditionals import Normal as DiagonalPosterior
from vaekit.data.batch import Split
from vaekit.errors import ConfigError
from vaekit.evaluation import gradients
from vaekit.evaluation.each import Ledger
from vaekit.evaluation.gradients import (
    ESTIMATORS,
    Signal,
    floor,
    gradient_estimates,
    gradient_signals,
    parameters_of,
    possible,
    slopes,
)
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.units import Estimate
from vaekit.likelihoods import Normal
from vaekit.models import VAE, Level, TopDown, flat
from vaekit.models.level import DrawOnly, FeaturesOnly
from vaekit.networks import MLP
from vaekit.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("float64")

D = 20


class Around(Conditional):
    """N(context, scale^2 I), or around a learned mean where there is no context."""

    def __init__(self, scale: float, mean: Tensor | None = None) -> None:
        super().__init__((D,))
        self.scale = scale
        self.mean = None if mean is None else nn.Parameter(mean)

    @property
    def context_shape(self) -> torch.Size:
        return torch.Size([D if self.mean is None else 0])

    def forward(self, context: Tensor, model: Any) -> Distribution:
        loc = context if self.mean is None else self.mean.expand(*context.shape[:2], D)
        return Independent(TorchNormal(loc, torch.full_like(loc, self.scale)), 1)


def toy(off: float) -> tuple[VAE, Split]:
    """At the best parameters, b and mu moved by N(0, off^2); an A moved as far would move q by seven times as much."""
    generator = torch.Generator().manual_seed(1)
    mu = torch.randn(D, generator=generator)
    x = mu + math.sqrt(2.0) * torch.randn(64, D, generator=generator)
    encoder = nn.Linear(D, D)
    encoder.weight.data = 0.5 * torch.eye(D)
    encoder.bias.data = 0.5 * mu + off * torch.randn(D, generator=generator)
    prior = Around(1.0, mu + off * torch.randn(D, generator=generator))
    hierarchy = TopDown([Level("z", Around(math.sqrt(2.0 / 3.0)), prior, FeaturesOnly(), DrawOnly())])
    return VAE(encoder, hierarchy, nn.Identity(), Normal((D,), scale=1.0)), Split(x, ())


def within(slope: Estimate, expected: float, allowed: float) -> bool:
    """Within 4 standard errors, and what finite K may add."""
    return abs(slope.value - expected) < 4 * slope.standard_error + allowed


def test_the_encoders_signal_fades_under_importance_weighting_and_the_decoders_grows() -> None:
    """Rainforth et al., theorem 1: as K^(-1/2) and K^(+1/2). A is not learned here.

    From K = 4 on, where the next order is small: 4 standard errors, and 0.1 for it.
    """
    model, split = toy(0.1)
    model.encoder.weight.requires_grad_(False)
    found = slopes(gradient_signals(model, split, Plan(), ks=(4, 8, 16, 32), estimators=("iwae",), draws=100, count=48))
    assert within(found["iwae", "encoder"], -0.5, 0.1), found["iwae", "encoder"]
    assert found["iwae", "encoder"].value + 4 * found["iwae", "encoder"].standard_error < 0.0
    assert within(found["iwae", "decoder"], 0.5, 0.1), found["iwae", "decoder"]


def test_doubly_reparameterised_both_grow() -> None:
    """Tucker et al.: as K^(+1/2), which needs a larger K to be seen."""
    model, split = toy(0.05)
    signals = gradient_signals(model, split, Plan(), ks=(16, 128), estimators=("iwae", "dreg"), draws=30, count=16)
    found = slopes(signals)
    for side in ("encoder", "decoder"):
        assert within(found["dreg", side], 0.5, 0.1), (side, found["dreg", side])
    last = {one.estimator: one for one in signals if (one.samples, one.side) == (128, "encoder")}
    assert last["dreg"].snr.value > 5 * last["iwae"].snr.value
    assert last["dreg"].dsnr.value > 5 * last["iwae"].dsnr.value


@pytest.mark.slow
def test_the_ratios_grow_as_theory_says_over_three_decades() -> None:
    model, split = toy(0.05)
    found = slopes(
        gradient_signals(model, split, Plan(), ks=(1, 8, 64, 512), estimators=("iwae", "dreg"), draws=1000, count=16)
    )
    assert within(found["iwae", "encoder"], -0.5, 0.05), found
    for name, side in (("iwae", "decoder"), ("dreg", "encoder"), ("dreg", "decoder")):
        assert within(found[name, side], 0.5, 0.05), (name, side, found[name, side])


def test_the_ratio_of_a_gradient_that_is_known() -> None:
    """Of the mean mu of the prior under the ELBO: mean mu - A x - b, variance 2/3 / K, normal.

    SNR = |mean| sqrt(3 K / 2), a mean over parameters; the error says how far off it may be.
    """
    model, split = toy(1.0)
    (encoder, decoder) = gradient_signals(model, split, Plan(), ks=(4,), estimators=("mc",), draws=200, count=1)
    assert (encoder.side, decoder.side) == ("encoder", "decoder")
    with torch.no_grad():
        mean = model.hierarchy.levels[0].prior.mean - model.encoder(split.batch(torch.zeros(1, dtype=torch.int64)).x)[0]
    truth = float(mean.abs().mean()) * math.sqrt(6.0)
    # the standard deviation of 200 draws is too small by 1/800
    assert abs(decoder.snr.value - truth) < 4 * decoder.snr.standard_error
    assert 0 < decoder.snr.standard_error < 0.05 * truth
    along, variance = float(mean.norm()), 2.0 / 3.0 / 4.0
    # across it there are 19 normal directions: the length of 19 of them has a mean near sqrt(18.5)
    assert decoder.dsnr.value == pytest.approx(along / math.sqrt(variance) * 0.236, rel=0.05)
    assert decoder.snr.n == 200
    assert "K = 4" in decoder.snr.estimator
    assert "20 parameters of the decoder" in decoder.snr.estimator


def test_errors_are_those_of_repetitions() -> None:
    """The spread of 100 measurements of gradients that are made up, against the error that each of them states."""
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(30, generator=generator, dtype=torch.float64)
    found = np.array(
        [
            gradients._measured(signal + torch.randn(60, 30, generator=generator, dtype=torch.float64), 0)[0].tolist()
            for _ in range(100)
        ]
    )
    for place in (0, 2, 4):
        # a spread of 100 has an error of 7 percent
        assert 0.7 < found[:, place].std(ddof=1) / found[:, place + 1].mean() < 1.35, place
    # the root of the mean square is that of the signal, without the noise: within 4 standard errors of 100
    truth = float(signal.square().mean().sqrt())
    assert abs(found[:, 4].mean() - truth) < 4 * found[:, 4].std(ddof=1) / 10


def test_noise_without_a_signal_shows_the_floor() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(100, 5000, generator=generator, dtype=torch.float64)
    snr, _, dsnr, _, rms, error = gradients._measured(drawn, 0)[0].tolist()
    # 5000 squares of variance 2/n^2 each, and the root of what is left of them
    assert rms**2 < 4 * math.sqrt(2 / 5000) / 100
    assert rms < 4 * error
    assert snr == pytest.approx(floor(100), rel=0.05)
    # a direction of noise among 5000: |N(0, 1)| against sqrt(5000)
    assert dsnr == pytest.approx(math.sqrt(2 / math.pi / 5000), rel=0.35)


def test_the_ratios_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(40, 3, generator=generator, dtype=torch.float64) + torch.tensor([1.0, 0.0, -4.0])
    drawn = torch.cat([drawn, torch.zeros(40, 1, dtype=torch.float64)], 1)  # a dead unit counts for nothing
    snr, snr_error, dsnr, _, rms, _ = gradients._measured(drawn, 0)[0].tolist()
    x = drawn.numpy()[:, :3]
    assert snr == pytest.approx((np.abs(x.mean(0)) / x.std(0, ddof=1)).mean(), rel=1e-12)
    squares = (x.mean(0) / x.std(0, ddof=1)) ** 2
    assert rms == pytest.approx(math.sqrt(np.mean(squares * 37 / 39 - 1 / 40)), rel=1e-12)
    ratios = []
    for i in range(40):
        u = np.delete(x, i, 0).mean(0)
        along = x[i] @ u / np.linalg.norm(u)
        ratios.append(abs(along) / math.sqrt(x[i] @ x[i] - along**2))
    assert dsnr == pytest.approx(np.mean(ratios), rel=1e-9)
    kept = gradients.left_out(40, 20, 0)
    without = [(np.abs(x[k].mean(0)) / x[k].std(0, ddof=1)).mean() for k in (rows.numpy() for rows in kept)]
    assert snr_error == pytest.approx(math.sqrt(19 / 20 * ((without - np.mean(without)) ** 2).sum()), rel=1e-9)


def signal(k: int, value: float, error: float, n: int = 200) -> Signal:
    estimate = Estimate(value, error, "1", n, "")
    return Signal("iwae", "encoder", k, estimate, estimate, estimate)


def test_a_slope_by_hand() -> None:
    exact = slopes([signal(k, 9.0 * k**-0.5, 0.01) for k in (1, 4, 16)])["iwae", "encoder"]
    assert exact.value == pytest.approx(-0.5, abs=1e-12)
    pair = slopes([signal(4, 4.0, 0.4), signal(16, 2.0, 0.1)])["iwae", "encoder"]
    assert pair.value == pytest.approx(-0.5)
    assert pair.standard_error == pytest.approx(math.hypot(0.1, 0.05) / math.log(4))
    # points off the line by ten errors make the error larger than they say
    bent = slopes([signal(k, v, 0.001 * v) for k, v in ((4, 1.0), (16, 2.2), (64, 4.0))])["iwae", "encoder"]
    assert bent.standard_error > 10 * 0.001 / math.log(16)


def test_slopes_leave_out_one_draw_and_what_noise_could_be() -> None:
    known = slopes([signal(1, 99.0, 1.0), signal(4, 4.0, 0.1), signal(16, 2.0, 0.1)])["iwae", "encoder"]
    assert known.value == pytest.approx(-0.5)
    lost = [signal(4, 4.0, 0.1), signal(16, 2.0, 0.1), signal(64, 0.29, 0.1)]
    assert slopes(lost)["iwae", "encoder"].value == pytest.approx(-0.5)
    assert slopes([signal(4, math.inf, 0.1), signal(16, 2.0, 0.1)]) == {}


def network(posterior: Conditional | None = None, prior: Conditional | None = None) -> tuple[VAE, Split]:
    made = flat(
        encoder=lambda **shapes: MLP(**shapes, hidden_dims=(5,), activation="tanh", dropout=0.5),
        decoder=lambda **shapes: MLP(**shapes, hidden_dims=(5,), activation="tanh"),
        posterior=posterior or DiagonalPosterior((2,)),
        prior=prior or StandardNormal((2,)),
        likelihood=Normal((4,), scale=1.0),
    )
    return made, Split(torch.randn(12, 4), ())


def numbers(signals: Sequence[Signal]) -> list[float]:
    return [number for one in signals for number in (one.snr.value, one.snr.standard_error, one.dsnr.value)]


def test_the_same_seed_gives_the_same_numbers_whatever_else_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = network()
    measure = {"draws": 20, "count": 6}
    all_ks = gradient_signals(model.train(), split, Plan(), ks=(8, 1, 2), estimators=tuple(ESTIMATORS), **measure)
    assert model.training
    assert [one.samples for one in all_ks[:: 2 * len(ESTIMATORS)]] == [1, 2, 8]
    alone = gradient_signals(model, split, Plan(), ks=(2,), estimators=("dreg",), **measure)
    same = [one for one in all_ks if (one.samples, one.estimator) == (2, "dreg")]
    assert numbers(alone) == pytest.approx(numbers(same), rel=1e-9)
    other = gradient_signals(model, split, Plan(seed=1), ks=(2,), estimators=("dreg",), **measure)
    assert numbers(other) != pytest.approx(numbers(alone), rel=1e-3)
    monkeypatch.setattr(gradients, "_VALUES", 3 * 8 * 4)  # three examples at a time for K = 8
    pieces = gradient_signals(model, split, Plan(), ks=(8,), estimators=tuple(ESTIMATORS), **measure)
    assert numbers(pieces) == pytest.approx(numbers([one for one in all_ks if one.samples == 8]), rel=1e-8)


def test_of_many_parameters_some_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = network()
    monkeypatch.setattr(gradients, "_FOLLOWED", 7)
    encoder, decoder = gradient_signals(model, split, Plan(), ks=(2,), estimators=("iwae",), draws=20)
    assert "7 parameters chosen from 49 of the encoder" in encoder.snr.estimator
    assert "7 parameters chosen from 39 of the decoder" in decoder.snr.estimator
    monkeypatch.setattr(gradients, "_KEPT", 5 * 20)
    fewer, _ = gradient_signals(model, split, Plan(), ks=(2,), estimators=("iwae",), draws=20)
    assert "5 parameters chosen from 49 of the encoder" in fewer.snr.estimator


def test_every_parameter_is_on_one_side() -> None:
    model, _ = network(prior=None)
    sides = parameters_of(model)
    assert {id(p) for p in sides["encoder"]} == {id(p) for p in model.encoder.parameters()}
    assert {id(p) for p in sides["decoder"]} == {id(p) for p in model.decoder.parameters()}
    learned, _ = toy(0.1)
    assert [p.shape for p in parameters_of(learned)["decoder"]] == [(D,)]


class Kept(Ledger):
    """In memory."""

    books: dict[str, dict[str, Tensor]]

    def __init__(self, books: dict[str, dict[str, Tensor]], key: str) -> None:
        self.books, self.key = books, key

    def read(self) -> dict[str, Tensor]:
        return self.books.get(self.key, {})

    def write(self, columns: Any) -> None:
        self.books[self.key] = dict(columns)


def test_what_was_measured_is_not_measured_again() -> None:
    model, split = network()
    books: dict[str, dict[str, Tensor]] = {}
    told: list[tuple[int, int]] = []

    def keep(name: str, settings: Any) -> Ledger:
        return Kept(books, f"{name} {settings['samples']}")

    measure: dict[str, Any] = {"estimators": ("iwae",), "draws": 20, "count": 2}
    first = gradient_estimates(model, split, Plan(), ks=(1, 2), keep=keep, **measure)
    assert sorted(books) == ["gradients 1", "gradients 2"]
    again = gradient_estimates(
        model, split, Plan(), ks=(1, 2, 3), keep=keep, tell=lambda *done: told.append(done), **measure
    )
    assert told == [(number, 60) for number in range(41, 61)]
    for name, value in first.items():
        if "slope" not in name:
            assert again[name] == value
    assert set(first) >= {"snr_iwae_encoder_1", "dsnr_iwae_decoder_2"}


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "estimator": ({"estimators": ("dregs",)}, r"no estimator 'dregs'; closest: dreg"),
    "no estimator": ({"estimators": ()}, "nothing to measure: expected estimators such as elbo,iwae"),
    "k": ({"ks": (0,)}, r"K = 0: .* K from 1 to 10,000"),
    "large k": ({"ks": (10_001,)}, "K from 1 to 10,000"),
    "draws": ({"draws": 19}, "19 draws of 8 examples: expected 20 draws or more"),
    "examples": ({"count": 0}, "of 1 example or more"),
}


@pytest.mark.parametrize(("settings", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_said_in_a_line(settings: dict[str, Any], said: str) -> None:
    model, split = network()
    with pytest.raises(ConfigError, match=said) as caught:
        gradient_signals(model, split, Plan(), **settings)
    assert "\n" not in str(caught.value)


class Uniform(Conditional):
    """One of three categories, each as likely as another, of two variables."""

    @property
    def context_shape(self) -> torch.Size:
        return torch.Size([0])

    def forward(self, context: Tensor, model: Any) -> Distribution:
        return Independent(OneHotCategorical(logits=torch.zeros(*context.shape[:2], 2, 3)), 1)


WITHOUT: dict[str, tuple[Callable[[], tuple[VAE, Split]], str]] = {
    "an autoencoder": (lambda: network(Delta((2,))), "there is no bound to differentiate"),
    "choices": (lambda: network(RelaxedCategorical((2, 3)), Uniform((2, 3))), "are choices, which have no gradient"),
}


@pytest.mark.parametrize(("make", "said"), WITHOUT.values(), ids=WITHOUT.keys())
def test_models_without_gradients_are_refused(make: Callable[[], tuple[VAE, Split]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        gradient_signals(*make(), Plan(), estimators=("iwae",))


def test_latents_drawn_given_others_have_the_estimators_that_are_known(multivariate: Any) -> None:
    class Both(nn.Module):
        def forward(self, features: Tensor, state: Tensor) -> Tensor:
            return features[..., :2] + state

    levels = [
        Level("z1", DiagonalPosterior((1,)), StandardNormal((1,)), FeaturesOnly(), DrawOnly()),
        Level("z2", DiagonalPosterior((1,)), StandardNormal((1,)), Both(), DrawOnly()),
    ]
    model = VAE(nn.Linear(4, 2), TopDown(levels), nn.Linear(1, 4), Normal((4,), scale=1.0))
    split = Split(torch.randn(5, 4), ())
    reasons = possible(model, split, Plan(), tuple(ESTIMATORS))
    assert set(reasons) == {"stl", "dreg"}
    assert "'z2' is drawn given another one" in reasons["dreg"]
    assert len(gradient_signals(model, split, Plan(), ks=(2,), estimators=("elbo", "mc", "iwae"), draws=20)) == 6
    with pytest.raises(ConfigError, match="dreg: The latent 'z2' is drawn given another"):
        gradient_signals(model, split, Plan(), ks=(2,), draws=20, estimators=("iwae", "dreg"))


def test_dropout_and_order_play_no_part() -> None:
    """In evaluation mode nothing but the latents is random: with the path derivative at the posterior nothing is."""
    model, split = network()
    twice = [
        gradient_signals(model.train(), replace(split), Plan(), ks=(3,), estimators=("elbo",), draws=20, count=4)
        for _ in range(2)
    ]
    assert numbers(twice[0]) == numbers(twice[1])
