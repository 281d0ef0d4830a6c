"""The VAE: what it encodes, reconstructs and samples, and that an example does not see its batch."""

# K samples, B batch, *x event of the data

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from vaekit.conditionals import Normal as NormalPosterior
from vaekit.distributions.noise import PerExample, use
from vaekit.likelihoods import Bernoulli, LearnedScaleNormal, Likelihood, Normal, OptimalScaleNormal
from vaekit.models import VAE, Level, TopDown, Trace, flat
from vaekit.models.level import DrawOnly, FeaturesOnly
from vaekit.networks import MLP, ConvDecoder, ConvEncoder
from vaekit.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("float64")

SHAPE = (1, 5, 4)
LATENT = 3


def mlp(likelihood: Likelihood) -> VAE:
    def network(in_shape: torch.Size, out_shape: torch.Size) -> MLP:
        return MLP(in_shape, out_shape, hidden_dims=(8,))

    return flat(network, network, NormalPosterior((LATENT,)), StandardNormal((LATENT,)), likelihood)


def conv(likelihood: Likelihood) -> VAE:
    def encoder(in_shape: torch.Size, out_shape: torch.Size) -> ConvEncoder:
        return ConvEncoder(in_shape, out_shape, channels=(3, 4), hidden_dim=8)

    def decoder(in_shape: torch.Size, out_shape: torch.Size) -> ConvDecoder:
        return ConvDecoder(in_shape, out_shape, channels=(4, 3), hidden_dim=8)

    return flat(encoder, decoder, NormalPosterior((LATENT,)), StandardNormal((LATENT,)), likelihood)


class Both(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second], -1)


class StateNormal(NormalPosterior):
    """A prior p(z2 | z1) that reads its context."""

    def __init__(self) -> None:
        super().__init__((2,))
        self.map = nn.Linear(LATENT, 4)

    def forward(self, context: Tensor, model: object) -> torch.distributions.Distribution:
        return super().forward(self.map(context), model)


def two_levels(likelihood: Likelihood) -> VAE:
    """A ladder: the second posterior and prior read the first draw, and the decoder reads both."""

    class Head(nn.Module):
        def __init__(self, width: int, out: int, *, join: bool) -> None:
            super().__init__()
            self.join, self.map = join, nn.Linear(width, out)

        def forward(self, features: Tensor, state: Tensor) -> Tensor:
            return self.map(torch.cat([features, state], -1) if self.join else features)

    hierarchy = TopDown([
        Level("top", NormalPosterior((LATENT,)), StandardNormal((LATENT,)), Head(6, 2 * LATENT, join=False), DrawOnly()),
        Level("bottom", NormalPosterior((2,)), StateNormal(), Head(6 + LATENT, 4, join=True), Both()),
    ])  # fmt: skip
    return VAE(MLP(SHAPE, (6,), hidden_dims=()), hierarchy, MLP((LATENT + 2,), SHAPE, hidden_dims=(8,)), likelihood)


MODELS: dict[str, Callable[[], VAE]] = {
    "mlp, Bernoulli": lambda: mlp(Bernoulli(SHAPE)),
    "mlp, Normal": lambda: mlp(Normal(SHAPE, scale=0.3)),
    "conv, Bernoulli": lambda: conv(Bernoulli(SHAPE)),
    "conv, LearnedScaleNormal": lambda: conv(LearnedScaleNormal(SHAPE)),
    "conv, OptimalScaleNormal": lambda: conv(OptimalScaleNormal(SHAPE)),
    "two levels, Bernoulli": lambda: two_levels(Bernoulli(SHAPE)),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request: pytest.FixtureRequest) -> VAE:
    torch.manual_seed(1)
    made: VAE = request.param()
    with torch.no_grad():
        for parameter in made.parameters():  # away from an initialisation where much is near zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def binary(B: int) -> Tensor:
    return torch.randint(0, 2, (B, *SHAPE)).double()


def traced(model: VAE, x: Tensor, index: Tensor, samples: int = 1, first_sample: int = 0) -> Trace:
    with use(PerExample(3, index, first_sample=first_sample)):
        return model(x, samples=samples)


@pytest.mark.parametrize("K", [1, 4])
@pytest.mark.parametrize("B", [1, 6])
def test_shapes_of_a_trace(model: VAE, K: int, B: int) -> None:
    x = binary(B)
    trace = model(x, samples=K)
    assert trace.x is x
    assert trace.px.batch_shape == trace.log_px.shape == trace.log_w.shape == trace.kl().shape == (K, B)
    assert trace.px.event_shape == SHAPE == model.event_shape
    for latent in trace.latents:
        assert latent.q.batch_shape == latent.p.batch_shape == latent.log_q.shape == latent.log_p.shape == (K, B)
        assert latent.q.event_shape == latent.p.event_shape
        assert latent.draw.value.shape == (K, B, *latent.q.event_shape)


def test_log_w_is_log_px_plus_log_p_less_log_q(model: VAE) -> None:
    trace = model(binary(4), samples=3)
    expected = trace.px.log_prob(trace.x)
    for latent in trace.latents:
        z = latent.draw.value
        expected = expected + latent.p.log_prob(z) - latent.q.log_prob(z)
    torch.testing.assert_close(trace.log_w, expected, rtol=1e-12, atol=1e-12)
    assert (trace.px.mean.flatten(2).std(1).mean(-1) > 0).all()  # examples differ
    assert (trace.px.mean.flatten(2).std(0).mean(-1) > 0).all()  # samples differ


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_encoding_is_the_posterior_mean_and_twice_the_same(model: VAE, mode: str) -> None:
    """Never mean + standard deviation, never a draw."""
    getattr(model, mode)()
    x = binary(5)
    code = model.encode(x)
    features = model.encoder(x)
    if len(model.hierarchy.levels) == 1:
        assert torch.equal(code, features[..., :LATENT])
        torch.testing.assert_close(model.encode_scale(x), (0.5 * features[..., LATENT:]).exp())
    first = model.posterior(x)
    assert first.batch_shape == (1, 5)
    assert torch.equal(code[:, :LATENT], first.mean[0])
    assert torch.equal(model.encode_scale(x)[:, :LATENT], first.stddev[0])
    assert (
        code.shape
        == model.encode_scale(x).shape
        == (5, sum(lv.prior.event_shape.numel() for lv in model.hierarchy.levels))
    )
    assert torch.equal(model.encode(x), code)
    model.train(not model.training)
    assert torch.equal(model.encode(x), code)


def test_the_mean_of_the_draws_is_the_encoding(model: VAE) -> None:
    """Of the first latent. 6 standard errors of 20 000 draws: false alarm 2e-9 for each of six numbers."""
    x = binary(2)
    z = model(x, samples=20_000).latents[0].draw.value.detach()
    q = model.posterior(x)
    assert ((z.mean(0) - q.mean[0]).abs() < 6 * q.stddev[0] / 20_000**0.5).all()
    assert ((z.var(0) / q.variance[0] - 1).abs() < 6 * (2 / 20_000) ** 0.5).all()


def test_reconstruction_is_the_mean_at_the_mean_and_deterministic(model: VAE) -> None:
    model.eval()
    x = binary(5)
    reconstruction = model.reconstruct(x)
    assert reconstruction.shape == x.shape
    assert torch.equal(model.reconstruct(x), reconstruction)
    torch.testing.assert_close(model.decode(model.encode(x)).mean[0], reconstruction)
    if isinstance(model.likelihood, Bernoulli):
        assert ((reconstruction > 0) & (reconstruction < 1)).all()


def test_decoding_is_what_the_forward_pass_does(model: VAE) -> None:
    model.eval()
    x = binary(5)
    trace = model(x)
    state = torch.cat([latent.draw.value[0] for latent in trace.latents], -1)
    px = model.decode(state)
    assert px.batch_shape == (1, 5)
    assert px.event_shape == SHAPE
    torch.testing.assert_close(px.log_prob(x), trace.log_px, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 7])
def test_samples_have_the_shape_and_the_range_of_the_data(model: VAE, n: int) -> None:
    drawn = model.sample(n)
    assert drawn.shape == (n, *SHAPE)
    assert not drawn.requires_grad
    if isinstance(model.likelihood, Bernoulli):
        assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    assert model.generate(n).batch_shape == (1, n)
    assert model.generate(n).mean.shape == (1, n, *SHAPE)


def test_samples_carry_the_noise_of_the_observation_and_of_the_prior() -> None:
    """Mean and variance of a linear model: N(b, W W^T + sigma^2). Kolmogorov-Smirnov, false alarm 1e-6."""
    model = flat(
        lambda **shapes: MLP(**shapes, hidden_dims=()), lambda **shapes: MLP(**shapes, hidden_dims=()),
        NormalPosterior((2,)), StandardNormal((2,)), Normal((1,), scale=0.8),
    )  # fmt: skip
    (layer,) = model.decoder.layers
    scale = (layer.weight.square().sum() + 0.64).sqrt().item()
    drawn = model.sample(20_000).flatten().numpy()
    assert kstest(drawn, "norm", (layer.bias.item(), scale)).pvalue > 1e-6
    assert kstest(drawn, "norm", (layer.bias.item(), 0.8)).pvalue < 1e-6  # the test can tell


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 1, 4, 5), (2, 20), (1, 5, 4, 1), (5,), (2, 1, 5, 4, 1)])
def test_data_of_another_shape_are_refused(model: VAE, shape: tuple[int, ...]) -> None:
    for function in (model, model.encode, model.encode_scale, model.reconstruct, model.posterior):
        with pytest.raises(ValueError, match=r"\(1, 5, 4\).*'B', 1, 5, 4") as caught:
            function(torch.zeros(shape))
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3, 4, 5]], [[0, 1], [2, 3, 4, 5]], [[5], [3, 0], [1, 2, 4]]])
def test_under_noise_of_its_own_an_example_does_not_see_its_batch(model: VAE, parts: list[list[int]]) -> None:
    model.eval()
    x, index = binary(6), torch.tensor([40, 7, 0, 3, 11, 2])
    whole = traced(model, x, index, samples=3)
    for part in parts:
        trace = traced(model, x[part], index[part], samples=3)
        torch.testing.assert_close(trace.log_w, whole.log_w[:, part], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(trace.kl(), whole.kl()[:, part], rtol=1e-12, atol=1e-12)
        for own, full in zip(trace.latents, whole.latents, strict=True):
            torch.testing.assert_close(own.draw.value, full.draw.value[:, part], rtol=1e-12, atol=1e-12)


def test_samples_folded_into_the_batch_equal_single_passes(model: VAE) -> None:
    model.eval()
    x, index = binary(4), torch.arange(4)
    together = traced(model, x, index, samples=5)
    one_by_one = [traced(model, x, index, samples=1, first_sample=k).log_w for k in range(5)]
    torch.testing.assert_close(together.log_w, torch.cat(one_by_one), rtol=1e-12, atol=1e-12)
    assert together.log_w.std(0).min() > 1e-6
    chunks = [traced(model, x, index, samples=n, first_sample=first).log_w for first, n in [(0, 2), (2, 3)]]
    torch.testing.assert_close(together.log_w, torch.cat(chunks), rtol=1e-12, atol=1e-12)


def test_each_pass_draws_anew(model: VAE) -> None:
    x = binary(4)
    assert not torch.equal(model(x).log_w, model(x).log_w)
    trace = model(x, samples=2)
    assert not torch.equal(trace.latents[0].draw.value[0], trace.latents[0].draw.value[1])


def test_every_parameter_gets_a_gradient(model: VAE) -> None:
    (-model(binary(6), samples=2).log_w.mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_gradient_of_the_elbo_is_that_of_finite_differences() -> None:
    model = mlp(Normal(SHAPE, scale=0.5))
    x, parameters = binary(2), list(model.parameters())

    def elbo() -> Tensor:
        return traced(model, x, torch.arange(2), samples=2).log_w.mean()

    gradients = torch.autograd.grad(elbo(), parameters)
    direction = [torch.randn_like(parameter) for parameter in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    values = []
    for step in (1e-6, -1e-6):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for parameter, d in zip(moved.parameters(), direction, strict=True):
                parameter.add_(step * d)
            values.append(traced(moved, x, torch.arange(2), samples=2).log_w.mean())
    torch.testing.assert_close(slope, (values[0] - values[1]) / 2e-6, rtol=1e-5, atol=1e-6)


def test_a_likelihood_in_training_looks_at_the_data_that_it_scores() -> None:
    """The optimal scale is that of this batch in training, and the average of what was seen outside."""
    model, x = conv(OptimalScaleNormal(SHAPE)), 3.0 * torch.randn(6, *SHAPE)
    trace = model(x, samples=2)
    mse = (x - trace.px.mean).square().mean()
    torch.testing.assert_close(trace.px.variance, mse.detach().expand_as(trace.px.variance))
    profile = 0.5 * x[0].numel() * mse.log()
    torch.testing.assert_close(-trace.log_px.mean() - model.likelihood.constant, profile, rtol=1e-12, atol=1e-12)
    model.eval()
    assert model(100.0 * x).px.stddev.unique().item() == pytest.approx(mse.sqrt().item(), rel=1e-12)


def test_a_posterior_and_a_prior_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'z'.*\(3,\).*\(2,\).*same event_shape"):
        Level("z", NormalPosterior((3,)), StandardNormal((2,)), FeaturesOnly(), DrawOnly())


def test_levels_need_different_names() -> None:
    def level() -> Level:
        return Level("z", NormalPosterior((3,)), StandardNormal((3,)), FeaturesOnly(), DrawOnly())

    for levels in ([], [level(), level()]):
        with pytest.raises(ValueError, match="different names"):
            TopDown(levels)
