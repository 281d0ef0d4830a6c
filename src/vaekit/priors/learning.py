"""Maximum likelihood by gradient, for priors that are networks."""

# N latents

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# of the latents, held out to say when to stop
_HELD_OUT = 0.1
# of the steps, between two looks at them
_LOOK = 20


def maximise(
    network: nn.Module,
    log_prob: Callable[[Tensor], Tensor],
    data: Tensor,
    *,
    steps: int,
    batch_size: int = 256,
    lr: float = 1e-3,
) -> None:
    """Fit a network by maximum likelihood with Adam, and leave it with the weights that were best on a tenth of the data held out.

    Draws from torch's generator; a seeded one makes the fit repeatable on the CPU.

    Arguments:
        network: Whose parameters move; they ask for gradients only meanwhile.
        log_prob: From rows of the data to nats, (n,).
        data: (N, *).
        steps: Of the optimizer; the learning rate falls to 0 along half a cosine.
        batch_size: Of each.
        lr: Where the learning rate starts.
    """
    order = torch.randperm(len(data)).to(data.device)
    held = max(1, int(_HELD_OUT * len(data)))
    judged, seen = data[order[:held]], data[order[held:]]
    network.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, weights = -float("inf"), _copied(network)
    for step in range(steps):
        rows = torch.randint(len(seen), (min(batch_size, len(seen)),)).to(data.device)
        optimizer.zero_grad()
        (-log_prob(seen[rows]).mean()).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        falling.step()
        if (step + 1) % max(1, steps // _LOOK) == 0:
            with torch.no_grad():
                score = torch.cat([log_prob(part) for part in torch.split(judged, 1024)]).mean().item()
            if score > best:
                best, weights = score, _copied(network)
    network.load_state_dict(weights)
    network.requires_grad_(False)


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
