"""What an implementation of a variational autoencoder has to stand up to, (a) to (m) on docs/traps.md, in one place.

Some of it is proved in full where the part has its tests; the page names those as well.
"""

# K samples, B batch, N examples, D values of one example, L latent dimensions

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.distributions import Independent
from torch.distributions import Normal as TorchNormal

from vaekit import api
from vaekit.builder import build_model
from vaekit.compose import CONF, choices, compose, resolve
from vaekit.conditionals import Normal, RelaxedCategorical
from vaekit.data.batch import Batch, Dataset, Split
from vaekit.data.stream import Stream
from vaekit.data.transforms import Dynamic, Scale
from vaekit.distributions import Draw
from vaekit.distributions.noise import PerExample, use
from vaekit.distributions.quantized import Quantized, UniformCodes, codes_of, vectors_of
from vaekit.errors import ConfigError
from vaekit.evaluation import Plan, bound_estimates, bound_terms, kl_per_dimension
from vaekit.evaluation.encoded import encoded
from vaekit.evaluation.passes import encodings, measuring
from vaekit.likelihoods import Bernoulli
from vaekit.likelihoods import Normal as NormalLikelihood
from vaekit.models import VAE, Latent, Trace, flat
from vaekit.networks import MLP
from vaekit.objectives import KL, Objective, Reconstruction, effective_beta
from vaekit.priors import Mixture, StandardNormal, UniformCategorical, Vamp
from vaekit.recipe import build_objective, make_session, open_data, resolved
from vaekit.training import Player, fit
from vaekit.training.loop import Callback
from vaekit.training.session import Best

CPU = torch.device("cpu")
SMALL = ("hidden_dim=8", "training.batch_size=400", "device=cpu", "seed=1")
MAPS = ("network.encoder.hidden_channels=8", "network.decoder.hidden_channels=8")
# what an objective wants beside its name
OBJECTIVES = {
    "geco": ("objective.terms.recon.tolerance=22",),
    "rae": ("model=rae",),
    "rae_gp": ("model=rae_gp",),
    "reconstruction": ("model=ae",),
    "sparse": ("model=sae",),
    "vqvae": ("model=vqvae",),
    "vqvae_gradient": ("model=vqvae_gradient",),
}
# about the mean KL of the batch by their definitions: what they say of two halves does not say what they say of the whole
OF_THE_WHOLE_BATCH = ("capacity", "free_bits")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def precise() -> Iterator[None]:
    """In float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_data({"kind": "data.named", "name": "digits", "path": None, "binarisation": "dynamic", "seed": 0})


def gaussian(loc: Tensor, scale: Tensor | float) -> Independent:
    """Batch (K, B), the rest is the event."""
    return Independent(TorchNormal(loc, torch.as_tensor(scale).expand(loc.shape)), loc.dim() - 2)


# --- (c) every loss is the same for a batch that is split or doubled


@pytest.fixture(scope="module")
def plain() -> DictConfig:
    return compose(SMALL)


@pytest.fixture(scope="module", params=choices("objective"))
def objective(request: pytest.FixtureRequest, digits: Dataset, plain: DictConfig) -> tuple[str, VAE, Objective, Split]:
    """Each objective that has a name, with a model, in float64 and evaluation mode."""
    words = OBJECTIVES.get(request.param, ())
    if words and words[0].startswith("model="):
        maps = (*MAPS, "posterior.codebook.codes=32") if request.param.startswith("vqvae") else ()
        composed = compose([*SMALL, words[0], f"objective={request.param}", *maps])
    else:  # the file alone, in the place of that of a configuration that is composed once
        composed = plain.copy()
        composed.objective = OmegaConf.load(CONF / "objective" / f"{request.param}.yaml")
        for word in words:
            key, value = word.split("=")
            OmegaConf.update(composed, key, float(value), force_add=True)
    config = resolve(composed, digits.event_shape, examples=len(digits.train))
    torch.manual_seed(0)
    return request.param, build_model(config).double().eval(), build_objective(config).double().eval(), digits.train


def loss_and_gradients(
    model: VAE, objective: Objective, split: Split, index: Tensor
) -> tuple[Tensor, list[Tensor | None]]:
    """Of the examples at `index` with eight samples each, whose noise is their own."""
    with use(PerExample(0, index)):
        total = objective(model(split.batch(index).x.double(), 8)).total
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(total, moved, allow_unused=True)
    return total.detach(), [torch.zeros_like(p) if g is None else g for p, g in zip(moved, gradients, strict=True)]


def test_c_every_objective_is_the_same_for_a_batch_that_is_doubled(objective: Any) -> None:
    _, *made = objective
    index = torch.arange(6)
    once, twice = loss_and_gradients(*made, index), loss_and_gradients(*made, index.repeat(2))
    torch.testing.assert_close(twice, once, rtol=1e-9, atol=1e-9)
    assert max(float(gradient.abs().max()) for gradient in once[1]) > 0


def test_c_every_objective_is_the_mean_of_the_parts_of_its_batch(objective: Any) -> None:
    name, *made = objective
    if name in OF_THE_WHOLE_BATCH:
        pytest.skip("about the mean of the batch by its definition")
    (whole, slope), *parts = (loss_and_gradients(*made, torch.arange(a, b)) for a, b in ((0, 6), (0, 3), (3, 6)))
    torch.testing.assert_close(whole, (parts[0][0] + parts[1][0]) / 2, rtol=1e-9, atol=1e-9)
    halves = [(a + b) / 2 for a, b in zip(parts[0][1], parts[1][1], strict=True)]
    torch.testing.assert_close(slope, halves, rtol=1e-9, atol=1e-9)


# --- (d) beta does not change with the size of the image


@pytest.mark.parametrize("beta", [0.5, 4.0])
@pytest.mark.parametrize("side", [1, 2, 8])
@pytest.mark.usefixtures("precise")
def test_d_beta_does_not_change_when_the_image_grows(side: int, beta: float) -> None:
    """Independent pixels x = w z + noise, each with a latent of its own: the best variance of q is 1 / (1 + w^2 / (beta s^2))."""
    w, s, shape = 1.7, 0.6, (1, 3, side, side)
    variance = torch.full(shape, 1 / (1 + w**2 / (beta * s**2)), requires_grad=True)
    noise = torch.cat(
        [torch.ones(1, 3, side, side), -torch.ones(1, 3, side, side)]
    )  # their mean square is the variance
    loc = torch.randn(3, side, side).expand(2, 3, side, side)
    q, value = gaussian(loc, variance.sqrt()), loc + variance.sqrt() * noise
    latent = Latent("z", q, gaussian(torch.zeros_like(loc), 1.0), Draw(value, lambda: q.log_prob(value)))
    trace = Trace(torch.randn(3, side, side), gaussian(w * value, s), (latent,))
    objective = Objective({"recon": Reconstruction(), "kl": KL()}, {"kl": beta})
    (slope,) = torch.autograd.grad(objective(trace).total, variance)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)
    assert effective_beta(objective, trace) == beta


# --- (f) penalties against numeric integration


@pytest.mark.parametrize("kind", ["vamp", "mixture"])
@pytest.mark.usefixtures("precise")
def test_f_the_rate_under_a_mixture_of_posteriors_is_the_integral(kind: str) -> None:
    """KL(q || p) for q of each example and p the VampPrior or a mixture: the mean over 40,000 quantiles against a fine grid."""
    shapes = {"encoder": lambda **s: MLP(**s, hidden_dims=[4]), "decoder": lambda **s: MLP(**s, hidden_dims=[4])}
    prior = Vamp((1,), (3,), components=4) if kind == "vamp" else Mixture((1,), components=4)
    model = flat(**shapes, posterior=Normal((1,)), prior=prior, likelihood=Bernoulli((3,)))
    x = torch.rand(2, 3).round()

    class Quantiles:
        def uniform(self, shape: torch.Size) -> Tensor:
            return ((torch.arange(shape[0]) + 0.5) / shape[0]).reshape(-1, 1, 1).expand(shape)

    with torch.no_grad(), use(Quantiles()):  # type: ignore[arg-type]
        rate = model(x, samples=40_000).kl().mean(0)
    with torch.no_grad():
        (latent,) = model(x).latents
        z = torch.linspace(-12.0, 12.0, 200_001)
        wide = z.reshape(-1, 1, 1).expand(-1, 2, 1)
        log_q, log_p = (
            latent.q.log_prob(wide),
            model.hierarchy.open()[0].prior(torch.zeros(1, 2, 0), model).log_prob(wide),
        )
        integral = torch.trapezoid(log_q.exp() * (log_q - log_p), z, dim=0)
    assert (integral > 0.001).all()
    torch.testing.assert_close(rate, integral, rtol=0, atol=2e-4)  # what 40,000 quantiles leave out at the ends


# --- (g) whose loss moves what


@pytest.mark.parametrize(
    "words",
    [("likelihood=normal_learned", "data.binarisation=none"), ("model=vampprior", "prior.components=20"),
     ("model=vqvae_gradient", *MAPS)],
    ids=["observation noise", "pseudo-inputs", "codebook"],
)  # fmt: skip
def test_g_every_parameter_that_is_trained_has_one_optimizer(words: tuple[str, ...], digits: Dataset) -> None:
    session = make_session(resolved(compose([*SMALL, *words]), digits), digits, CPU)
    held = [id(p) for player in session.players for group in player.optimizer.param_groups for p in group["params"]]
    trained = [p for p in nn.ModuleList([session.model, session.objective]).parameters() if p.requires_grad]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in trained}
    assert held == [id(parameter) for player in session.players for parameter in player.parameters]


def test_g_the_gradient_of_a_player_holds_nothing_of_the_others() -> None:
    """Three players over one trace, each with a loss that reaches every parameter."""
    shapes = {"encoder": lambda **s: MLP(**s, hidden_dims=[4]), "decoder": lambda **s: MLP(**s, hidden_dims=[4])}
    model = flat(**shapes, posterior=Normal((2,)), prior=StandardNormal((2,)), likelihood=NormalLikelihood((3,)))
    critic = nn.Linear(2, 1)

    def judged(trace: Trace, loss: Any) -> Tensor:
        return critic(trace.latents[0].draw.value).mean() + trace.px.mean.mean()

    losses = {
        "critic": lambda trace, loss: 7.0 * judged(trace, loss),
        "encoder": lambda trace, loss: loss.total - judged(trace, loss),
        "decoder": lambda trace, loss: loss.parts["recon"] + 3.0 * judged(trace, loss),
    }
    owned = {"critic": critic, "encoder": model.encoder, "decoder": model.decoder}
    objective, x = Objective({"recon": Reconstruction(), "kl": KL()}), torch.randn(5, 3)
    for order in (("critic", "encoder", "decoder"), ("decoder", "critic", "encoder")):
        torch.manual_seed(2)
        players = []
        for name in order:
            parameters = list(owned[name].parameters())
            players.append(Player(name, parameters, torch.optim.SGD(parameters, 0.0), losses[name]))  # type: ignore[arg-type]
        fit(model, objective, players, lambda step: Batch(x, None, torch.arange(5)), steps=2, steps_per_epoch=2)
        torch.manual_seed(2)
        for _ in range(2):
            trace = model(x)
        loss = objective(trace)
        for player in players:
            wanted = torch.autograd.grad(losses[player.name](trace, loss), player.parameters, retain_graph=True)
            torch.testing.assert_close([p.grad for p in player.parameters], list(wanted))


# --- (h) codes that nobody chooses


def test_h_codes_that_nobody_chooses_at_first_stay_finite_and_come_back(digits: Dataset) -> None:
    """1024 codes for 12 positions: most are not chosen for long. None flies away, and all that die come back."""
    words = (
        "model=vqvae", *SMALL, *MAPS, "posterior.codebook.codes=1024", "posterior.codebook.decay=0.9", "training.epochs=1",
    )  # fmt: skip
    session = make_session(resolved(compose(words), digits), digits, CPU)
    codebook = session.model.hierarchy.open()[0].posterior.codebook
    batch = session.stream.split.batch(torch.arange(3))
    seen, chosen = [], []
    session.model.train()
    for step in range(60):
        with torch.no_grad():
            q = session.model(batch.x + 0.01 * step).latents[0].q
        seen.append(q.encoded.flatten(3).movedim(2, -1).reshape(-1, q.encoded.shape[2]))
        chosen.append(q.codes.unique())
        if step == 0:
            unused = torch.ones(1024, dtype=torch.bool).index_fill(0, chosen[0], False)
        everything = torch.cat(seen)
        lowest, highest = everything.amin(0) - 1e-5, everything.amax(0) + 1e-5
        assert ((codebook.vectors >= lowest) & (codebook.vectors <= highest)).all(), step  # means of what was seen
        if step == 0:
            first = codebook.vectors.clone()
    assert unused.sum() > 900
    moved = (codebook.vectors != first).any(1) & unused
    assert moved.sum() > 900  # put on outputs of later steps
    assert (codebook.usage > 0).all()


# --- (j) what has no density of real numbers; the rest is under tests/contracts and beside its part


@pytest.mark.parametrize("kind", ["uniform codes", "quantised", "uniform categories", "categories"])
@pytest.mark.usefixtures("precise")
def test_j_codes_and_categories_sum_to_one(kind: str) -> None:
    """Over all pairs of three codes at two positions, and of three categories of two variables."""
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    codebook = torch.randn(3, 2)
    if kind in ("uniform codes", "quantised"):
        values = vectors_of(pairs[:, None], codebook)  # (9, 1, 2, 2)
        encoded = torch.randn(1, 1, 2, 2)
        p = UniformCodes(codebook, (9, 1), (2,)) if kind == "uniform codes" else (
            Quantized(encoded, codes_of(encoded, codebook), codebook)
        )  # fmt: skip
    else:
        values = torch.nn.functional.one_hot(pairs, 3).double()[:, None]  # (9, 1, 2, 3)
        part = UniformCategorical((2, 3)) if kind == "uniform categories" else RelaxedCategorical((2, 3)).eval()
        p = part(torch.zeros(9, 1, 0) if kind == "uniform categories" else torch.randn(1, 1, 2, 3), None)
    torch.testing.assert_close(p.log_prob(values).exp().sum(), torch.tensor(1.0), rtol=0, atol=1e-12)


# --- (m) the batch size of an evaluation, and what else an evaluation must not do


@pytest.fixture
def numbers() -> tuple[Any, Split]:
    """A model with dropout in float64, and 53 grey images that are binarised anew in every pass."""
    torch.manual_seed(1)
    model = flat(
        lambda **s: MLP(**s, hidden_dims=[8], dropout=0.5), lambda **s: MLP(**s, hidden_dims=[8]), Normal((2,)),
        StandardNormal((2,)), Bernoulli((5,)),
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model, Split(torch.rand(53, 5, dtype=torch.float64), (Scale(1.0, torch.float64), Dynamic()))


@pytest.mark.parametrize("size", [1, 7, 52])
def test_m_evaluated_numbers_are_the_same_for_any_batch_size(size: int, numbers: tuple[Any, Split]) -> None:
    model, split = numbers
    for measure in (
        lambda plan: bound_estimates(bound_terms(model, split, plan), plan.samples),
        lambda plan: {"kl": kl_per_dimension(model, split, plan)},
        lambda plan: dict(enumerate(encodings(model, split, plan))),
        lambda plan: {"z": encoded(model, split, plan)},
    ):
        whole, parts = (measure(Plan(batch, 3)) for batch in (53, size))
        assert whole.keys() == parts.keys()
        for name, value in whole.items():
            a, b = (
                v if isinstance(v, Tensor) else torch.tensor([v.value, v.standard_error, v.n])
                for v in (value, parts[name])
            )
            torch.testing.assert_close(a.double(), b.double(), rtol=1e-10, atol=1e-10)


def test_m_evaluation_records_no_gradient(numbers: tuple[Any, Split]) -> None:
    model, split = numbers
    with measuring(model):
        assert not torch.is_grad_enabled()
        assert not model.training
    assert not bound_terms(model, split, Plan(10, 2)).importance.requires_grad
    assert not encodings(model, split, Plan(10))[0].requires_grad


# --- (l) kill and resume, and what a training depends on


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


class After(Callback):
    """Ends the process, as far as the library can tell, after a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, progress: Any) -> None:
        if progress.step == self.at:
            raise Killed


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Four steps an epoch, two epochs, with everything that has a state; killed and resumed after each of `kills`."""
    for picture in ("draw_gallery", "write_page", "animate"):
        monkeypatch.setattr(api, picture, lambda *_: None)
    for callback in ("Snapshots", "Stages"):
        monkeypatch.setattr(api, callback, lambda *_: Callback())

    def go(name: str, *overrides: str, kills: tuple[int, ...] = ()) -> Path:
        settings = (
            *SMALL, "latent_dim=2", "training.epochs=2", "network.encoder.dropout=0.2", "evaluation.samples=2",
            "training.checkpoint_seconds=0", "optimizer.lr=0.02", f"output_dir={tmp_path / name}", *overrides,
        )  # fmt: skip
        if not kills:
            return api.train(*settings).path
        with pytest.raises(Killed):
            api.train(*settings, progress=lambda say: After(kills[0]))
        (path,) = [file.parent for file in (tmp_path / name).glob("*/*/config.yaml")]
        for step in kills[1:]:
            with pytest.raises(Killed):
                api.resume(path, progress=lambda say, step=step: After(step))  # type: ignore[misc]
        return api.resume(path).path

    return go


def test_l_a_training_killed_after_any_step_ends_as_the_undisturbed_one(train: Any) -> None:
    whole, killed = train("whole"), train("killed", kills=(2, 5, 6, 8))
    for file in ("model.safetensors", "metrics.jsonl", "metrics.json"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file


def test_the_seed_alone_makes_the_first_weights(digits: Dataset) -> None:
    made = []
    for own, state in ((1, 5), (1, 6), (2, 6)):
        torch.manual_seed(state)  # what the user drew before
        composed = compose([*SMALL[:-1], f"seed={own}"])
        made.append(make_session(resolved(composed, digits), digits, CPU).model.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert not all(torch.equal(made[0][name], made[2][name]) for name in made[0])


def test_each_epoch_has_an_order_of_its_own(digits: Dataset) -> None:
    stream = Stream(digits.train, 50, seed=3)
    first, second = (
        torch.cat(
            [stream(step).index for step in range(epoch * stream.steps_per_epoch, (epoch + 1) * stream.steps_per_epoch)]
        )
        for epoch in range(2)
    )
    assert torch.equal(first.sort().values, torch.arange(len(digits.train)))
    assert torch.equal(second.sort().values, torch.arange(len(digits.train)))
    assert (first == second).double().mean() < 10 / len(first)


def test_the_first_weights_are_kept_however_bad_their_score_is(digits: Dataset) -> None:
    model = nn.Linear(2, 2)
    best = Best()
    assert best.consider(-1e30, 1, model)  # type: ignore[arg-type]
    assert best.epoch == 1
    assert not best.consider(-1e30, 2, model)  # type: ignore[arg-type]


def test_a_warm_up_that_outlasts_the_training_is_refused(digits: Dataset) -> None:
    warm_up = "beta={kind: schedules.Linear, start: 0.0, stop: 1.0, steps: %d}"
    for steps in (8, 9):
        config = resolved(compose([*SMALL, "training.epochs=2", warm_up % steps]), digits)  # of four steps each
        with (
            pytest.raises(ConfigError, match=r"step 9, but the training ends at step 8") if steps > 8 else nullcontext()
        ):
            make_session(config, digits, CPU)


def test_nothing_of_a_training_looks_at_the_test_part(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and rows are the same when all test examples are others; the numbers on the test part are not."""
    whole = train("whole")
    opened = api.open_data

    def others(node: Any) -> Dataset:
        dataset = opened(node)
        return replace(dataset, test=replace(dataset.test, stored=dataset.test.stored.flip(-1)))

    monkeypatch.setattr(api, "open_data", others)
    other = train("other")
    for file in ("model.safetensors", "metrics.jsonl"):
        assert (other / file).read_bytes() == (whole / file).read_bytes(), file
    assert (other / "metrics.json").read_bytes() != (whole / "metrics.json").read_bytes()


def test_samples_of_a_model_are_those_of_its_prior() -> None:
    """Of a mixture whose components lie far from the origin, where no draw of N(0, I) would come."""
    model = flat(
        lambda **s: MLP(**s, hidden_dims=[4]), lambda **s: MLP(**s, hidden_dims=[4]), Normal((1,)), Mixture((1,), components=2),
        Bernoulli((3,)),
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.hierarchy.open()[0].prior.named_parameters():
            if name == "loc":
                parameter.copy_(torch.tensor([[-30.0], [40.0]]).reshape(parameter.shape))
    seen: list[Tensor] = []
    model.decoder.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    model.sample(400)
    drawn = seen[0].flatten()
    assert ((drawn + 30).abs().lt(8) | (drawn - 40).abs().lt(8)).all()
    assert 0.3 < float((drawn > 0).double().mean()) < 0.7
    assert math.isfinite(float(drawn.std()))
