"""The first layer over mostly empty data: the dense product, from the columns that are in use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vaekit.networks import linear, sparse
from vaekit.networks.linear import Linear
from vaekit.networks.reuse import Reused
from vaekit.networks.sparse import InUse, columns_in_use

N, I, O = 100, 5000, 70  # noqa: E741


def counts(rows: int = N, used: int = I // 4, dtype: torch.dtype = torch.float32) -> Tensor:
    """log1p of counts in `used` columns of I; some of them happen to be empty, all others are."""
    generator = torch.Generator().manual_seed(rows)
    values = torch.poisson(torch.full((rows, used), 0.05), generator=generator).log1p()
    places = torch.randperm(I, generator=generator)[:used]
    return torch.zeros(rows, I).index_copy_(1, places, values).to(dtype)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The columns of each product that was made of columns in use."""
    seen: list[Tensor] = []
    apply = InUse.apply
    monkeypatch.setattr(linear.InUse, "apply", lambda *args: seen.append(args[1]) or apply(*args))
    return seen


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("lead", [(N,), (2, N // 2)], ids=["rows", "samples and rows"])
def test_value_and_gradients_are_those_of_the_dense_product(
    lead: tuple[int, ...], bias: bool, calls: list[Tensor]
) -> None:
    layer, x = Linear(I, O, bias=bias), counts().view(*lead, I)
    weighting = torch.randn(*lead, O)
    out = layer(x)
    (out * weighting).sum().backward()
    assert len(calls) == 1
    weight = layer.weight.detach().double().requires_grad_()
    reference = functional.linear(x.double(), weight, layer.bias.detach().double() if bias else None)
    (expected,) = torch.autograd.grad((reference * weighting).sum(), weight)
    # float32 rounding of sums of at most a hundred terms of order 1
    torch.testing.assert_close(out.double(), reference.detach(), rtol=0, atol=1e-5)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad.double(), expected, rtol=0, atol=1e-4)
    assert layer.weight.grad.is_contiguous()
    empty = (x.reshape(-1, I) == 0).all(0)
    assert not layer.weight.grad[:, empty].any()
    if bias:
        torch.testing.assert_close(layer.bias.grad, weighting.reshape(-1, O).sum(0), rtol=0, atol=1e-4)


def test_in_float64_it_is_exact_to_rounding_and_twice_differentiable() -> None:
    x = torch.zeros(3, 7, dtype=torch.float64)
    x[0, 2], x[1, 2], x[2, 5] = 0.7, -1.3, float(2)
    columns = torch.tensor([2, 5])
    weight = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def product(weight: Tensor, bias: Tensor) -> Tensor:
        return InUse.apply(x, columns, weight, bias, functional.linear, Reused()).square()

    torch.testing.assert_close(
        product(weight, bias), functional.linear(x, weight, bias).square(), rtol=1e-14, atol=1e-14
    )
    assert torch.autograd.gradcheck(product, (weight, bias))
    assert torch.autograd.gradgradcheck(product, (weight, bias))


def test_columns_of_negative_values_and_of_what_is_no_number_are_in_use() -> None:
    x = torch.zeros(N, I)
    x[3, 7], x[N - 1, 11], x[0, 0] = -1e-30, float("nan"), float("-inf")
    columns = columns_in_use(x, torch.empty(O, I))
    assert columns is not None
    assert columns[:3].tolist() == [0, 7, 11]


@pytest.mark.parametrize("used", [0, 1, 511, 512, 513, 1024])
def test_others_follow_so_that_few_shapes_occur(used: int) -> None:
    x = torch.zeros(N, I)
    places = torch.randperm(I)[:used]
    x[5, places] = 1.0
    columns = columns_in_use(x, torch.empty(O, I))
    assert columns is not None
    assert len(columns) == max(1, -(-used // 512)) * 512
    assert columns.unique().numel() == len(columns)
    assert sorted(columns[:used].tolist()) == sorted(places.tolist())


def test_a_batch_of_nothing_but_zeros_gives_the_bias() -> None:
    layer = Linear(I, O)
    out = layer(torch.zeros(N, I))
    out.sum().backward()
    torch.testing.assert_close(out, layer.bias.expand(N, O))
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()


def test_the_rule() -> None:
    """Half of the columns for 128 rows, fewer for fewer."""
    weight = torch.empty(O, I)

    def taken(rows: int, used: int, weight: Tensor = weight) -> bool:
        x = torch.zeros(rows, weight.shape[1])
        x[0, :used] = 1.0
        return columns_in_use(x, weight) is not None

    assert taken(128, I // 2)
    assert not taken(128, I // 2 + 1)
    assert taken(32, I // 5)
    assert not taken(32, I // 5 + 1)
    assert not taken(128, 1, torch.empty(O, sparse._WIDE - 1))
    assert not taken(128, 1, torch.empty(sparse._OUTPUTS - 1, I))
    assert columns_in_use(torch.zeros(0, I), weight) is None
    assert columns_in_use(torch.zeros(N, I, requires_grad=True), weight) is None


def test_dense_data_and_what_is_differentiated_take_the_dense_product(calls: list[Tensor]) -> None:
    layer = Linear(I, O)
    layer(torch.rand(N, I))
    x = counts().requires_grad_()
    layer(x).sum().backward()
    assert not calls
    assert x.grad is not None


def test_the_same_bits_every_time(calls: list[Tensor]) -> None:
    layer, x = Linear(I, O), counts()
    first = torch.autograd.grad(layer(x).square().sum(), (layer.weight, layer.bias))
    for _ in range(3):
        again = torch.autograd.grad(layer(x.clone()).square().sum(), (layer.weight, layer.bias))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(calls) == 4
