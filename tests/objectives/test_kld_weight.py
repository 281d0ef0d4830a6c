"""A KL weight beside a mean squared error is a beta: the gradients agree, and what it cannot be is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as TorchNormal
from torch.distributions import kl_divergence

from vaekit import api
from vaekit.compose import compose, data_node, resolve
from vaekit.conditionals import Normal as NormalPosterior
from vaekit.errors import ConfigError
from vaekit.evaluation.passes import Plan
from vaekit.likelihoods import Normal
from vaekit.models import VAE, flat
from vaekit.networks import wide_decoder, wide_encoder
from vaekit.objectives import KL, Objective, Reconstruction, equivalent_beta
from vaekit.priors import StandardNormal
from vaekit.recipe import make_session, open_data, validate
from vaekit.recipe import resolved as config_of

FEATURES, LATENTS = 23, 3


def model() -> VAE:
    def encoder(in_shape: Any, out_shape: Any) -> Any:
        return wide_encoder(in_shape, out_shape, (7, 5), "gelu")

    def decoder(in_shape: Any, out_shape: Any) -> Any:
        return wide_decoder(in_shape, out_shape, (7, 5), "gelu")

    prior = StandardNormal((LATENTS,))
    return flat(encoder, decoder, NormalPosterior((LATENTS,)), prior, Normal((FEATURES,), scale=1.0))


def gradients(made: VAE, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(made.parameters()), retain_graph=True))


@pytest.fixture
def _double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.25, 3.0])
@pytest.mark.usefixtures("_double")
def test_gradients_are_half_the_features_times_those_of_the_mean(weight: float) -> None:
    """The other loss as scripts write it: from the encoder's output, without a likelihood and without our KL."""
    made, x = model(), torch.randn(6, FEATURES)
    trace = made(x)
    (latent,) = trace.latents
    q = latent.q.base_dist
    mean_squared = (trace.px.mean[0] - x).square().mean(1)
    kl = kl_divergence(TorchNormal(q.loc, q.scale), TorchNormal(0.0, 1.0)).sum(-1)[0]
    theirs = gradients(made, (mean_squared + weight * kl).mean())

    beta = equivalent_beta(weight, FEATURES)
    objective = Objective({"recon": Reconstruction(), "kl": KL()}, {"kl": beta})
    ours = gradients(made, objective(trace).total)
    assert any(gradient.abs().max() > 1e-3 for gradient in ours)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, FEATURES / 2 * their, rtol=1e-10, atol=1e-12)


def test_the_beta_of_a_thousandth_over_28231_features() -> None:
    assert equivalent_beta(1e-3, 28_231) == pytest.approx(14.1, abs=0.05)


def resolved(*overrides: str, features: int = 64) -> dict[str, Any]:
    return resolve(compose(list(overrides)), (features,))


@pytest.mark.parametrize(("weight", "features"), [(0, 64), (1e-3, 28_231), (1, 2), (3.5e-7, 1), (200.0, 10**6)])
def test_it_becomes_the_weight_of_the_kl(weight: float, features: int) -> None:
    config = resolved("likelihood=normal", f"kld_weight={weight!r}", features=features)
    assert config["beta"] == config["objective"]["weights"]["kl"] == pytest.approx(weight * features / 2)
    assert config["kld_weight"] == weight


@pytest.mark.parametrize("objective", ["elbo", "elbo objective.terms.kl.kind=objectives.MonteCarloKL"])
def test_objectives_that_it_is_defined_for(objective: str) -> None:
    words = f"objective={objective}".split()
    assert resolved("likelihood=normal", "kld_weight=1", *words)["beta"] == 32.0


BESIDE = "kld_weight=0.1 stands beside a mean squared error, the loss of likelihood=normal with sigma=1"
OTHER = "kld_weight=0.1 weighs the KL beside the reconstruction, both of them sums, and this objective is another"
REFUSED = {
    "likelihood=bernoulli": BESIDE,
    "likelihood=normal_learned": BESIDE,
    "likelihood=normal_optimal": BESIDE,
    "likelihood=normal_pixel": BESIDE,
    "likelihood=laplace": BESIDE,
    "likelihood=squared_error": BESIDE,
    "likelihood=normal sigma=0.5": "likelihoods.Normal with scale 0.5: write likelihood=normal sigma=1",
    "objective.reduction.kind=objectives.MeanReduction": OTHER,
    "objective.weights.recon=2": OTHER,
    "objective.weights.kl=2": OTHER,
    "objective=iwae": OTHER,
    "objective=reconstruction": OTHER,
    "objective=capacity": OTHER,
    "objective=geco objective.terms.recon.tolerance=3": OTHER,
    "objective.terms.kl={kind: objectives.FreeBits, term: {kind: objectives.KL}}": OTHER,
    "objective.terms.own={kind: objectives.LatentL2}": OTHER,
    "beta=4": "beta=4 and kld_weight=0.1 both weigh the KL: leave one out; kld_weight=null takes back that of a model",
    "beta=1": "beta=1 and kld_weight=0.1 both weigh the KL",
    "model=beta_vae": "beta=4.0 and kld_weight=0.1 both weigh the KL",
    "kld_weight=-1": "kld_weight is -1, expected a number of 0 or more, or null",
    "kld_weight=true": "kld_weight is True, expected a number",
    "kld_weight=much": "kld_weight is 'much', expected a number",
    "kld_weight=inf": "kld_weight is inf, expected a number",
    "kld_weight=nan": "kld_weight is nan, expected a number",
    "kld_weight=${nothing}": "nothing",
    "kld_weight=[1,2]": "kld_weight is [1, 2], expected a number",
    "kld_weight={kind: schedules.Constant, value: 1.0}": "expected a number of 0 or more",
}


@pytest.mark.parametrize(("words", "said"), REFUSED.items(), ids=REFUSED.keys())
def test_what_it_cannot_stand_beside_is_refused_in_one_line(words: str, said: str) -> None:
    given = [words] if "{" in words else words.split()
    with pytest.raises(ConfigError) as caught:
        resolved("kld_weight=0.1", *([] if "likelihood=" in words else ["likelihood=normal"]), *given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_s_weight_can_be_taken_back() -> None:
    assert resolved("model=vae")["beta"] == pytest.approx(1e-5 * 32)
    assert resolved("model=vae", "kld_weight=null")["beta"] == 1.0
    assert resolved("model=vae", "kld_weight=null", "beta=4", "likelihood=bernoulli")["beta"] == 4


def test_it_is_printed_stored_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "draw_gallery", lambda *_, **__: None)
    monkeypatch.setattr(api, "write_page", lambda *_: None)
    said: list[str] = []
    small = ("hidden_dims=[8]", "latent_dim=2", "training.epochs=1", "evaluation.samples=2", "device=cpu")
    given = ("model=vae", "data.binarisation=none", "kld_weight=0.05")
    run = api.train(*small, *given, f"output_dir={tmp_path}", say=said.append)
    assert "kld_weight 0.05 over 64 features is beta 1.6 at sigma 1." in said
    assert (run.config["kld_weight"], run.config["beta"]) == (0.05, 1.6)
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["kld_weight"]["value"] == 0.05
    assert metrics["effective_beta"]["value"] == pytest.approx(1.6)
    (row,) = run.history
    assert row["val/loss"] == pytest.approx(row["val/recon_loss"] + 1.6 * row["val/kl_loss"])
    assert math.isfinite(row["train/loss"])


def test_the_best_weights_are_those_of_the_loss_that_is_trained() -> None:
    """With hardly a weight on the KL the ELBO at beta 1 falls while the loss falls, and would keep an early epoch."""
    words = ("model=vae", "data.binarisation=none", "hidden_dims=[8]", "latent_dim=2", "device=cpu")
    for more, name, sign in ((("kld_weight=1e-3",), "val/loss", -1), (("kld_weight=null",), "val/elbo", 1)):
        composed = compose([*words, *more])
        dataset = open_data(data_node(composed))
        session = make_session(config_of(composed, dataset), dataset, torch.device("cpu"))
        row, score = validate(session, dataset, Plan())
        assert score == sign * row[name]
