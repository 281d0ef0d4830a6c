"""The linear layer, on the faster of torch's two CPU matrix libraries."""

# N rows, I inputs, O outputs

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaekit.networks.reuse import LARGE, Reused
from vaekit.networks.sparse import InUse, columns_in_use

# below this many multiplications the call itself costs more than the better kernel saves
_WORTHWHILE = 1 << 23
# with so many inputs, to write the gradient of the outputs down again the other way round costs less than the better kernel saves
_COPY_PAYS = 384
# the family that its processors give as their own
_ZEN_5 = 26


class Linear(nn.Linear):
    r"""A linear layer, :math:`y = x W^\top + b`; parameters and initial values are those of `torch.nn.Linear`.

    torch multiplies float32 matrices on a CPU with MKL, which on AMD processors uses half the width of their vector registers;
    oneDNN, which torch also brings, uses all of it. Where the processor computes on the whole width at once (Zen 5) it was
    measured at twice the speed on the shapes of `benchmarks/mnist_epoch.py`; where it takes two turns for it (Zen 4) at 1.1 to
    1.4 times, and for the gradient of a weight only where a copy of its transposed operand is the smaller part. Which of the two
    is used depends on the processor and the shapes alone, never on a measurement, so that a resumed run computes the same bits.
    Both sum in float32, in different orders.

    Of wide data that are mostly zeros only the columns in use are multiplied: `networks.sparse`. The gradient of a large weight
    goes to the memory of the one before it: `networks.reuse`.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self._memory = Reused()

    def forget(self) -> None:
        """Give back the memory that is kept for the next gradient; one that is still in use goes when it is let go of."""
        self._memory = Reused()

    def forward(self, x: Tensor) -> Tensor:
        """From (*, I) to (*, O)."""
        rows = x.reshape(-1, self.in_features)
        columns = columns_in_use(rows, self.weight)
        if columns is not None:
            out: Tensor = InUse.apply(rows, columns, self.weight, self.bias, _product, self._memory)  # type: ignore[no-untyped-call]
        elif _pays(x, self.weight) or _large(self.weight):
            out = _Product.apply(rows, self.weight, self.bias, self._memory)  # type: ignore[no-untyped-call]
        else:
            return functional.linear(x, self.weight, self.bias)
        return out.view(*x.shape[:-1], self.out_features)


class _Product(torch.autograd.Function):
    """x W^T + b by the faster library: (N, I), (O, I), (O) or None -> (N, O).

    The backward is made of the same product, so it can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, memory: Reused | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.memory = memory
        return _plain(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_weight = None
        if needs_weight and _large(weight) and ctx.memory is not None and not torch.is_grad_enabled():
            # a tenth slower than oneDNN, which does not write to memory that is there; less than new memory costs
            of_weight = torch.mm(gradient.t(), x, out=ctx.memory(weight.shape, weight))
        elif needs_weight and _whole_width():
            of_weight = _product(gradient.t(), x.t(), None)
        elif needs_weight and x.shape[1] >= _COPY_PAYS and _pays(gradient.t(), x.t()):
            of_weight = _product(gradient.t().contiguous(), x.t(), None)
        elif needs_weight:
            of_weight = torch.mm(gradient.t(), x)
        return (
            _product(gradient, weight.t(), None) if needs_x else None,
            of_weight,
            gradient.sum(0) if needs_bias else None,
            None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b within a backward: as `_Product`, which is not needed where nothing is to be differentiated again."""
    if _pays(x, weight) and torch.is_grad_enabled():
        product: Tensor = _Product.apply(x, weight, bias, None)  # type: ignore[no-untyped-call]
        return product
    return _plain(x, weight, bias)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _onednn(x, weight, bias) if _pays(x, weight) else functional.linear(x, weight, bias)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _operations(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * x[0] * x[1] * weight[0]


# what torch's counter of floating point operations does not know: the operator, and its number from the shapes
UNCOUNTED = {torch.ops.mkldnn._linear_pointwise: _operations} if hasattr(torch.ops.mkldnn, "_linear_pointwise") else {}


def _pays(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= _WORTHWHILE
        and _faster_here()
    )


def _large(weight: Tensor) -> bool:
    return weight.numel() >= LARGE and weight.device.type == "cpu"


@cache
def _faster_here() -> bool:
    """Whether this is an AMD processor with 512-bit vectors and a torch that has oneDNN's matrix product."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (there and torch.backends.cpu.get_cpu_capability() == "AVX512"):
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and "AuthenticAMD" in _processor()


@cache
def _whole_width() -> bool:
    """Whether the processor has units as wide as its 512-bit vectors, as AMD's have from family 26 on (Zen 5)."""
    found = re.search(r"cpu family\s*:\s*(\d+)", _processor())
    return found is not None and int(found[1]) >= _ZEN_5


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8")[:4096]
    except OSError:  # not Linux: MKL stays
        return ""
