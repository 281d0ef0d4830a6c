"""From a resolved configuration to data, a model and a session that can train: the one place where all parts meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from vaekit.builder import build, build_model, complete
from vaekit.compose import resolve
from vaekit.conditionals import Quantized
from vaekit.conditionals.base import Conditional
from vaekit.data import Dataset
from vaekit.data.stream import Stream
from vaekit.distributions.noise import PerExample, use
from vaekit.errors import ConfigError
from vaekit.evaluation.codebook import codebook_numbers, codes
from vaekit.evaluation.passes import Plan as EvaluationPlan
from vaekit.evaluation.passes import batches, measuring
from vaekit.evaluation.rate_distortion import bound_terms
from vaekit.likelihoods import Columns
from vaekit.likelihoods.base import DataRange
from vaekit.models.vae import VAE
from vaekit.networks import Network
from vaekit.networks.linear import UNCOUNTED
from vaekit.objectives import Bound, Objective, effective_beta
from vaekit.objectives.base import Role, SumReduction, Term
from vaekit.priors import Vamp
from vaekit.schedules import Schedule, advance, last_end
from vaekit.training import Plan, sole_player
from vaekit.training.device import Generators, thread_count
from vaekit.training.history import History, Row
from vaekit.training.rate import Along, Pace
from vaekit.training.session import Session

# the validation noise of every epoch is the same, so that epochs differ by their weights alone
VALIDATION_SEED = 1
# training examples that parts which start from the data are shown, and as many values as these may have in all
_LOOK, _LOOK_VALUES = 2000, 1 << 24


def open_data(node: Mapping[str, Any]) -> Dataset:
    """The data that a configuration names."""
    dataset = build(node, where="data")
    if not isinstance(dataset, Dataset):
        raise ConfigError(
            f"data.kind is {node['kind']!r}, which makes no data set; write data=digits, or another of its group."
        )
    return dataset


def make_session(config: Mapping[str, Any], dataset: Dataset, device: torch.device) -> Session:
    """A session at its first step.

    Arguments:
        config: Resolved.
        dataset: On `device`.
        device: Where to train.

    Raises:
        ConfigError: If a part cannot be built, the data do not fit the likelihood, or a schedule ends after the training.
    """
    plan: Plan = build(config["training"], where="training")
    generators = Generators(device, seed_of(config))
    with generators.borrowed():
        model, objective = build_model(config).to(device), build_objective(config).to(device)
    _check(config, dataset, model)
    _check_objective(config, objective, model)
    _begin(model, dataset)
    optimizer, pace = build(config["optimizer"], where="optimizer"), build_pace(config)
    players = [sole_player(nn.ModuleList([model, objective]), optimizer, plan.gradient_clip, pace)]
    stream = Stream(dataset.train, plan.batch_size, seed_of(config))
    end = max(last_end(nn.ModuleList([model, objective])), pace.end)
    _check_schedules(end, plan.epochs * stream.steps_per_epoch)
    kept = plan.include_const or not objective.plain  # a term held to a target is not the sum of its parts
    history = History(constant=0.0 if kept else model.likelihood.constant)
    session = Session(model, objective, players, stream, generators, history, dataset.fingerprint(), config)
    session.samples, session.compiling.wanted = plan.samples, plan.compile
    session.flops, session.products = _flops(session, plan)
    session.threads = thread_count(session.flops)
    _check_terms(session)
    return session


def build_objective(config: Mapping[str, Any]) -> Objective:
    """The objective of a configuration."""
    objective = build(config["objective"], where="objective")
    if not isinstance(objective, Objective):
        raise ConfigError(f"objective.kind is {config['objective']['kind']!r}; write objective=elbo.")
    return objective


def build_pace(config: Mapping[str, Any]) -> Pace:
    """How the learning rate of a configuration moves."""
    made = build(config.get("schedule", {"kind": "schedules.Constant", "value": 1.0}), where="schedule")
    if isinstance(made, Schedule):
        try:
            return Along(made)
        except ValueError as error:
            raise ConfigError(f"schedule: {error}") from error
    if not isinstance(made, Pace):
        raise ConfigError(
            f"schedule is {made!r}, which does not say how a learning rate moves; write schedule=constant, or another of its group."
        )
    return made


def seed_of(config: Mapping[str, Any]) -> int:
    """The run's seed.

    Raises:
        ConfigError: If it is not an integer that torch can start from.
    """
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ConfigError(f"seed is {seed!r}, expected an integer from 0 to 2**63 - 1.")
    return seed


def validate(session: Session, dataset: Dataset, plan: EvaluationPlan) -> tuple[Row, float]:
    """Numbers on the validation split after an epoch, and the score that chooses the best weights.

    The bound's two parts, the ELBO, and the loss with the present weights where it is made of these alone. They are evaluated
    numbers: the likelihood's constant is in all of them, whatever the training loss leaves out. The score is the ELBO; for an
    objective that is one importance-weighted bound it is that bound with as many samples as in training; for a model whose
    ELBO bounds nothing, a plain autoencoder, it is the reconstruction; and with a `kld_weight` it is minus the loss, because who
    weighs the KL beside a mean squared error has chosen a loss and no density: the ELBO at sigma = 1 would keep an early epoch of
    a model that is to reconstruct, and of one that is to compress whichever has done so least.
    """
    objective, bounded = session.objective, session.model.bounded
    weighted = bool(objective.having(Role.BOUND))
    single = EvaluationPlan(plan.batch_size, session.samples if weighted else 1, VALIDATION_SEED)
    own = {name: term.bound for name, term in objective.named_terms().items() if isinstance(term, Bound)}
    own = own if bounded and weighted else {}
    terms = bound_terms(session.model, dataset.validation, single, own)
    measured = {Role.DISTORTION: float(terms.distortion.mean())}
    row = {"val/recon_loss": measured[Role.DISTORTION]}
    score = -measured[Role.DISTORTION]
    if bounded:
        measured[Role.RATE] = float(terms.rate.mean())
        measured[Role.BOUND] = -float(terms.importance.mean())
        score = -(measured[Role.DISTORTION] + measured[Role.RATE])
        row |= {"val/kl_loss": measured[Role.RATE], "val/elbo": score}
    if bounded and weighted:
        score = -measured[Role.BOUND]
        row[f"val/iwae_{session.samples}"] = score
    used = codes(session.model, dataset.validation, single)
    if used is not None:
        row |= {f"val/{name}": value for name, value in codebook_numbers(*used).items()}
    if objective.plain and set(objective.roles.values()) <= set(measured):
        coefficients = _coefficients(session)
        nats = {name: measured[role] for name, role in objective.roles.items()}
        nats |= {name: -float(values.mean()) for name, values in terms.bounds.items()}
        row["val/loss"] = sum(coefficients[name] * value for name, value in nats.items())
        if session.config.get("kld_weight") is not None:
            score = -row["val/loss"]
    return row, score


def beta_of(session: Session) -> float | None:
    """The effective beta at the present step, from one example's shapes."""
    return effective_beta(session.objective, _tiny_trace(session))


def _coefficients(session: Session) -> dict[str, float]:
    objective = session.objective
    # a sum asks no trace for its number of elements
    trace: Any = None if isinstance(objective.reduction, SumReduction) else _tiny_trace(session)
    return {name: float(value) for name, value in objective.coefficients(trace).items()}


def _flops(session: Session, plan: Plan) -> tuple[float, float]:
    """Floating point operations of a training step of the model in its final form: roughly, and those of its products alone.

    The first number decides how many threads a training has, and so its last bits: it stays what it is, a forward as if every
    example and draw had an encoder and a prior of its own, and twice as many backward. The second is what a step does.
    """
    advance(session.model, last_end(session.model))
    alone, size = _flops_of(session, 1, 1), session.stream.batch_size
    one = alone if plan.samples == 1 else _flops_of(session, 1, plan.samples)
    two = _flops_of(session, 2, plan.samples)
    # a prior may ask the encoder as well, and does so once, whatever the batch
    forward, of_data = (first + (size - 1) * (second - first) for first, second in zip(one, two, strict=True))
    return 3.0 * alone[0] * size * plan.samples, 3.0 * forward - of_data


def _flops_of(session: Session, examples: int, samples: int) -> tuple[int, int]:
    """Of a forward; and of those layers alone whose input hangs on no parameter, so that there is no gradient of it."""
    began, of_data = 0, 0

    def enter(module: nn.Module, given: Any) -> None:
        nonlocal began
        began = counter.get_total_flops()

    def leave(module: nn.Module, given: Any, _: Any) -> None:
        nonlocal of_data
        inputs = [value for value in given if isinstance(value, Tensor)]
        innermost = next(module.children(), None) is None
        if innermost and inputs and not any(value.requires_grad for value in inputs):
            of_data += counter.get_total_flops() - began

    with (
        FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter,
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave),
    ):
        _tiny_trace(session, examples, samples, graph=True)
    return counter.get_total_flops(), of_data


def _tiny_trace(session: Session, examples: int = 1, samples: int = 1, graph: bool = False) -> Any:
    model: VAE = session.model
    weight = next(model.parameters())
    with torch.set_grad_enabled(graph), session.generators.untouched():
        mode = model.training
        first = session.stream.split.batch(torch.zeros(examples, dtype=torch.int64, device=weight.device))
        trace = model.eval()(first.x.to(weight.dtype), samples, first.context)
        model.train(mode)
    return trace


def _begin(model: VAE, dataset: Dataset) -> None:
    """Let the parts that start from the data look at them, and the decoder begin where the likelihood wants it to."""
    count = min(_LOOK, max(1, _LOOK_VALUES // model.event_shape.numel()))
    # at random: folders of images are sorted by class
    chosen = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))[:count]
    chosen = chosen.to(dataset.train.stored.device)
    with measuring(model), use(PerExample(0, chosen)):
        examples = dataset.train.batch(chosen).x
    for part in model.modules():
        if isinstance(part, Conditional):
            part.begin(examples)
    if not isinstance(model.decoder, Network) or model.likelihood.beginning(torch.zeros(model.event_shape)) is None:
        return
    total = torch.zeros(model.event_shape, dtype=torch.float64)
    with measuring(model):
        for batch in batches(dataset.train, EvaluationPlan(batch_size=1000)):
            total += batch.x.sum(0).cpu().double()
    mean = (total / len(dataset.train)).to(next(model.parameters()))
    output = model.likelihood.beginning(mean)
    assert output is not None
    model.decoder.begin_at(output)


def resolved(composed: DictConfig, dataset: Dataset) -> dict[str, Any]:
    """The configuration of a training on these data: what the data alone know is filled in, and every default written out."""
    config: dict[str, Any] = complete(
        resolve(
            composed,
            dataset.event_shape,
            examples=len(dataset.train),
            num_classes=dataset.num_classes,
            levels=dataset.levels,
            num_conditions=dataset.num_conditions,
            num_batches=dataset.num_batches,
            columns=dataset.columns,
        )
    )
    return config


def _check(config: Mapping[str, Any], dataset: Dataset, model: VAE) -> None:
    if model.conditional and any(isinstance(part, Vamp) for part in model.hierarchy.modules()):
        raise ConfigError(
            "The VampPrior asks the encoder about inputs of its own, which have no class or condition, and this model is "
            "conditional: write another prior, such as prior=mixture."
        )
    if model.conditional and dataset.train.conditions is None:
        _check_labels(dataset)
    if any(kind > 0 for kind in dataset.columns or ()) and model.likelihood.discrete:
        raise ConfigError(
            f"{config['likelihood']['kind']} takes the levels of a category for values of their own, of which any number may be 1: "
            "write likelihood=columns."
        )
    # the loss of an autoencoder is no density to begin with
    if dataset.columns and any(dataset.columns) and model.bounded and not isinstance(model.likelihood, Columns):
        raise ConfigError(
            f"{config['likelihood']['kind']} would be a density of levels of a category, and of whether a number is missing: write "
            "likelihood=columns, or model=table_vae."
        )
    try:
        model.likelihood.check(DataRange(dataset.low, dataset.high, dataset.levels, dataset.remedies, dataset.counts))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_labels(dataset: Dataset) -> None:
    """All of them, once: a recorded step does not look at values."""
    for part in dataset.splits:
        if part.labels is not None and part.labels.numel():
            least, most = (int(end) for end in part.labels.aminmax())
            if least < 0 or most >= dataset.num_classes:
                raise ConfigError(
                    f"The data have classes 0 to {dataset.num_classes - 1}, and labels from {least} to {most}: give labels of "
                    "those classes, or names for all of them."
                )


def _check_objective(config: Mapping[str, Any], objective: Objective, model: VAE) -> None:
    terms = objective.named_terms().items()
    bound = [name for name, term in terms if term.role in (Role.RATE, Role.BOUND) or isinstance(term, Bound)]
    if bound and not model.bounded:
        raise ConfigError(
            f"The objective's term {bound[0]!r} needs a density q(z|x), and this model has none: write "
            "objective=reconstruction, or posterior=normal."
        )
    # what chooses one code of many is held by their number
    codes = all(isinstance(level.posterior, Quantized) for level in model.hierarchy.open())
    if model.bounded and not codes and set(objective.roles.values()) <= {Role.DISTORTION, Role.PENALTY}:
        raise ConfigError(
            f"No term of the objective ({', '.join(objective.roles)}) holds q(z|x) to the prior, whose samples would mean nothing "
            "to the decoder: write posterior=delta prior=fitted_normal, or objective=elbo."
        )


def _check_terms(session: Session) -> None:
    """Show one example, with as many draws as in training, to the terms that cannot be had of every model."""
    asked = {name: term for name, term in session.objective.named_terms().items() if type(term).check is not Term.check}
    if not asked:
        return
    model, split = session.model, session.stream.split
    weight = next(model.parameters())
    with session.generators.untouched(), torch.enable_grad():
        mode = model.training
        first = split.batch(torch.zeros(1, dtype=torch.int64, device=weight.device))
        trace = model.eval()(first.x.to(weight.dtype), session.samples, first.context)
        model.train(mode)
        for name, term in asked.items():
            try:
                term.check(trace)
            except ValueError as error:
                raise ConfigError(f"objective.terms.{name}: {error}") from error


def _check_schedules(end: int, steps: int) -> None:
    if end > steps:
        raise ConfigError(
            f"A schedule reaches its final value at step {end:,}, but the training ends at step {steps:,}: shorten the schedule "
            "(epochs_per_stage for a model that grows), or raise training.epochs."
        )
