"""From a resolved configuration to data, a model and a session that can train: the one place where all parts meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vaekit.builder import build, build_model
from vaekit.data import Dataset
from vaekit.data.stream import Stream
from vaekit.errors import ConfigError
from vaekit.evaluation.passes import Plan as EvaluationPlan
from vaekit.evaluation.passes import batches, measuring
from vaekit.evaluation.rate_distortion import bound_terms
from vaekit.likelihoods.normal import SharedScaleNormal
from vaekit.models.vae import VAE
from vaekit.networks import Network
from vaekit.objectives import Objective, effective_beta
from vaekit.schedules import last_end
from vaekit.training import Plan, sole_player
from vaekit.training.device import Generators, thread_count
from vaekit.training.history import History, Row
from vaekit.training.session import Session

# the validation noise of every epoch is the same, so that epochs differ by their weights alone
VALIDATION_SEED = 1


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
    _begin(model, dataset)
    players = [
        sole_player(
            nn.ModuleList([model, objective]), build(config["optimizer"], where="optimizer"), plan.gradient_clip
        )
    ]
    stream = Stream(dataset.train, plan.batch_size, seed_of(config))
    _check_schedules(objective, plan.epochs * stream.steps_per_epoch)
    history = History(constant=0.0 if plan.include_const else model.likelihood.constant)
    session = Session(model, objective, players, stream, generators, history, dataset.fingerprint(), config)
    session.threads = thread_count(_flops(session, plan))
    return session


def build_objective(config: Mapping[str, Any]) -> Objective:
    """The objective of a configuration."""
    objective = build(config["objective"], where="objective")
    if not isinstance(objective, Objective):
        raise ConfigError(f"objective.kind is {config['objective']['kind']!r}; write objective=elbo.")
    return objective


def seed_of(config: Mapping[str, Any]) -> int:
    """The run's seed.

    Raises:
        ConfigError: If it is not an integer that torch can start from.
    """
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ConfigError(f"seed is {seed!r}, expected an integer from 0 to 2**63 - 1.")
    return seed


def validate(session: Session, dataset: Dataset, plan: EvaluationPlan) -> Row:
    """Numbers on the validation split after an epoch: the bound's two parts, the ELBO, and the loss with the present weights.

    They are evaluated numbers: the likelihood's constant is in all of them, whatever the training loss leaves out.
    """
    single = EvaluationPlan(plan.batch_size, 1, VALIDATION_SEED)
    terms = bound_terms(session.model, dataset.validation, single)
    reconstruction, kl = float(terms.distortion.mean()), float(terms.rate.mean())
    row = {"val/recon_loss": reconstruction, "val/kl_loss": kl, "val/elbo": -(reconstruction + kl)}
    coefficients = _coefficients(session)
    if {"recon", "kl"} == set(coefficients):
        row = {"val/loss": coefficients["recon"] * reconstruction + coefficients["kl"] * kl, **row}
    return row


def beta_of(session: Session) -> float | None:
    """The effective beta at the present step, from one example's shapes."""
    return effective_beta(session.objective, _tiny_trace(session))


def _coefficients(session: Session) -> dict[str, float]:
    return {name: float(value) for name, value in session.objective.coefficients(_tiny_trace(session)).items()}


def _flops(session: Session, plan: Plan) -> float:
    """Floating point operations of a training step: forward, and twice as many backward."""
    with FlopCounterMode(display=False) as counter:
        _tiny_trace(session)
    return 3.0 * float(counter.get_total_flops()) * session.stream.batch_size * plan.samples


def _tiny_trace(session: Session) -> Any:
    model: VAE = session.model
    weight = next(model.parameters())
    with torch.no_grad(), session.generators.untouched():
        mode = model.training
        trace = model.eval()(torch.zeros(1, *model.event_shape, dtype=weight.dtype, device=weight.device))
        model.train(mode)
    return trace


def _begin(model: VAE, dataset: Dataset) -> None:
    """Let the decoder begin where the likelihood wants it to."""
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


def _check(config: Mapping[str, Any], dataset: Dataset, model: VAE) -> None:
    if config.get("sigma", 1.0) != 1.0 and not isinstance(model.likelihood, SharedScaleNormal):
        raise ConfigError(
            f"sigma={config['sigma']} has no effect on {config['likelihood']['kind']}; write likelihood=normal too."
        )
    try:
        model.likelihood.check(dataset.low, dataset.high, dataset.remedies)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_schedules(objective: nn.Module, steps: int) -> None:
    end = last_end(objective)
    if end > steps:
        raise ConfigError(
            f"A schedule reaches its final value at step {end:,}, but the training ends at step {steps:,}: shorten the schedule, "
            "or raise training.epochs."
        )
