"""Long flags for people who come from scripts: one table from a flag to the override that it stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vaekit.errors import ConfigError, closest

Overrides = Callable[[str], list[str]]


@dataclass(frozen=True)
class Flag:
    """A long flag.

    Attributes:
        name: Without dashes, words joined by `-`; `_` is accepted as well.
        says: What it stands for, as printed by `--help`.
        overrides: From its value to overrides.
        switch: Whether it may stand alone, for true.
    """

    name: str
    says: str
    overrides: Overrides
    switch: bool = False


def _key(key: str) -> Overrides:
    return lambda value: [f"{key}={value}"]


def _text(key: str) -> Overrides:
    return lambda value: [f"{key}={quoted(value)}"]


def _one_of(flag: str, table: Mapping[str, str]) -> Overrides:
    def overrides(value: str) -> list[str]:
        if value not in table:
            raise ConfigError(f"--{flag} is {value!r}, expected {' or '.join(table)}.")
        return [table[value]] if table[value] else []

    return overrides


def _switch(flag: str, on: str, off: str) -> Overrides:
    return lambda value: _one_of(flag, {"true": on, "false": off})(value.lower())


FLAGS = (
    Flag("exp-name", "name", _text("name")),
    Flag("data-path", "data.path", _text("data.path")),
    Flag("dataset", "data", _key("data")),
    Flag("model", "model", _key("model")),
    Flag(
        "model-type", "model: fc (mlp) or conv (cnn)", _one_of("model-type", {"fc": "model=mlp", "conv": "model=cnn"})
    ),
    Flag("input-dim", "input_dim", _key("input_dim")),
    Flag("hidden-dim", "hidden_dim", _key("hidden_dim")),
    Flag("hidden-size", "hidden_dim", _key("hidden_dim")),
    Flag("z-dim", "latent_dim", _key("latent_dim")),
    Flag("code-size", "latent_dim", _key("latent_dim")),
    Flag("latent-dim", "latent_dim", _key("latent_dim")),
    Flag("batch-size", "training.batch_size", _key("training.batch_size")),
    Flag("epochs", "training.epochs", _key("training.epochs")),
    Flag("lr", "optimizer.lr", _key("optimizer.lr")),
    Flag("gradient-clip", "training.gradient_clip", _key("training.gradient_clip")),
    Flag("seed", "seed", _key("seed")),
    Flag(
        "recon",
        "likelihood: bce (bernoulli) or gaussian (normal)",
        _one_of("recon", {"bce": "likelihood=bernoulli", "gaussian": "likelihood=normal"}),
    ),
    Flag("sigma", "sigma", _key("sigma")),
    Flag(
        "sigma-learnable",
        "likelihood=normal_learned",
        _switch("sigma-learnable", "likelihood=normal_learned", ""),
        switch=True,
    ),
    Flag(
        "include-const",
        "training.include_const=true",
        _switch("include-const", "training.include_const=true", "training.include_const=false"),
        switch=True,
    ),
    Flag(
        "kl",
        "objective.terms.kl.kind: analytic or mc",
        _one_of(
            "kl",
            {
                "analytic": "objective.terms.kl.kind=objectives.KL",
                "mc": "objective.terms.kl.kind=objectives.MonteCarloKL",
            },
        ),
    ),
    Flag("beta", "beta", _key("beta")),
    Flag(
        "reduction",
        "objective.reduction.kind: sum or mean",
        _one_of(
            "reduction",
            {
                "sum": "objective.reduction.kind=objectives.SumReduction",
                "mean": "objective.reduction.kind=objectives.MeanReduction",
            },
        ),
    ),
    Flag("output-dir", "output_dir", _text("output_dir")),
    Flag("device", "device: auto, cuda, mps or cpu", _text("device")),
    *(
        Flag(key.replace("_", "-"), f"{key}, of model=progressive and residual_progressive", _key(key))
        for key in ("epochs_per_stage", "fadein_ratio", "start_res", "final_res", "base_ch", "min_ch")
    ),
)
_FLAGS = {flag.name: flag for flag in FLAGS}


def _devices(value: str) -> list[str]:
    if value not in ("1", "auto"):
        raise ConfigError(
            f"trainer.devices={value}: a training uses one device; write trainer.devices=1 or leave it out."
        )
    return []


# dotted names of Hydra-style VAE configurations
DOTTED: Mapping[str, Overrides] = {
    "model.kld_weight": _key("kld_weight"),
    "model.net.latent_dim": _key("latent_dim"),
    "model.net.hidden_dims": _key("hidden_dims"),
    "model.net.activation": _key("activation"),
    "model.net.dropout_rate": _key("dropout_rate"),
    "model.net.use_batch_norm": _key("use_batch_norm"),
    "model.optimizer.lr": _key("optimizer.lr"),
    "model.optimizer.weight_decay": _key("optimizer.weight_decay"),
    "trainer.gradient_clip_val": _key("training.gradient_clip"),
    "trainer.max_epochs": _key("training.epochs"),
    "trainer.devices": _devices,
}


def translate(arguments: Sequence[str]) -> list[str]:
    """Overrides for a mix of long flags, dotted aliases and overrides, in their order; the last one for a key counts.

    Raises:
        ConfigError: For an unknown flag (with the closest ones), or a flag without its value.
    """
    given = _given(arguments)
    together = {name: value for name, value in given if name}
    _check_together(together)
    overrides: list[str] = []
    for name, value in given:
        if not name:
            overrides += _dotted(value)
        elif name == "recon" and together[name] == "gaussian" and together.get("sigma-learnable", "").lower() == "true":
            overrides += _FLAGS["sigma-learnable"].overrides("true")  # in either order: scripts take flags in any
        elif value == together[name]:
            overrides += _FLAGS[name].overrides(value)
    return overrides


def _given(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Flags by name with their values, and everything else under no name."""
    given: list[tuple[str, str]] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument.startswith("-") and not argument.startswith("--"):
            raise ConfigError(_short(argument))
        if not argument.startswith("--"):
            given.append(("", argument))
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("_", "-")
        if name not in _FLAGS:
            raise ConfigError(f"there is no flag --{name}{closest(name, _FLAGS)}")
        given.append((name, value if equals else _value(_FLAGS[name], waiting)))
    return given


def table() -> str:
    """The flags and what they stand for, for `--help`."""
    return "\n".join(f"  --{flag.name:<18}{flag.says}" for flag in FLAGS)


def quoted(text: str) -> str:
    """Text as an override's value, whatever characters it has."""
    literal = re.sub(
        r"(\\*)\$\{", r"\1\1\\${", text
    )  # no interpolation: a backslash before it, and those before doubled
    # Hydra reads backslashes as such except before a quote
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), literal)
    return f'"{escaped}"'


def _value(flag: Flag, waiting: list[str]) -> str:
    following = waiting[0] if waiting else None
    if flag.switch:
        return waiting.pop(0).lower() if following is not None and following.lower() in ("true", "false") else "true"
    if following is None or following.startswith("--"):
        raise ConfigError(f"--{flag.name} needs a value: --{flag.name} VALUE stands for {flag.says}.")
    return waiting.pop(0)


def _dotted(argument: str) -> list[str]:
    key, _, value = argument.partition("=")
    # a value of the form COLUMN=VALUE, which Hydra's grammar wants in quotes, and a shell takes them away
    if key == "data.ood" and "=" in value and value[0] not in "\"'":
        return [f"{key}={quoted(value)}"]
    return DOTTED[key](value) if key in DOTTED else [argument]


def _short(argument: str) -> str:
    if argument in ("-m", "--multirun"):
        return "-m asks for a sweep: write vaekit sweep, or vaekit train ... -m."
    return f"there is no flag {argument}; long flags have two dashes, overrides none: key=value."


def _check_together(given: Mapping[str, str]) -> None:
    if given.get("recon") == "bce" and given.get("sigma-learnable", "").lower() == "true":
        raise ConfigError("--sigma_learnable belongs to --recon gaussian: a Bernoulli likelihood has no sigma.")
