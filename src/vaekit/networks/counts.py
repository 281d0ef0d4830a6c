"""Networks for counts of cells, whose context is the logarithm of the library size, the experimental batch and covariates."""

# B batch, P rows of a likelihood's context, L latent dimensions, *x event of the data, F numbers of a condition

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaekit.networks.base import Network
from vaekit.networks.condition import Condition, NetworkFactory

_REMEDY = (
    "Take data=pbmc3k, or data=cells data.path=FILE with expression=counts: each cell then comes with the logarithm of its library "
    "size, its batch and its covariates."
)


class Covariates(Condition):
    """What is known of a cell beside its library size: its experimental batch and its covariates, as they are.

    Arguments:
        count: F, how many numbers a cell is conditioned on; the first, the logarithm of the library size, is left to
            `networks.Compositional`. So nothing may be left.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"count is {count}: these data have no library size to condition on. {_REMEDY}")
        self.width, self.count = count - 1, count

    def forward(self, context: Tensor) -> Tensor:
        """(B, F) to (B, F - 1)."""
        return checked(context, self.count)[:, 1:]


class LogCounts(Network):
    """Another network that sees the logarithm of counts, log(1 + x): 0 stays 0, and one gene of thousands does not drown the rest.

    Arguments:
        in_shape: Shape of one input.
        out_shape: Shape of one output.
        network: Called with these.
    """

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int], network: NetworkFactory) -> None:
        super().__init__(in_shape, out_shape)
        self.network = network(in_shape=in_shape, out_shape=out_shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Counts (*, *in_shape) to (*, *out_shape)."""
        out: Tensor = self.network(x.log1p(), context)
        return out


class Compositional(Network):
    r"""Another network whose first row becomes log-means of counts that add up to the library of the cell.

    .. math:: \log \mu_d = \log \ell + \log \mathrm{softmax}(h)_d

    With the library :math:`\ell`, the sum of the counts of the cell, out of the context, the latent has only to say how it is
    divided among the genes: how deeply a cell was sequenced is no part of what it is. Further rows pass as they are.

    Arguments:
        in_shape: Shape of one input.
        out_shape: (P, *event_shape), as likelihoods of counts want it.
        network: Called with these.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), Methods: f_w and the softmax behind it
        | https://doi.org/10.1038/s41592-018-0229-2
    """

    conditional = True

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int], network: NetworkFactory) -> None:
        super().__init__(in_shape, _rows(out_shape))
        self.network = network(in_shape=in_shape, out_shape=out_shape)

    def begin_at(self, output: Tensor) -> None:
        """As the network: the softmax of log-means is their share of the library."""
        self.network.begin_at(output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(*, B, *in_shape) and a context (B, F) to (*, B, P, *event_shape)."""
        return composed(self.network(x, context), checked(context)[:, 0], len(self.out_shape) - 1)


class LatentCompositional(Network):
    r"""`Compositional` with the logarithm of the library from the last number of the input, in place of the context's.

    Arguments:
        in_shape: (L + 1,): what is known of the cell, and :math:`\log \ell`.
        out_shape: (P, *event_shape), as likelihoods of counts want it.
        network: Called with (L,) and `out_shape`.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), Methods
        | https://doi.org/10.1038/s41592-018-0229-2
    """

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int], network: NetworkFactory) -> None:
        super().__init__(in_shape, _rows(out_shape))
        if len(in_shape) != 1 or in_shape[0] < 2:
            raise ValueError(
                f"in_shape is {list(in_shape)}, expected a latent and a library beside it: write "
                "architecture.kind=models.latent_library."
            )
        self.network = network(in_shape=(in_shape[0] - 1,), out_shape=out_shape)

    def begin_at(self, output: Tensor) -> None:
        """As the network: the softmax of log-means is their share of the library."""
        self.network.begin_at(output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(*, B, L + 1) and a context (B, F) to (*, B, P, *event_shape)."""
        return composed(self.network(x[..., :-1], context), x[..., -1], len(self.out_shape) - 1)


class BatchDispersion(Network):
    r"""Another network, below whose rows stands :math:`\log \theta` of each gene in the cell's experimental batch.

    Arguments:
        in_shape: Shape of one input.
        out_shape: (P, *event_shape): the last row is the dispersion's.
        network: Called with `in_shape` and the P - 1 rows above.
        batches: Experimental batches, whose unit vector follows the library size in the context; data.batch=COLUMN names them.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), https://doi.org/10.1038/s41592-018-0229-2
    """

    conditional = True

    def __init__(
        self, in_shape: Sequence[int], out_shape: Sequence[int], network: NetworkFactory, batches: int
    ) -> None:
        super().__init__(in_shape, _rows(out_shape))
        if batches < 1:
            raise ValueError(
                "These data have no experimental batches to tell apart: write data.batch=COLUMN, or "
                "network=counts likelihood=negative_binomial for one dispersion for each gene."
            )
        if out_shape[0] < 2:
            raise ValueError(
                "This likelihood learns its own dispersion: write likelihood=negative_binomial_given or zinb_given, which take "
                "it from the network."
            )
        self.network = network(in_shape=in_shape, out_shape=(out_shape[0] - 1, *out_shape[1:]))
        self.log_theta = nn.Parameter(torch.zeros(batches, *out_shape[1:]))

    def begin_at(self, output: Tensor) -> None:
        """As the network, by the rows above."""
        self.network.begin_at(output[:-1])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(*, B, *in_shape) and a context (B, F) to (*, B, P, *event_shape)."""
        rows: Tensor = self.network(x, context)
        batches = self.log_theta.shape[0]
        unit = checked(context)[:, 1 : 1 + batches].to(x.dtype)
        unit = (
            unit + (1.0 - unit.sum(1, keepdim=True)) / batches
        )  # a batch that was not trained on has the average of them
        log_theta = torch.tensordot(unit, self.log_theta, dims=1).unsqueeze(1)
        return torch.cat(
            [rows, log_theta.expand(*rows.shape[: -len(self.out_shape)], *log_theta.shape[1:])], -len(self.out_shape)
        )


def composed(rows: Tensor, log_library: Tensor, event_dims: int) -> Tensor:
    r"""Rows whose first is :math:`\log \ell + \log \mathrm{softmax}(h)` of what it was.

    Arguments:
        rows: (*, B, P, *x).
        log_library: :math:`\log \ell`, (B,) or (*, B).
        event_dims: Dimensions of \*x.
    """
    first = rows.select(-event_dims - 1, 0)
    scale = log_library.to(rows.dtype).reshape(*log_library.shape, *(1,) * event_dims)
    log_mean = first.flatten(-event_dims).log_softmax(-1).view(first.shape) + scale
    log_mean = log_mean.unsqueeze(-event_dims - 1)
    if rows.shape[-event_dims - 1] == 1:
        return log_mean
    return torch.cat([log_mean, rows.narrow(-event_dims - 1, 1, rows.shape[-event_dims - 1] - 1)], -event_dims - 1)


def checked(context: Tensor | None, count: int | None = None) -> Tensor:
    """The context of cells, (B, F).

    Raises:
        ValueError: If it is none.
    """
    numbers = context is not None and context.is_floating_point() and context.dim() == 2
    if context is None or not numbers or not context.shape[1] or count not in (None, context.shape[1]):
        received = "none" if context is None else f"an array of {context.dtype} and shape {tuple(context.shape)}"
        wanted = f"(cells, {count})" if count else "(cells, 1 or more)"
        raise ValueError(
            f"The model is conditioned on the logarithm of each cell's library size and what follows it, an array of numbers of "
            f"shape {wanted}, received {received}. {_REMEDY}"
        )
    return context


def _rows(shape: Sequence[int]) -> Sequence[int]:
    if len(shape) < 2 or math.prod(shape) < 1:
        raise ValueError(
            f"out_shape is {list(shape)}, expected rows of a likelihood of counts: write likelihood=negative_binomial, poisson or "
            "zinb, or network=mlp for a likelihood of other values."
        )
    return shape
