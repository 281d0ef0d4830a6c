"""Every way to say what varies, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("optuna")

from vaekit.errors import ConfigError
from vaekit.sweep import Choices, Definition, Interval, axes_of, axis_of
from vaekit.sweep.metric import Metric, kept, metric_of

LISTS = {
    "numbers": ("latent_dim=2,4", ("2", "4")),
    "lists": ("h=[64,32],[32]", ("[64,32]", "[32]")),
    "mappings": ("beta={kind:a,b:1},{kind:c}", ("{kind:a,b:1}", "{kind:c}")),
    "quoted": ("name='a,b',\"c d\"", ("'a,b'", '"c d"')),
    "in words": ("model=choice(mlp,cnn)", ("mlp", "cnn")),
    "of parts": ("likelihood=glob(normal_l*)", ("normal_learned",)),
    "a range": ("l=range(16,64,16)", ("16", "32", "48")),
    "a range of floats": ("l=range(0,1,0.25)", ("0.0", "0.25", "0.5", "0.75")),
    "a range downwards": ("l=range(3,0,-1)", ("3", "2", "1")),
    "each once": ("l=1e-4,1.0e-4,2", ("0.0001", "2")),
    "never shuffled": ("l=shuffle(1,2,3)", ("1", "2", "3")),
    "a flag": ("--recon=bce,gaussian", ("bce", "gaussian")),
}


@pytest.mark.parametrize(("text", "values"), LISTS.values(), ids=LISTS.keys())
def test_a_list(text: str, values: tuple[str, ...]) -> None:
    key = text.partition("=")[0]
    axis = axis_of(text)
    assert axis == Choices(key, values)
    if not any(quote in text for quote in "'\""):  # there Hydra escapes instead
        assert axis_of(f"{key}=choice({','.join(values)})") == axis


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("lr=interval(1e-4,1e-2)", Interval("lr", 1e-4, 1e-2)),
        ("lr=log(1e-4,1e-2)", Interval("lr", 1e-4, 1e-2, log=True)),
        ("lr=tag(log, interval(1e-4, 1e-2))", Interval("lr", 1e-4, 1e-2, log=True)),
        ("d=int(interval(2,9))", Interval("d", 2, 9, whole=True)),
        ("d=int(log(2,256))", Interval("d", 2, 256, log=True, whole=True)),
    ],
)
def test_an_interval(text: str, axis: Interval) -> None:
    assert axis_of(text) == axis
    assert axis_of(str(axis)) == axis


@pytest.mark.parametrize("text", ["latent_dim=2", "h=[64,32]", "name='a,b'", "x=", "digits", "x={a:1,b:2}"])
def test_one_value_is_no_axis(text: str) -> None:
    assert axis_of(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("l=range(9,3)", "no value in it"),
        ("l=range(5,5)", "no value in it"),
        ("l=range(1,9,0)", "a step that is not 0"),
        ("l=range(0,1,1e-9)", "more than 10,000 values"),
        ("l=interval(2,1)", "from a number to a larger one"),
        ("l=log(0,1)", "begins above 0"),
        ("l=log(3)", "Cannot read 'l=log(3)'"),
        ("l=glob(*)", "'l' is no group"),
        ("likelihood=glob(normla*)", "closest: normal"),
    ],
)
def test_what_is_no_list(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        axis_of(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_axes_of_a_file() -> None:
    node: dict[str, Any] = {
        "kld_weight": [1e-6, 1e-5],
        "optimizer": {"lr": "log(1e-4,1e-2)"},
        "model": ["mlp", "cnn"],
        "hidden_dims": [[64, 32], [32]],
        "data.path": ["a b", "null"],
        "beta": 1.0,
    }
    assert list(axes_of(node)) == [
        Choices("kld_weight", ("1e-06", "1e-05")),
        Interval("optimizer.lr", 1e-4, 1e-2, log=True),
        Choices("model", ("mlp", "cnn")),
        Choices("hidden_dims", ("[64,32]", "[32]")),
        Choices("data.path", ('"a b"', '"null"')),
        Choices("beta", ("1.0",)),
    ]
    with pytest.raises(ConfigError, match=r"sweep\.latent_dim is an empty list"):
        list(axes_of({"latent_dim": []}))


def test_the_score_is_that_by_which_a_run_keeps_its_weights() -> None:
    elbo = {"epoch": 1.0, "val/elbo": -3.0, "val/recon_loss": 2.0, "kept": 1.0}
    assert (Metric().label(elbo), Metric().of(elbo)) == ("val/elbo", -3.0)
    bound = elbo | {"val/iwae_5": -2.5}
    assert (Metric().label(bound), Metric().of(bound)) == ("val/iwae_5", -2.5)
    plain = {"val/recon_loss": 2.0}
    assert (Metric().label(plain), Metric().of(plain)) == ("-val/recon_loss", -2.0)
    later = elbo | {"epoch": 2.0, "kept": 0.0}
    assert kept([elbo, later]) is elbo
    assert kept([later]) is None


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("score", Metric("score", True)),
        ("val/elbo", Metric("val/elbo", True)),
        ("val/iwae_10", Metric("val/iwae_10", True)),
        ("val/recon_loss", Metric("val/recon_loss", False)),
        ("val/codebook_used:max", Metric("val/codebook_used", True)),
        ("val/loss:max", Metric("val/loss", True)),
    ],
)
def test_which_way_is_better(text: str, metric: Metric) -> None:
    assert metric_of(text) == metric


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("val/elob", "closest: val/elbo"),
        ("elbo", "numbers on validation data; closest: val/elbo"),
        ("train/loss", "numbers on validation data"),
        ("val/codebook_used", "write val/codebook_used:max or val/codebook_used:min"),
        ("val/elbo:high", "write val/elbo:max or val/elbo:min"),
    ],
)
def test_a_metric_that_is_none(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        metric_of(text)


def test_a_definition_says_what_is_another_sweep() -> None:
    config = {"name": "a", "device": "cpu", "data": {"kind": "x", "path": "here"}, "training": {"epochs": 2}}
    one = Definition((Choices("latent_dim", ("2", "4")),), "grid", 1, config=config)
    elsewhere = config | {"name": "b", "device": "cuda", "data": {"kind": "x", "path": "there"}}
    assert Definition(one.axes, "grid", 1, config=elsewhere).as_json() == one.as_json()
    other = Definition((Choices("latent_dim", ("2", "8")),), "tpe", 1, config=config | {"training": {"epochs": 3}})
    assert other.differences(one.as_json()) == [
        "latent_dim.values is 2,8, was 2,4",
        "training.epochs is 3, was 2",
        'sampler is "tpe", was "grid"',
    ]
    more = Definition((*one.axes, Choices("beta", ("1",))), "grid", 1, config=config)
    assert more.differences(one.as_json()) == ["beta is 1, was not there"]
    assert one.differences(more.as_json()) == ["beta is gone, was 1"]
    assert one.default_name.startswith("latent_dim-")
    assert len({one.default_name, other.default_name, more.default_name}) == 3
