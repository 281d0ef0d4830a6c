"""Wide perceptrons: the decoder is the encoder's mirror, and both are ordinary MLPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vaekit.networks import MLP, wide_decoder, wide_encoder
from vaekit.networks.norm import BatchNorm


def widths(net: nn.Module) -> list[tuple[int, int]]:
    """Inputs and outputs of each linear layer."""
    return [(w.shape[1], w.shape[0]) for w in net.parameters() if w.dim() == 2]


@pytest.mark.parametrize("dims", [(), (7,), (9, 5), (16, 9, 5)])
def test_the_decoder_is_the_mirror_of_the_encoder(dims: tuple[int, ...]) -> None:
    there, back = wide_encoder((20,), (3,), dims), wide_decoder((3,), (20,), dims)
    assert [out for _, out in widths(there)] == [*dims, 3]
    assert widths(back) == [(after, before) for before, after in reversed(widths(there))]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"activation": "gelu", "dropout_rate": 0.3},
    {"activation": "leaky_relu", "use_batch_norm": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_they_are_perceptrons_with_the_same_settings(settings: dict[str, Any]) -> None:
    renamed = {"activation": settings.get("activation", "relu"), "dropout": settings.get("dropout_rate", 0.0)}
    plain = MLP((6,), (2, 2), (9, 5), **renamed, norm="batch" if settings.get("use_batch_norm") else "none")
    for made in (wide_encoder((6,), (2, 2), (9, 5), **settings), wide_decoder((6,), (2, 2), (5, 9), **settings)):
        made.load_state_dict(plain.state_dict())
        assert [str(module) for module in made.layers] == [str(module) for module in plain.layers]
        x = torch.randn(8, 6)
        assert torch.equal(made.eval()(x), plain.eval()(x))
    assert any(isinstance(module, BatchNorm) for module in made.modules()) == bool(settings.get("use_batch_norm"))


def test_a_width_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden_dims is \[5, 0\]"):
        wide_decoder((6,), (2,), (0, 5))
