"""compose: overrides in, a configuration out, and one line for every mistake."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from vaekit.cli.aliases import quoted
from vaekit.compose import CONF, GROUPS, PARTS, _hydra, choices, compose, data_node, resolve
from vaekit.errors import ConfigError


@pytest.fixture(autouse=True, scope="module")
def _composed_once() -> None:
    """Here every composition is Hydra's from the start, and none takes the shortcut of tests/conftest.py."""


MISTAKES = {
    "key": ("latent_dmi=3", "there is no key 'latent_dmi'; closest: latent_dim"),
    "key below": ("training.epoch=3", "training (training.Plan) has no argument 'epoch'; closest: epochs"),
    "key of an optimizer": ("optimizer.lrr=3", "optimizer (optim.Adam) has no argument 'lrr'; closest: lr"),
    "key of a group": ("training.batchsize=3", "closest: batch_size"),
    "deep key": ("network.encoder.hiden_dims=[3]", "closest: hidden_dims"),
    "added key": ("+latent_dmi=3", "there is no key 'latent_dmi'; closest: latent_dim"),
    "forced key": ("++training.epoch=3", "closest: epochs"),
    "group": ("likelyhood=normal", "there is no key 'likelyhood'; closest: likelihood"),
    "choice": ("likelihood=normla", "there is no likelihood 'normla'; closest: normal"),
    "choice of data": ("data=mnits", "there is no data 'mnits'; closest: mnist"),
    "no choice": ("data=", "there is no data ''"),
    "null choice": ("data=null", "there is no data 'None'"),
    "a node for a choice": ("optimizer={kind: optim.SGD}", "there is no optimizer"),
    "no value": ("latent_dim", "Cannot read 'latent_dim': write key=value"),
    "no key": ("=3", "Cannot use '=3'"),
    "list": ("latent_dim=2,3", "asks for several values"),
    "range": ("latent_dim=range(1,3)", "asks for several values"),
    "choice sweep": ("latent_dim=choice(1,2)", "asks for several values"),
    "glob": ("model=glob(*)", "asks for several values"),
    "deletion": ("~seed", "Cannot use '~seed'"),
    "deleted group": ("~data", "Cannot use '~data'"),
    "package": ("data@x=mnist", "Cannot use 'data@x=mnist'"),
    "hydra": ("hydra.run.dir=/tmp/x", "there is no key 'hydra.run.dir'"),
    "search path": ("hydra.searchpath=[pkg://os]", "there is no key"),
    "launcher": ("hydra/launcher=basic", "there is no key"),
    "not closed": ("beta={kind: x", "Cannot read"),
    "quotes": ("name=it's", "Cannot read"),
    "environment": ("name=${oc.env:HOME}", "calls a resolver"),
    "environment in a list": ("network.encoder.hidden_dims=[${oc.env:HOME}]", "calls a resolver"),
    "resolver with a name that is put together": ("output_dir='${${name}:HOME}'", "calls a resolver"),
    "resolver within": ("output_dir='${oc.${name}:HOME}'", "calls a resolver"),
    "decode": ("output_dir=${oc.decode:'3'}", "calls a resolver"),
    "eval": ("output_dir=${hydra:runtime.cwd}", "calls a resolver"),
    "number for the device": ("device=5", "device is 5, expected text"),
    "nothing for the folder": ("output_dir=null", "output_dir is None, expected text"),
    "empty folder": ("output_dir=", "output_dir is '', expected text"),
    "name above": ("name=../x", "name is '../x', expected the name of a folder"),
    "absolute name": ("name=/x", "expected the name of a folder"),
    "empty name": ("name=''", "expected the name of a folder"),
    "name with NUL": ("name='a\0b'", "expected the name of a folder"),
}


@pytest.mark.parametrize(("override", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_get_one_line_that_names_what_is_closest(
    override: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/secret")
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "/secret" not in str(caught.value)


LATER = {
    "open interpolation": ("sigma=${nothing}", "nothing"),
    "circle": ("hidden_dim=${hidden_dim}", ""),
    "input_dim": ("input_dim=784", "input_dim is 784, but an example of these data has 64 values (1 x 8 x 8)"),
    "text for input_dim": ("input_dim=many", "input_dim is many"),
}


@pytest.mark.parametrize(("override", "said"), LATER.values(), ids=LATER.keys())
def test_mistakes_that_only_the_data_show(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(compose([override, "likelihood=normal"]), (1, 8, 8))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_resolver_that_is_spelt_by_two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "tweet")
    for trick in (
        "${${name}:CANARY}",
        "x${${name}:CANARY}",
        r"\\${oc.env:CANARY}",
        "${ oc.env : CANARY }",
        r"\\\\${a:b}",
    ):
        with pytest.raises(ConfigError, match=r"calls a resolver"):
            compose(["name=oc.env", f"output_dir='{trick}'"])
    for text in (
        r"\${oc.env:CANARY}",
        r"a\${${name}:CANARY}",
        r"\\\${oc.env:CANARY}",
    ):  # escaped: text, and not read again
        try:
            config = resolve(compose(["name=oc.env", f"output_dir='{text}'"]), (4,))
        except ConfigError:
            continue
        assert "tweet" not in str(config)


def test_the_last_of_two_counts() -> None:
    overrides = ["latent_dim=3", "likelihood=normal", "+training.samples=2", "latent_dim=4", "likelihood=bernoulli"]
    config = compose([*overrides, "training.samples=5"])
    assert (config.latent_dim, config.training.samples) == (4, 5)
    assert config.likelihood.kind == "likelihoods.Bernoulli"


def test_the_order_of_groups_and_values_does_not_matter() -> None:
    a = compose(["optimizer.weight_decay=0.1", "optimizer=adamw", "model=cnn"])
    b = compose(["model=cnn", "optimizer=adamw", "optimizer.weight_decay=0.1"])
    assert a == b
    assert a.optimizer.weight_decay == 0.1


def test_arguments_that_the_yaml_leaves_to_their_defaults_can_be_set() -> None:
    config = resolve(
        compose(["training.gradient_clip=1", "network.encoder.dropout=0.5", "optimizer.betas=[0.5,0.9]"]), (4,)
    )
    assert config["training"]["gradient_clip"] == 1
    assert config["network"]["encoder"]["dropout"] == 0.5
    assert config["optimizer"]["betas"] == [0.5, 0.9]


def test_weights_of_the_users_own_terms_can_be_named() -> None:
    assert compose(["objective.weights.recon=2"]).objective.weights.recon == 2


def test_a_beta_that_a_weight_follows_is_told_from_one_that_is_equal_to_it() -> None:
    for overrides in (
        ["beta=0.5"],
        ["beta=0.5", "objective=free_bits"],
        ["beta=0.5", "objective.weights.recon=${beta}"],
    ):
        resolve(compose(overrides), (4,))
    with pytest.raises(ConfigError, match=r"beta=0\.5 has no effect"):
        resolve(compose(["beta=0.5", "objective.weights.kl=0.5"]), (4,))


def test_entries_of_collections_may_be_named_by_dots() -> None:
    crop = {"kind": "data.RandomResizedCrop", "scale": [0.5, 1.0]}
    dotted = compose(
        ["data.augmentation.cut.scale=[0.5,1.0]", "data.augmentation.cut.kind=data.RandomResizedCrop"]
    ).data.augmentation
    assert dotted == {"cut": crop}
    terms = compose(["objective.terms.mine.kind=objectives.LatentL2", "objective.weights.mine=2"]).objective
    assert (terms.terms.mine, terms.weights.mine) == ({"kind": "objectives.LatentL2"}, 2)
    with pytest.raises(
        ConfigError, match=r"data\.augmentation\.cut \(data\.RandomResizedCrop\) has no argument 'scael'"
    ):
        compose(["data.augmentation.cut.kind=data.RandomResizedCrop", "data.augmentation.cut.scael=[0.5,1.0]"])


def test_a_kind_counts_before_what_is_set_below_it() -> None:
    config = compose(["objective.terms.kl.nats=1.0", "objective.terms.kl={kind: objectives.FreeBits}"])
    assert config.objective.terms.kl == {"kind": "objectives.FreeBits", "nats": 1.0}
    config = compose(["condition.width=3", "model=cvae", "condition.kind=networks.Embedding"])
    assert dict(config.condition)["width"] == 3


# what a choice needs beside it: a path, or the model that brings a key
BESIDE = {
    "array": ["data.path=x"],
    "images": ["data.path=x"],
    "celeba": ["data.path=x"],
    "cells": ["data.path=x"],
    "soma": ["data.path=x"],
    "table": ["data.path=x"],
    "conditioned": ["model=cvae"],
    "growing": ["model=progressive"],
    "categorical": ["model=categorical"],
    "quantized": ["model=vqvae"],
    "quantized_gradient": ["model=vqvae"],
    "uniform_codes": ["model=vqvae"],
    "uniform_categorical": ["model=categorical"],
    "stage1_vae_sweep": ["sweep=null"],
}


def test_a_part_that_needs_a_model_says_which() -> None:
    with pytest.raises(ConfigError, match="needs the key 'condition', which model=cvae brings; choose it too"):
        resolve(compose(["network=conditioned"]), (1, 8, 8))


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_composes_and_resolves_to_plain_data(group: str) -> None:
    if not choices(group):
        pytest.skip("nothing to choose yet")
    for choice in choices(group):
        overrides = [f"{group}={choice}", *BESIDE.get(choice, [])]
        config = resolve(compose(overrides), (1, 8, 8))
        assert yaml.safe_load(yaml.safe_dump(config)) == config
        assert "${" not in str(config)
        assert set(PARTS) <= set(config)


def test_the_name_says_data_and_model() -> None:
    assert compose(["data=mnist", "model=cnn"]).name == "mnist-cnn"
    assert compose([]).name == "digits-mlp"
    assert compose(['name="first try/α"']).name == "first try/α"


def test_data_that_need_a_path_say_so() -> None:
    with pytest.raises(ConfigError, match=r"data\.array needs data\.path; write data\.path=\.\.\."):
        data_node(compose(["data=array"]))


def test_groups_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "my conf" / "model").mkdir(parents=True)
    (tmp_path / "my conf" / "model" / "wide.yaml").write_text("# @package _global_\nhidden_dim: 999\n")
    folder = tmp_path / "my conf"
    assert compose(["model=wide"], folder).hidden_dim == 999
    assert compose(["model=wide", "hidden_dim=5"], folder).hidden_dim == 5
    with pytest.raises(ConfigError, match="closest: wide"):
        compose(["model=wid"], folder)
    with pytest.raises(ConfigError, match=r"--config-dir .*nowhere: there is no such folder"):
        compose([], tmp_path / "nowhere")


def test_broken_groups_of_the_users_own_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for content in (
        "a: [",
        "defaults:\n  - override /nothing: x\n",
        "defaults: 3\n",
        "- 1\n",
        "a: !!python/name:os.system\n",
    ):
        (tmp_path / "model" / "bad.yaml").write_text(content)
        with pytest.raises(ConfigError) as caught:
            compose(["model=bad"], tmp_path)
        assert "\n" not in str(caught.value)


ODD = ["a b", "it's", 'say "x"', "a,b", "a=b", "ümlaut ☃", "back\\slash", "end\\", 'q\\"', "\\\\", "${seed}", "\\${seed}",
       "$x", "#c", "[1]", "{a}", "null", "3", "true", "~", "a:b", "(x)",
       "%", "a\\\\${oc.env:HOME}", "'", '"', "x${", "}"]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_odd_paths_survive(text: str) -> None:
    config = compose([f"output_dir={quoted(text)}", "data=array", f"data.path={quoted(text)}"])
    assert resolve(config, (4,))["output_dir"] == text
    assert data_node(config)["path"] == text


@given(
    st.text(
        alphabet=st.one_of(st.sampled_from("\\\"'${}:.,=x "), st.characters(exclude_categories=["Cs", "Cc"])),
        min_size=1,
    )
)
@example("\\")
@example('\\"')
def test_any_text_survives_quoting(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    value = OverridesParser.create().parse_override(f"a={quoted(text)}").value()
    assert OmegaConf.to_container(OmegaConf.create({"a": value}), resolve=True) == {"a": text}


def test_a_program_that_uses_hydra_itself_is_not_disturbed() -> None:
    from hydra import compose as own
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose(["latent_dim=3"]).latent_dim == 3
        assert own("train", overrides=["latent_dim=5"]).latent_dim == 5


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["model=cvae", "data=array"],
        ["model=progressive", "latent_dim=3", "+training.samples=2", "output_dir='a b/${seed}'"],
        ["likelihood=normal", "~beta", "+beta={kind: schedules.Linear, start: 0.0, stop: 1.0, steps: 9}", "seed=7"],
        ["network.encoder.hidden_dims=[9,5]", "model=vae", "++optimizer.betas=[0.5,0.9]"],
    ],
    ids=" ".join,
)
def test_the_shortcut_of_the_other_tests_ends_where_hydra_does(words: list[str], shortcut: Any) -> None:
    for _ in range(2):
        found = shortcut(_hydra, words)
        wanted = _hydra(words)
        assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(wanted)
        assert OmegaConf.is_struct(found) is OmegaConf.is_struct(wanted) is True
        found.seed = 1234  # what one test does to it, another does not see


@pytest.mark.parametrize("words", [["model=nothing"], ["latent_dmi=3"], ["~nothing"], ["+seed=3"], ["seed={a"]])
def test_the_shortcut_says_of_mistakes_what_hydra_says(words: list[str], shortcut: Any) -> None:
    said = []
    for composed in (_hydra, partial(shortcut, _hydra)):
        with pytest.raises(ConfigError) as caught:
            composed(words)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_composing_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before: dict[str, Any] = dict(os.environ)
    compose(["data=mnist"])
    assert not os.listdir(tmp_path)
    assert dict(os.environ) == before
