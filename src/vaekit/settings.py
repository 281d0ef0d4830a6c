"""Root keys that several parts follow, or that stand for others: widths of both networks, a KL weight beside a mean for beta."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vaekit.errors import ConfigError

# what `network=wide` calls an argument of both sides, and what other networks call it
SIDES = {"hidden_dims": "hidden_dims", "activation": "activation", "dropout_rate": "dropout", "use_batch_norm": "norm"}
_WIDE = ("networks.wide_encoder", "networks.wide_decoder")
ESCAPED = re.compile(r"(?<!\\)\\(\\\\)*\$\{")
INTERPOLATION = re.compile(r"\$\{[\w.]+\}")


def both_sides(text: str, config: DictConfig) -> list[str]:
    """The override ``hidden_dims=[1024,512]`` as overrides of encoder and decoder, unless the network has that root key itself.

    Raises:
        ConfigError: If `use_batch_norm` is neither true nor false.
    """
    key, _, value = text.lstrip("+").partition("=")
    if key not in SIDES or key in config:
        return [text]
    encoder = decoder = value
    if key == "hidden_dims":
        widths = [width.strip() for width in value.strip("[]() ").split(",") if width.strip()]
        encoder, decoder = f"[{','.join(widths)}]", f"[{','.join(reversed(widths))}]"
    if key == "use_batch_norm":
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"use_batch_norm is {value!r}, expected true or false.")
        if value.lower() == "false":
            return []
        encoder = decoder = "batch"
    return [f"network.encoder.{SIDES[key]}={encoder}", f"network.decoder.{SIDES[key]}={decoder}"]


def check_settings(config: DictConfig) -> None:
    """Raise for a setting of several parts that none reads: two values that are equal are not yet one that follows the other."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    read = {name for text in texts(plain) for name in INTERPOLATION.findall(ESCAPED.sub("", text))}
    if plain["beta"] != 1.0 and "${beta}" not in read:
        raise ConfigError(
            f"beta={plain['beta']} has no effect on this objective: none of its weights follows beta; leave it out, or write "
            "objective=elbo."
        )
    if plain["sigma"] != 1.0 and "${sigma}" not in read:
        raise ConfigError(
            f"sigma={plain['sigma']} has no effect on {plain['likelihood']['kind']}; leave it out, or write likelihood=normal."
        )
    _check_sides(plain, read)


def check_one_weight(config: DictConfig, given: Collection[str]) -> None:
    """Raise if the KL is given two weights, `beta` and `kld_weight`.

    Arguments:
        config: Composed.
        given: The keys of the overrides.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    beta, weight = plain["beta"], plain["kld_weight"]
    if weight is not None and ("beta" in given or beta != 1.0):
        raise ConfigError(
            f"beta={beta} and kld_weight={weight} both weigh the KL: leave one out; kld_weight=null takes back that of a model."
        )


def beta_of_kld_weight(config: Mapping[str, Any], objective: Mapping[str, Any]) -> float:
    """The beta that a `kld_weight` is for these data: `objectives.equivalent_beta`.

    Arguments:
        config: Plain.
        objective: Its node while interpolations were open.

    Raises:
        ConfigError: If it is no weight, or the likelihood or the objective are others than those that it is defined for.
    """
    from vaekit.objectives import equivalent_beta  # loads torch

    weight, likelihood = config["kld_weight"], config["likelihood"]
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0.0 <= weight < math.inf:
        raise ConfigError(f"kld_weight is {weight!r}, expected a number of 0 or more, or null.")
    scale = likelihood.get("scale")
    if likelihood["kind"] != "likelihoods.Normal" or scale not in (None, 1.0):
        raise ConfigError(
            f"kld_weight={weight} stands beside a mean squared error, the loss of likelihood=normal with sigma=1, and this "
            f"likelihood is {likelihood['kind']}{'' if scale is None else f' with scale {scale}'}: "
            "write likelihood=normal sigma=1, or kld_weight=null and a beta."
        )
    if not _is_elbo(objective):
        raise ConfigError(
            f"kld_weight={weight} weighs the KL beside the reconstruction, both of them sums, and this objective is another: write "
            "objective=elbo, or kld_weight=null."
        )
    return equivalent_beta(float(weight), config["input_dim"])


def refuse_sweep(config: DictConfig) -> None:
    """Raise for a configuration that describes many runs."""
    sweep = config.get("sweep")
    if sweep is not None:
        over = f", over {' and '.join(map(str, sweep))}" if isinstance(sweep, DictConfig) else ""
        raise ConfigError(
            f"This configuration describes a sweep{over}: write vaekit sweep in place of vaekit train, or sweep=null for one run."
        )


def _is_elbo(objective: Mapping[str, Any]) -> bool:
    """Whether an objective is reconstruction + beta x KL, both of them sums."""
    terms, weights, reduction = (objective.get(name) or {} for name in ("terms", "weights", "reduction"))
    kinds = {name: (term or {}).get("kind") for name, term in terms.items()}
    return (
        set(kinds) == {"recon", "kl"}
        and kinds["recon"] == "objectives.Reconstruction"
        and kinds["kl"] in ("objectives.KL", "objectives.MonteCarloKL")
        and weights.get("recon", 1.0) == 1.0
        and weights.get("kl") == "${beta}"
        and reduction.get("kind", "objectives.SumReduction") == "objectives.SumReduction"
    )


def _check_sides(config: Any, read: Collection[str]) -> None:
    """Raise for a width, an activation or the like at the root that no network reads.

    Arguments:
        config: Plain, its interpolations still open.
        read: The interpolations in it.
    """
    kinds = {str(side.get("kind")) for side in config["network"].values() if isinstance(side, dict)}
    for key in SIDES:
        if key in config and f"${{{key}}}" not in read and not kinds & set(_WIDE):
            raise ConfigError(
                f"{key}={config[key]} has no effect on {' and '.join(sorted(kinds)) or 'this network'}; write network=wide, or "
                "choose a model that has no wide network."
            )


def texts(node: Any) -> Iterator[str]:
    """Every text in a plain configuration."""
    if isinstance(node, Mapping):
        for child in node.values():
            yield from texts(child)
    elif isinstance(node, list):
        for child in node:
            yield from texts(child)
    elif isinstance(node, str):
        yield node
