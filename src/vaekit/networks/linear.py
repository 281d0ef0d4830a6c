"""The linear layer, on the faster of torch's two CPU matrix libraries."""

# N rows, I inputs, O outputs

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# below this many multiplications the call itself costs more than the better kernel saves
_WORTHWHILE = 1 << 23


class Linear(nn.Linear):
    r"""A linear layer, :math:`y = x W^\top + b`; parameters and initial values are those of `torch.nn.Linear`.

    torch multiplies float32 matrices on a CPU with MKL, which on AMD processors uses half the width of their vector units;
    oneDNN, which torch also brings, uses all of it and was measured at twice the speed on the shapes of
    `benchmarks/mnist_epoch.py`. Which of the two is used depends on the processor and the shapes alone, never on a
    measurement, so that a resumed run computes the same bits. Both sum in float32, in different orders.
    """

    def forward(self, x: Tensor) -> Tensor:
        """From (*, I) to (*, O)."""
        if not _pays(x, self.weight):
            return functional.linear(x, self.weight, self.bias)
        product: Tensor = _Product.apply(x.reshape(-1, self.in_features), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return product.view(*x.shape[:-1], self.out_features)


class _Product(torch.autograd.Function):
    """x W^T + b by oneDNN: (N, I), (O, I), (O) or None -> (N, O).

    The backward is made of the same product, so it can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        # apply records the product for a second derivative, and costs a tenth of it: only where one is wanted
        product = _Product.apply if torch.is_grad_enabled() else _onednn
        return (
            product(gradient, weight.t(), None) if needs_x else None,
            product(gradient.t(), x.t(), None) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
        )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _pays(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= _WORTHWHILE
        and _faster_here()
    )


@cache
def _faster_here() -> bool:
    """Whether this is an AMD processor with 512-bit vectors and a torch that has oneDNN's matrix product."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (there and torch.backends.cpu.get_cpu_capability() == "AVX512"):
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and "AuthenticAMD" in _processor()


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8")[:4096]
    except OSError:  # not Linux: MKL stays
        return ""
