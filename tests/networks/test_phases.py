"""Convolutions at the smaller size against the ones that they stand for, in values, gradients and second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vaekit.networks import phases

SIZES = [(4, 4), (4, 7), (5, 6)]


def both(convolution: nn.Module, ours: Tensor, plain: Tensor, x: Tensor) -> None:
    assert ours.shape == plain.shape
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)
    toward = torch.randn_like(plain)
    wanted = [x, *convolution.parameters()]
    for one, other in zip(
        torch.autograd.grad(ours, wanted, toward), torch.autograd.grad(plain, wanted, toward), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_doubled_pixels(size: tuple[int, int], bias: bool) -> None:
    convolution = nn.Conv2d(3, 5, 3, padding=1, bias=bias, dtype=torch.float64)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    both(convolution, phases.of_doubled(convolution, x), convolution(phases.doubled(x)), x)


def test_a_convolution_of_doubled_pixels_beside_an_image_in_full_size() -> None:
    convolution = nn.Conv2d(3 + 2, 5, 3, padding=1, dtype=torch.float64)
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    image = torch.randn(2, 2, 8, 12, dtype=torch.float64)
    plain = convolution(torch.cat([phases.doubled(x), image], 1))
    both(convolution, phases.of_doubled(convolution, x, image), plain, x)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_transposed_convolution(size: tuple[int, int], outputs: int) -> None:
    convolution = nn.ConvTranspose2d(6, outputs, 4, stride=2, padding=1, dtype=torch.float64)
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    both(convolution, phases.transposed(convolution, x), convolution(x), x)


def test_second_derivatives() -> None:
    up, across = (
        nn.ConvTranspose2d(2, 1, 4, 2, 1, dtype=torch.float64),
        nn.Conv2d(2, 2, 3, padding=1, dtype=torch.float64),
    )
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: phases.transposed(up, x.tanh()), x)
    assert torch.autograd.gradgradcheck(lambda x: phases.of_doubled(across, x.tanh()), x)


def test_which_images_are_small_enough_to_be_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways give the same, so the proof that the fast one is taken is that the plain one is not asked."""
    convolution = nn.Conv2d(1, 1, 3, padding=1)
    monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: pytest.fail("asked torch"))
    phases.of_doubled(convolution, torch.zeros(1, 1, 4, 4))
    with pytest.raises(pytest.fail.Exception, match="asked torch"):
        phases.of_doubled(convolution, torch.zeros(1, 1, 3, 4))
