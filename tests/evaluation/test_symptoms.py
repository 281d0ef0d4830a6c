"""What the doctor measures of a model is what its name says, on models whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vaekit.conditionals import Normal
from vaekit.data.batch import Split
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.symptoms import weights as weights_module
from vaekit.evaluation.symptoms.exchange import exchange_symptoms
from vaekit.evaluation.symptoms.fit import fit_symptoms
from vaekit.evaluation.symptoms.look import look
from vaekit.evaluation.symptoms.modes import mode_symptoms
from vaekit.evaluation.symptoms.prior import prior_symptoms
from vaekit.evaluation.symptoms.weights import finite, unit_symptoms, weight_symptoms
from vaekit.likelihoods import Normal as NormalLikelihood
from vaekit.models import VAE
from vaekit.models.hierarchy import flat
from vaekit.networks import MLP
from vaekit.priors import StandardNormal

PLAN = Plan(seed=3)
SIGMA, SCALE = 0.5, 0.1


class Coded(nn.Module):
    """The encoder of a posterior N(shift + stretch x, SCALE^2)."""

    def __init__(self, stretch: float, shift: float = 0.0) -> None:
        super().__init__()
        self.stretch, self.shift = stretch, shift

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.shift + self.stretch * x, torch.full_like(x, 2.0 * math.log(SCALE))], -1)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, z: Tensor) -> Tensor:
        return self.factor * z


def model(stretch: float = 1.0, factor: float = 1.0, shift: float = 0.0, size: int = 2) -> VAE:
    likelihood = NormalLikelihood((size,), scale=SIGMA)
    return VAE(Coded(stretch, shift), flat(Normal((size,)), StandardNormal((size,))), Times(factor), likelihood).eval()


def split(n: int = 512, size: int = 2, seed: int = 0) -> Split:
    return Split(torch.randn(n, size, generator=torch.Generator().manual_seed(seed)), ())


def test_exchanging_z_costs_what_the_distance_of_the_codes_costs() -> None:
    """x ~ N(0, I), z = x + SCALE noise: the decoder's error goes from SCALE to sqrt(2 + SCALE^2) a value."""
    batch = look(split(), PLAN)
    with torch.no_grad():
        found = exchange_symptoms(model(), batch, PLAN)["swap_z"]
        ignored = exchange_symptoms(model(factor=0.0), batch, PLAN)["swap_z"]
    wanted = 2.0 * 2.0 / (2.0 * SIGMA**2)
    assert abs(found.value - wanted) < 4.0 * found.standard_error
    assert ignored.value == 0.0


def test_examples_in_order_are_exchanged_for_others_than_their_neighbours() -> None:
    """Sorted data, as by class or by time: the next example's z is nearly one's own."""
    values = split().dense
    with torch.no_grad():
        found = exchange_symptoms(model(), look(Split(values.sort(0).values, ()), PLAN), PLAN)["swap_z"]
    assert found.value > 2.0 * 2.0 / (2.0 * SIGMA**2)


def test_residuals_and_their_ratio_to_the_variance_of_the_likelihood() -> None:
    batch = look(split(), PLAN)
    with torch.no_grad():
        found = fit_symptoms(model(), batch, batch, PLAN)
    assert abs(found["residual"].value - SCALE) < 4.0 * found["residual"].standard_error
    assert abs(found["pearson"].value - SCALE**2 / SIGMA**2) < 4.0 * found["pearson"].standard_error
    assert found["gap"].value == 0.0


def test_the_gap_is_that_of_the_losses() -> None:
    """Held-out values of twice the width, with a decoder that puts out nothing: 1/2 (4 - 1) / SIGMA^2 a value more."""
    train = look(split(), PLAN)
    held = replace(train, x=2.0 * train.x)
    with torch.no_grad():
        found = fit_symptoms(model(stretch=0.0, factor=0.0), held, train, PLAN)
    wanted = float(1.5 * train.x.square().sum(1).mean()) / SIGMA**2
    assert abs(found["gap"].value - wanted) < 1e-6 * wanted


@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0.0), (3.0, 0.0), (1.0, 2.0), (0.0, 0.0)])
def test_the_distance_of_all_codes_from_the_prior(stretch: float, shift: float) -> None:
    """q(z) is N(shift, stretch^2 + SCALE^2) here, a normal, whose KL is known."""
    with torch.no_grad():
        found = prior_symptoms(model(stretch, 1.0, shift), look(split(), PLAN), PLAN)
    variance = stretch**2 + SCALE**2
    wanted = 2.0 * 0.5 * (variance + shift**2 - 1.0 - math.log(variance))
    # 512 examples, and 4,096 draws of the prior
    assert abs(found["prior_gap"].value - wanted) < 0.05 + 0.15 * wanted
    assert abs(found["code_scale"].value - math.sqrt(variance + shift**2)) < 0.15 * math.sqrt(variance + shift**2)


def test_dimensions_without_a_kl_are_counted() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            loc = torch.cat([x[..., :1], torch.zeros_like(x[..., :1])], -1)
            logs = torch.cat([torch.full_like(x[..., :1], -4.0), torch.zeros_like(x[..., :1])], -1)
            return torch.cat([loc, logs], -1)

    made = model()
    made.encoder = Half()
    with torch.no_grad():
        assert prior_symptoms(made, look(split(), PLAN), PLAN)["unused_dimensions"].value == 0.5


def with_mlp(**settings: object) -> VAE:
    made = model(size=4)
    made.encoder = MLP((4,), (8,), hidden_dims=[20], **settings)  # type: ignore[arg-type]
    return made.eval()


def test_units_that_are_never_on_are_counted() -> None:
    made = with_mlp()
    bias = made.encoder.layers[0].bias  # type: ignore[union-attr, index]
    with torch.no_grad():
        bias.fill_(10.0)
        bias[:13] = -1e3
        found = unit_symptoms(made, look(split(size=4), PLAN))
    assert found["dead_encoder"].value == pytest.approx(13 / 20)
    assert "dead_decoder" not in found


def test_running_averages_that_were_lost_are_seen_and_left_as_they_are() -> None:
    made = with_mlp(norm="batch")
    batch = look(split(size=4), PLAN)
    for _ in range(100):
        made.train()(batch.x)
    made.eval()
    with torch.no_grad():
        in_step = mode_symptoms(made, batch, PLAN, 128)["running_cost"]
        norm = made.encoder.layers[1]  # type: ignore[union-attr, index]
        norm.running_mean.add_(3.0)
        before = norm.running_mean.clone(), int(norm.num_batches_tracked)
        lost = mode_symptoms(made, batch, PLAN, 128)["running_cost"]
    assert abs(in_step.value) < 0.2 < abs(lost.value)
    assert torch.equal(norm.running_mean, before[0])
    assert int(norm.num_batches_tracked) == before[1]
    assert not any(part.training for part in made.modules())


def test_dropout_costs_something_in_training_only() -> None:
    made = with_mlp(dropout=0.8)
    with torch.no_grad():
        found = mode_symptoms(made, look(split(size=4), PLAN), PLAN, 128)
    assert found["dropout_cost"].value > 3.0 * found["dropout_cost"].standard_error
    assert found["dropout_share"].value == 0.8


def test_a_look_is_bounded_and_spread_over_the_split() -> None:
    assert look(split(5000), PLAN).index.tolist()[::511] == [0, 4999]
    assert len(look(split(5000), PLAN).x) == 512
    assert len(look(split(3), PLAN).x) == 3
    wide = Split(torch.zeros(100, 1 << 19), ())
    assert len(look(wide, PLAN).x) == 16


def linear(values: Tensor) -> VAE:
    """A model whose only matrix of more than a few entries is that of its encoder."""
    vae = VAE.__new__(VAE)
    nn.Module.__init__(vae)
    vae.encoder = nn.Linear(*reversed(values.shape))
    vae.encoder.weight.data.copy_(values)
    return vae


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_the_size_of_the_weights_does_not_depend_on_how_many_are_looked_at_together(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "_AT_ONCE", at_once)
    values = torch.arange(1.0, 21.0).view(4, 5)
    model = linear(values)
    # the squares of 1 to 20 have the mean 143.5; the bias is no matrix
    assert weight_symptoms(model)["weight"].value == pytest.approx(143.5**0.5)
    assert weight_symptoms(model)["broken_weights"].value == 0
    assert finite(model)
    model.encoder.weight.data[3, 4], model.encoder.weight.data[0, 0] = math.inf, math.nan
    assert weight_symptoms(model)["broken_weights"].value == 2
    assert not finite(model)


def test_a_bias_that_is_not_finite_is_found() -> None:
    model = linear(torch.ones(4, 5))
    model.encoder.bias.data[2] = math.nan
    assert weight_symptoms(model)["broken_weights"].value == 0
    assert not finite(model)
