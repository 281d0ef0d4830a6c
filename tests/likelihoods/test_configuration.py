"""Every file of the group builds the likelihood it names, for images and for tables, or says what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import vaekit
from vaekit.builder import build
from vaekit.errors import ConfigError
from vaekit.likelihoods import Likelihood

GROUP = Path(vaekit.__file__).parent / "conf" / "likelihood"
# of tables alone: test_columns.py
NAMES = sorted(path.stem for path in GROUP.glob("*.yaml") if path.stem != "columns")
DISCRETE = {"discretized_logistic", "discretized_logistic_mixture", "categorical"}


def node(name: str, event_shape: tuple[int, ...], levels: int | None) -> Any:
    roots = {"event_shape": list(event_shape), "sigma": 0.3, "levels": levels}
    config = OmegaConf.create({**roots, "likelihood": OmegaConf.load(GROUP / f"{name}.yaml")})
    return OmegaConf.to_container(config, resolve=True)["likelihood"]


@pytest.mark.parametrize("event_shape", [(2, 5, 4), (7,)])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_built_and_scores_a_batch(name: str, event_shape: tuple[int, ...]) -> None:
    part = build(node(name, event_shape, 17), where="likelihood")
    assert isinstance(part, Likelihood)
    px = part(torch.randn(2, 3, *part.context_shape), None)
    x = torch.randint(0, 17, (3, *event_shape)) / 16
    assert px.log_prob(x).shape == (2, 3)
    if "${sigma}" in (GROUP / f"{name}.yaml").read_text():
        assert part.scale.item() == pytest.approx(0.3)


@pytest.mark.parametrize("name", sorted(DISCRETE))
def test_continuous_data_get_a_remedy_in_place_of_a_type_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"continuous\. Write likelihood=normal"):
        build(node(name, (7,), None), where="likelihood")
