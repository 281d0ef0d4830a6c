"""Settings of both networks at once: root keys of `network=wide`, arguments of encoder and decoder for every other network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit.builder import build_model
from vaekit.cli.aliases import translate
from vaekit.compose import compose, resolve
from vaekit.errors import ConfigError
from vaekit.networks import MLP

WIDE_MODELS = ("vae", "vae_beta", "vae_lightweight", "ae_vanilla", "ae_stage1_vae", "ae_stage1_beta_vae")


def resolved(*words: str, shape: tuple[int, ...] = (64,)) -> dict[str, Any]:
    return resolve(compose(translate(list(words))), shape)


def hidden(net: Any) -> list[int]:
    return [weight.shape[0] for weight in net.parameters() if weight.dim() == 2][:-1]


PRESETS = {
    "vae": ([2048, 1024, 512], 64, 0.1, "gelu"),
    "vae_beta": ([4096, 2048, 1024, 512], 128, 0.15, "gelu"),
    "vae_lightweight": ([1024, 512], 32, 0.05, "leaky_relu"),
}


@pytest.mark.parametrize(("name", "wanted"), PRESETS.items(), ids=PRESETS.keys())
def test_presets_are_what_their_names_promise(name: str, wanted: tuple[Any, ...]) -> None:
    config = resolved(f"model={name}")
    assert (config["hidden_dims"], config["latent_dim"], config["dropout_rate"], config["activation"]) == wanted
    assert config["likelihood"] == {"kind": "likelihoods.Normal", "event_shape": [64], "scale": 1.0}
    assert config["expression"] == "log1p"


def test_the_beta_preset_weighs_the_kl_a_hundred_times_as_much() -> None:
    light, heavy = (resolved(f"model={name}")["kld_weight"] for name in ("vae", "vae_beta"))
    assert heavy == pytest.approx(100 * light)
    light, heavy = (resolved(f"model={name}")["kld_weight"] for name in ("ae_stage1_vae", "ae_stage1_beta_vae"))
    assert heavy == pytest.approx(100 * light)


@pytest.mark.parametrize("name", ["ae_stage1_vae", "ae_stage1_beta_vae"])
def test_the_recipe_of_a_first_stage_comes_with_its_name_alone(name: str) -> None:
    config = resolved(f"model={name}")
    assert config["optimizer"] == {"kind": "optim.AdamW", "lr": 1e-4, "weight_decay": 1e-5, "fused": True}
    assert config["schedule"] == {"kind": "training.Plateau"}
    assert config["training"]["gradient_clip"] == 1.0


WORDS = ("hidden_dims=[24,12]", "activation=gelu", "dropout_rate=0.1", "use_batch_norm=true", "latent_dim=6")
DOTTED = tuple(f"model.net.{word}" for word in WORDS)


@pytest.mark.parametrize("model", [*WIDE_MODELS, "mlp", "rae", "rae_gp", "sae", "ae", "beta_vae", "vampprior"])
@pytest.mark.parametrize("words", [WORDS, DOTTED], ids=["root keys", "dotted names"])
def test_every_perceptron_takes_them(model: str, words: tuple[str, ...]) -> None:
    made = build_model(resolved(f"model={model}", *words))
    assert isinstance(made.encoder, MLP)
    assert isinstance(made.decoder, MLP)
    assert (hidden(made.encoder), hidden(made.decoder)) == ([24, 12], [12, 24])
    assert made.decoder.in_shape == torch.Size([6])
    for net in (made.encoder, made.decoder):
        kinds = [type(layer).__name__ for layer in net.layers]
        assert kinds[:4] == ["Linear", "BatchNorm", "GELU", "Dropout"]
        assert net.layers[3].p == 0.1


@pytest.mark.parametrize("words", [WORDS, DOTTED], ids=["root keys", "dotted names"])
def test_of_a_wide_network_they_are_root_keys(words: tuple[str, ...]) -> None:
    config = resolved("model=vae", *words)
    assert (config["hidden_dims"], config["activation"]) == ([24, 12], "gelu")
    assert config["network"]["decoder"]["hidden_dims"] == [24, 12]  # reversed by its kind
    assert config["use_batch_norm"] is True


def test_a_network_by_itself() -> None:
    config = resolved("network=wide", "hidden_dims=[24,12]", "activation=silu")
    assert hidden(build_model(config).decoder) == [12, 24]
    assert config["likelihood"]["kind"] == "likelihoods.Bernoulli"


def test_of_several_words_for_one_setting_the_last_counts() -> None:
    config = resolved("network.encoder.dropout=0.3", "model.net.dropout_rate=0.1", "dropout_rate=0.2")
    assert config["network"]["encoder"]["dropout"] == config["network"]["decoder"]["dropout"] == 0.2
    config = resolved("dropout_rate=0.2", "network.encoder.dropout=0.3")
    assert (config["network"]["encoder"]["dropout"], config["network"]["decoder"]["dropout"]) == (0.3, 0.2)
    assert resolved("model=vae", "model.net.hidden_dims=[3]", "hidden_dims=[5]")["hidden_dims"] == [5]


def test_other_networks_take_what_they_have() -> None:
    config = resolved("model=cnn", "activation=gelu", shape=(1, 8, 8))
    assert config["network"]["encoder"]["activation"] == config["network"]["decoder"]["activation"] == "gelu"
    assert "norm" not in resolved("use_batch_norm=false")["network"]["encoder"]


MISTAKES = {
    "model=cnn dropout_rate=0.1": "network.encoder (networks.ConvEncoder) has no argument 'dropout'",
    "use_batch_norm=1": "use_batch_norm is '1', expected true or false",
    "hidden_dim=[3]": "hidden_dim",
    "hiden_dims=[3]": "there is no key 'hiden_dims'",
    "model=vae network=cnn": "hidden_dims=[2048, 1024, 512] has no effect on networks.ConvDecoder and networks.ConvEncoder",
    "model=vae network=mlp": "has no effect on networks.MLP; write network=wide, or choose a model that has no wide network",
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.items(), ids=MISTAKES.keys())
def test_mistakes(words: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_model(resolved(*words.split(), shape=(1, 8, 8)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


BUILT = {
    "hidden_dims=5": "hidden_dims is 5, expected a list",
    "dropout_rate=1.5": "dropout is 1.5",
    "activation=rleu": "activation is 'rleu'",
    "use_batch_norm=maybe": "use_batch_norm is 'maybe', expected true or false",
}


@pytest.mark.parametrize(("word", "said"), BUILT.items(), ids=BUILT.keys())
def test_values_that_a_wide_network_refuses(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_model(resolved("model=vae_lightweight", word))
    assert said in str(caught.value)


def test_a_width_in_a_file_that_no_network_reads_is_not_lost_unsaid(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nhidden_dims: [5, 3]\n")
    with pytest.raises(ConfigError, match=r"hidden_dims=\[5, 3\] has no effect on networks\.MLP; write network=wide"):
        resolve(compose(["experiment=mine"], tmp_path), (64,))
    config = resolve(compose(["experiment=mine", "network=wide"], tmp_path), (64,))
    assert config["network"]["encoder"]["hidden_dims"] == [5, 3]


def test_sides_of_a_wide_network_may_still_differ() -> None:
    config = resolved("network=wide", "network.encoder.hidden_dims=[9]", "network.decoder.hidden_dims=[5,3]")
    made = build_model(config)
    assert (hidden(made.encoder), hidden(made.decoder)) == ([9], [3, 5])
