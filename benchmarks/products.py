"""The arithmetic floor of a training step: the matrix products and convolutions of a model, and nothing else.

The layers are read from the model as it runs, so a floor is that of the very shapes that are trained. Each product goes to the
faster of torch's two CPU libraries, found by trying both before the clock starts. Of the layers that see the data no gradient
goes further down, so that product is left out, as it is in training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.networks import phases

Product = Callable[[], Any]


def floor_of(run: Callable[[], Any], model: nn.Module, data_layers: int = 1) -> tuple[Callable[[int], None], int]:
    """Steps that do the products of what `run` does with `model`, and how many products these are.

    Arguments:
        run: One forward pass of the model, as in training.
        model: Whose layers are watched.
        data_layers: How many layers, the first that run, have data for their input.
    """
    seen: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((layer, inputs[0].detach().clone()))

    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    least, phases._LEAST = (
        phases._LEAST,
        1 << 30,
    )  # the convolutions as they are defined, and not as vaekit computes them
    with torch.no_grad():
        run()
    phases._LEAST = least
    for hook in hooks:
        hook.remove()
    products = [product for place, (layer, x) in enumerate(seen) for product in _of(layer, x, place >= data_layers)]

    def steps(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                for product in products:
                    product()

    return steps, len(products)


def _of(layer: nn.Module, x: Tensor, inner: bool) -> list[Product]:
    """Forward, gradient of the weight, and of the input where something below needs it."""
    if isinstance(layer, nn.Linear):
        rows = x.reshape(-1, layer.in_features)
        gradient = torch.randn(len(rows), layer.out_features)
        weight = layer.weight.detach()
        asked = [(rows, weight.t()), (gradient.t(), rows), *([(gradient, weight)] if inner else [])]
        return [_faster(a, b) for a, b in asked]
    assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
    return _convolution(layer, x, inner)


def _faster(a: Tensor, b: Tensor) -> Product:
    """a b, into memory that is there where the library can."""
    out = torch.empty(len(a), b.shape[1])
    candidates: list[Product] = [lambda: torch.mm(a, b, out=out)]
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        across = b.t()
        candidates.append(lambda: torch.ops.mkldnn._linear_pointwise(a, across, None, "none", [], ""))
    return min(candidates, key=_seconds)


def _convolution(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor, inner: bool) -> list[Product]:
    transposed = isinstance(layer, nn.ConvTranspose2d)
    images = x.reshape(-1, *x.shape[-3:])
    weight = layer.weight.detach()
    output_padding = layer.output_padding if transposed else (0, 0)
    shape = (layer.stride, layer.padding, layer.dilation, transposed, output_padding, layer.groups)

    def both(images: Tensor, weight: Tensor) -> list[Product]:
        gradient = torch.randn_like(torch.ops.aten.convolution(images, weight, None, *shape))

        def backward() -> Any:
            return torch.ops.aten.convolution_backward(gradient, images, weight, None, *shape, (inner, True, False))

        return [lambda: torch.ops.aten.convolution(images, weight, None, *shape), backward]

    last = torch.channels_last
    plain, across = both(images, weight), both(images.to(memory_format=last), weight.to(memory_format=last))
    return min(plain, across, key=lambda pair: sum(map(_seconds, pair)))


def _seconds(product: Product) -> float:
    product()
    taken = []
    for _ in range(5):
        before = time.process_time()
        product()
        taken.append(time.process_time() - before)
    return min(taken)
