"""Remedies as commands: the command of the run with something changed, without what would contradict the change."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

# likelihoods that start from, or stay at, `sigma`
_READ_SIGMA = ("normal", "normal_learned", "laplace", "laplace_learned")
# long flags that say the same as an override, by its key
_FLAGS = {
    "likelihood": ("recon", "sigma-learnable"),
    "sigma": ("sigma",),
    "beta": ("beta",),
    "training.epochs": ("epochs",),
    "optimizer.lr": ("lr",),
    "training.batch_size": ("batch-size",),
    "training.gradient_clip": ("gradient-clip",),
    "objective.reduction.kind": ("reduction",),
    "latent_dim": ("z-dim", "code-size", "latent-dim"),
    "hidden_dim": ("hidden-dim", "hidden-size"),
}
# names of other configurations that are accepted for a key
_DOTTED = {
    "kld_weight": ("model.kld_weight",),
    "optimizer.lr": ("model.optimizer.lr",),
    "training.epochs": ("trainer.max_epochs",),
    "training.gradient_clip": ("trainer.gradient_clip_val",),
    "latent_dim": ("model.net.latent_dim",),
    "dropout_rate": ("model.net.dropout_rate",),
    "activation": ("model.net.activation",),
}


def prescribed(command: str, change: str, config: Mapping[str, Any]) -> str:
    """The command with a change, which may be several overrides with spaces between.

    Arguments:
        command: As it was written, quoted for a shell.
        change: Overrides, quoted for a shell.
        config: What the command has led to.
    """
    changes = shlex.split(change)
    keys = {one.partition("=")[0] for one in changes}
    if config.get("kld_weight") is not None and keys & {"beta", "likelihood"} and "kld_weight" not in keys:
        # a weight beside a mean stands beside no other weight, and beside no other likelihood
        changes.append("kld_weight=null")
    words = shlex.split(command)
    for one in changes:
        words = list(_without(words, one.partition("=")[0]))
    likelihood = next((one.partition("=")[2] for one in changes if one.startswith("likelihood=")), None)
    if likelihood is not None and likelihood not in _READ_SIGMA and "sigma" not in keys:
        had = words
        words = list(_without(words, "sigma"))
        # a model's own file may set it
        changes += ["sigma=1.0"] if had == words and config.get("sigma") not in (None, 1.0) and _owned(config) else []
    return shlex.join([*words, *changes])


def _owned(config: Mapping[str, Any]) -> bool:
    """Whether sigma is the likelihood's alone, and not that of residuals as well."""
    return not config["architecture"].get("residual")


def _without(words: list[str], key: str) -> Iterator[str]:
    """The words of a command without those that set a key, or that set what lies below a group."""
    stale = [f"{key}=", *([] if "." in key else [f"{key}."]), *(f"{name}=" for name in _DOTTED.get(key, ()))]
    flags = {f"--{flag}" for flag in _FLAGS.get(key, ())}
    rest = iter(range(len(words)))
    for place in rest:
        word = words[place]
        flag, equals, _ = word.partition("=")
        if flag.replace("_", "-") in flags:
            # a switch may stand alone, and `--flag=value` has its value with it
            if (
                not equals
                and place + 1 < len(words)
                and not words[place + 1].startswith("-")
                and _valued(flag, words[place + 1])
            ):
                next(rest, None)
        elif not word.startswith(tuple(stale)):
            yield word


def _valued(flag: str, following: str) -> bool:
    return "learnable" not in flag or following.lower() in ("true", "false")
