"""The size of the weights, and rectified units that no example switches on."""

# N rows, F units

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vaekit.data.batch import Batch
from vaekit.evaluation.units import Estimate
from vaekit.models.vae import VAE

# in float64, and twice that: all at once would take more memory than the training of a wide model has taken
_AT_ONCE = 1 << 20


def finite(model: VAE) -> bool:
    """Whether every number of the model's state is."""
    numbers = (value.flatten() for value in model.state_dict().values())
    return all(bool(part.isfinite().all()) for value in numbers for part in torch.split(value, _AT_ONCE))


def weight_symptoms(model: VAE) -> dict[str, Estimate]:
    """`weight`: root mean square of all entries of matrices and kernels; `broken_weights`: how many are not finite."""
    weights = [parameter.detach() for parameter in model.parameters() if parameter.dim() > 1]
    count = sum(weight.numel() for weight in weights)
    if not count:
        return {}
    square, broken = 0.0, 0
    for weight in weights:
        for part in torch.split(weight.flatten(), _AT_ONCE):
            square += float(part.double().square().sum())
            broken += int((~part.isfinite()).sum())
    square /= count
    return {
        "weight": Estimate(square**0.5, 0.0, "1", 0, f"root mean square of {count:,} weights"),
        "broken_weights": Estimate(float(broken), 0.0, "1", 0, f"of {count:,} weights, how many are not finite"),
    }


def unit_symptoms(model: VAE, batch: Batch) -> dict[str, Estimate]:
    """`dead_encoder`, `dead_decoder`: of the layer with the most of them, the share of ReLU units that no example switches on."""
    found = {}
    for name, network in (("encoder", model.encoder), ("decoder", model.decoder)):
        layers = [part for part in network.modules() if isinstance(part, nn.ReLU)]
        fired: dict[int, Tensor] = {}
        hooks = [layer.register_forward_hook(_noting(fired, place)) for place, layer in enumerate(layers)]
        try:
            model(batch.x, 1, batch.context)
        finally:
            for hook in hooks:
                hook.remove()
        dead = {place: 1.0 - float(units.double().mean()) for place, units in fired.items() if units.numel()}
        if dead:
            worst = max(dead, key=lambda place: dead[place])
            words = f"share of the {fired[worst].numel()} ReLU units of layer {worst + 1} that no example switches on"
            found[f"dead_{name}"] = Estimate(dead[worst], 0.0, "1", len(batch.x), words)
    return found


def _noting(fired: dict[int, Tensor], place: int) -> Any:
    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # (N, F) or (N, C, H, W): units are features or channels
        rows = output.flatten(0, -2) if output.dim() < 4 else output.transpose(1, -1).flatten(0, -2)
        now = (rows > 0).any(0)
        fired[place] = now if place not in fired else torch.logical_or(fired[place], now)

    return note
