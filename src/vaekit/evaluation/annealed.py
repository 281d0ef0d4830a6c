"""The evidence by annealed importance sampling with Hamiltonian transitions: from below, and on simulated data from both sides."""

# C chains, B batch, N examples, L dimensions of all latents side by side, T temperatures

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from torch import Tensor

from vaekit.data.batch import Batch, Split
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import PerExample, use
from vaekit.distributions.pyramid import Pyramid
from vaekit.errors import ConfigError
from vaekit.evaluation.chains import ACCEPTANCE, SIMULATED, TUNERS, Annealing, Sampler, prior_draw
from vaekit.evaluation.each import Ledger, Tell, each
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.units import Estimate, mean
from vaekit.evaluation.walks import is_real
from vaekit.math.importance import effective_sample_size, importance_bound
from vaekit.models.vae import VAE

Keep = Callable[[str, Mapping[str, Any]], Ledger]

# chains at a time, those of all examples together, and values of p(x|z): enough to keep a CPU busy, so few that little is lost
# by a kill; elsewhere what memory bears
_BUSY = {"cpu": (1 << 12, 1 << 19)}
_ROWS, _VALUES = 1 << 14, 1 << 22


def ais_estimates(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    keep: Keep | None = None,
    tell: Tell | None = None,
    chains: int = 16,
    steps: int = 500,
    leapfrog: int = 10,
    start: Literal["prior", "posterior"] = "posterior",
) -> dict[str, Estimate]:
    r"""log p(x) of the examples of a split by annealed importance sampling.

    Chains start at draws from :math:`f_0` and pass through :math:`f_t = f_0^{1 - \beta_t} \, p(x, z)^{\beta_t}`, with
    :math:`f_0` the prior or q(z|x), and a Hamiltonian transition at each. Then

    .. math:: w = \prod_{t=1}^T \frac{f_t(z_{t-1})}{f_{t-1}(z_{t-1})}, \qquad E[w] = p(x),

    so the logarithm of the mean weight of C chains is in expectation below log p(x), and tends to it with T and with C.

    The step sizes of an example are found by four chains in a run of their own, with noise of its own, one for each temperature,
    and then held: sizes that followed the chains that are weighed would bias the weights. So E[w] = p(x) holds exactly, whatever
    came out of that run. All is computed in float64, on a copy of the model: in float32 the rounding, which depends on the size of
    the batch, decides now and then whether a proposal is accepted, and from there on the chain is another one.

    Arguments:
        model: With real latents and a density q(z|x).
        split: On the device of the model.
        plan: Gives the seed. Its batch size is not asked: as many examples are annealed together as keep the device busy.
        keep: Gives the ledger of a measurement, so that one that was killed goes on.
        tell: Called with how many examples are done, of how many.
        chains: C, for each example.
        steps: T.
        leapfrog: Steps of each trajectory.
        start: `posterior`, or `prior` for a number that no fault of the encoder can touch.

    Returns:
        `ais`, in nats; `ais_effective_chains`, :math:`(\sum w)^2 / \sum w^2`, near 1 where the bound is loose and near C where it
        is tight; `ais_acceptance`, the mean probability of acceptance, where there is a transition (`steps` above 1).

    Raises:
        ConfigError: If the model has no density q(z|x), or latents that are not real numbers; or if a setting is out of range.

    References:
        | Annealed Importance Sampling (Neal, 2001), equations 3 to 11 | https://arxiv.org/abs/physics/9803008
        | On the Quantitative Analysis of Decoder-Based Generative Models (Wu, Burda, Salakhutdinov and Grosse, 2017), section 3
        | https://arxiv.org/abs/1611.04273
    """
    annealing = Annealing(chains, steps, leapfrog, start)

    def measure(model: VAE, batch: Batch, plan: Plan) -> dict[str, Tensor]:
        x, context = _double(batch.x), _double(batch.context)
        sampler = Sampler(model, x, context, annealing, plan.seed, batch.index)
        log_w, acceptance = sampler.forward(sampler.tuned())
        return {
            "ais": importance_bound(log_w),
            "effective": effective_sample_size(log_w),
            "acceptance": acceptance,
        }

    columns = _each(model, split, plan, measure, annealing, "ais", keep, tell)
    words = f"annealed importance sampling, {annealing.words}: a stochastic lower bound on log p(x)"
    numbers = {
        "ais": mean(columns["ais"], "nats", words),
        "ais_effective_chains": mean(columns["effective"], "1", f"(sum w)^2 / sum w^2 of {chains} chains"),
    }
    if steps > 1:
        accepted = f"of Hamiltonian proposals; step sizes aim at {ACCEPTANCE}"
        numbers["ais_acceptance"] = mean(columns["acceptance"], "1", accepted)
    return numbers


def bidirectional_estimates(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    keep: Keep | None = None,
    tell: Tell | None = None,
    chains: int = 16,
    steps: int = 500,
    leapfrog: int = 10,
    start: Literal["prior", "posterior"] = "posterior",
) -> dict[str, Estimate]:
    r"""log p(x) of data simulated from the model, from below and from above: how far annealing can be trusted on this model.

    z is drawn from the prior and x from p(x|z), so z is an exact draw from the posterior of x, and the chains can be run backwards
    from it: from p(x, z) to :math:`f_0`. Of these :math:`E[1 / w] = 1 / p(x)`, so the negative logarithm of the mean of 1 / w is in
    expectation above log p(x), whose distance from the bound from below says how far either can be from the truth. All reverse
    chains of an example begin at the one exact draw: each by itself is unbiased, so their mean is, too.

    Arguments:
        model: As for `ais_estimates`.
        split: Gives the number of examples and what they are conditioned on; their values are not looked at.
        plan: As for `ais_estimates`, and all that follows.
        keep: Likewise.
        tell: Likewise.
        chains: Forward, and as many in reverse.
        steps: T.
        leapfrog: Steps of each trajectory.
        start: Where forward chains begin and reverse chains end.

    Returns:
        `bdmc_lower`, `bdmc_upper` and `bdmc_gap`, the mean of their differences, in nats.

    Raises:
        ConfigError: As for `ais_estimates`; or if p(x|z) is over several views of an image, which no draw can have all of.

    References:
        | Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse, Ghahramani and Adams, 2015), section 4
        | https://arxiv.org/abs/1511.02543
        | On the Quantitative Analysis of Decoder-Based Generative Models (Wu, Burda, Salakhutdinov and Grosse, 2017), section 3.3
        | https://arxiv.org/abs/1611.04273
    """
    annealing = Annealing(chains, steps, leapfrog, start)

    def measure(model: VAE, batch: Batch, plan: Plan) -> dict[str, Tensor]:
        context = _double(batch.context)
        x, z = simulated(model, context, plan.seed, batch.index)
        sampler = Sampler(model, x, context, annealing, plan.seed, batch.index)
        sizes = sampler.tuned()
        (up, _), (down, _) = sampler.forward(sizes), sampler.reverse(z, sizes)
        return {"lower": importance_bound(up), "upper": -importance_bound(down)}

    columns = _each(model, split, plan, measure, annealing, "bdmc", keep, tell)
    words = f"of data simulated from the model, {annealing.words}"
    lower, upper = columns["lower"], columns["upper"]
    return {
        "bdmc_lower": mean(lower, "nats", f"a stochastic lower bound on log p(x) {words}"),
        "bdmc_upper": mean(
            upper, "nats", f"a stochastic upper bound on log p(x) {words}, in reverse from an exact draw"
        ),
        "bdmc_gap": mean(upper - lower, "nats", "bdmc_upper - bdmc_lower: log p(x) of simulated data lies between"),
    }


def simulated(model: VAE, context: Tensor | None, seed: int, index: Tensor) -> tuple[Tensor, Tensor]:
    """Data and the latents that they were drawn from, (B, *x) and (1, B, L): an exact draw from the posterior of these data."""
    with use(PerExample(seed, index, stream=SIMULATED)):
        z = prior_draw(model, len(index))
        _, px = model.prior_and_likelihood(z, context)
        if isinstance(px, Pyramid):
            raise ConfigError(
                "This model is a density of several views of an image together, and a draw from it has no image that shows all of "
                "them: nothing can be simulated to run in reverse from. Take annealed importance sampling alone."
            )
        return reparameterised(px)[0], z


def _each(
    model: VAE,
    split: Split,
    plan: Plan,
    measure: Callable[[VAE, Batch, Plan], dict[str, Tensor]],
    annealing: Annealing,
    name: str,
    keep: Keep | None,
    tell: Tell | None,
) -> dict[str, Tensor]:
    if not model.bounded:
        raise ConfigError(
            "This model has no density q(z|x), so it gives no log p(x) to estimate: train one that has, such as model=mlp."
        )
    if not is_real(model, split, plan):
        raise ConfigError(
            "The latents of this model are not real numbers but codes, categories or the like, along which no gradient leads: "
            "take the importance-weighted bound, --bounds 5000."
        )
    ledger = None if keep is None else keep(name, asdict(annealing))
    rows, values = _BUSY.get(split.stored.device.type, (_ROWS, _VALUES))
    # few enough that the chains that find step sizes fit in at once: how many they are must not depend on the batch. And always as
    # many, whatever the plan says: a long trajectory that is not stable makes of the last bit, in which a product of another shape
    # differs, another step size and so another number
    most = values // (max(TUNERS, annealing.chains) * model.event_shape.numel())
    small = replace(plan, batch_size=max(1, min(rows // annealing.chains, most)))
    return each(_in_float64(model), split, small, measure, ledger=ledger, tell=tell)


def _in_float64(model: VAE) -> VAE:
    """A copy that nobody trains, on the CPU where its device has no float64."""
    copied = copy.deepcopy(model)
    if next(model.parameters()).device.type == "mps":
        copied = copied.cpu()
    return copied.double().requires_grad_(False)


def _double(values: Tensor | None) -> Any:
    """In float64, if they are no whole numbers; on the CPU where their device has no float64."""
    if values is not None and values.device.type == "mps":
        values = values.cpu()
    return values.double() if values is not None and values.is_floating_point() else values
