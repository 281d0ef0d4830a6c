"""Samples by class: one draw of z down each column, whatever the class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.conditionals import Normal
from vaekit.evaluation import pictures
from vaekit.likelihoods import Normal as NormalLikelihood
from vaekit.models import flat
from vaekit.networks import MLP, Network
from vaekit.priors import StandardNormal


class Shifted(Network):
    """The latent itself, moved by ten times the class."""

    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__(in_shape, out_shape)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x if context is None else x + 10.0 * context[:, None]


@pytest.fixture
def shifted() -> Any:
    return flat(
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [4]),
        Shifted, Normal((3,)), StandardNormal((3,)), NormalLikelihood((3,)),
    )  # fmt: skip


def test_only_the_class_differs_within_a_column(shifted: Any) -> None:
    images = pictures.class_samples(shifted, classes=4, columns=6, seed=3)
    assert images.shape == (4, 6, 3)
    z = images - 10.0 * torch.arange(4.0)[:, None, None]
    torch.testing.assert_close(z, z[:1].expand_as(z))
    assert len({round(float(value), 6) for value in z[0].flatten()}) == 18  # no two columns alike
    # the same draws as those of ordinary samples
    torch.testing.assert_close(z[0], pictures.samples(shifted, 6, seed=3))


def test_class_samples_are_a_function_of_the_seed(shifted: Any) -> None:
    first = pictures.class_samples(shifted, 3, 2, seed=3)
    assert torch.equal(first, pictures.class_samples(shifted, 3, 2, seed=3))
    assert torch.equal(first, pictures.class_samples(shifted, 3, 5, seed=3)[:, :2])
    assert not torch.equal(first, pictures.class_samples(shifted, 3, 2, seed=4))


def test_samples_know_what_they_are_conditioned_on(shifted: Any) -> None:
    context = torch.tensor([2, 0, 1])
    moved = pictures.samples(shifted, 3, 5, context) - pictures.samples(shifted, 3, 5)
    torch.testing.assert_close(moved, 10.0 * context[:, None].expand(3, 3).to(moved))
    noisy = pictures.noisy_samples(shifted, 3, 5, context) - pictures.noisy_samples(shifted, 3, 5)
    torch.testing.assert_close(noisy, 10.0 * context[:, None].expand(3, 3).to(noisy))


def test_a_view_by_variance_says_so() -> None:
    view = pictures.latent_view(torch.zeros(2, 3), torch.tensor([0.5, 0.0, 1.25]), "variance")
    assert view is not None
    assert view.axes == ("z[0], variance 0.5", "z[2], variance 1.25")
    assert view.choice == "the two of 3 latent dimensions with the largest variance"
