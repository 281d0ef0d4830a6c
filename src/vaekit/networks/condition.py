"""Networks that see what an example is conditioned on, and how a condition becomes numbers."""

# B batch, F values of a condition, E width of its embedding

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, one_hot

from vaekit.networks.base import Network

NetworkFactory = Callable[..., Network]


class Condition(nn.Module, ABC):
    """From what examples are conditioned on to vectors.

    Attributes:
        width: Length of a vector, E.
    """

    width: int

    @abstractmethod
    def forward(self, context: Tensor) -> Tensor:
        """From one row for each example to (B, E)."""


class OneHot(Condition):
    """Class labels as unit vectors.

    Arguments:
        classes: How many; labels count from 0.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.width = _classes(classes)

    def forward(self, context: Tensor) -> Tensor:
        """Labels (B,), int64, to (B, classes)."""
        return one_hot(_labels(context, self.width), self.width).to(torch.get_default_dtype())


class Embedding(Condition):
    """Class labels as learned vectors.

    Arguments:
        classes: How many; labels count from 0.
        width: Length of a vector.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}, expected 1 or more.")
        self.width, self.classes = width, _classes(classes)
        self.weight = nn.Parameter(torch.randn(classes, width))

    def forward(self, context: Tensor) -> Tensor:
        """Labels (B,), int64, to (B, width)."""
        return embedding(_labels(context, self.classes), self.weight)


class Values(Condition):
    """Continuous conditions as they are.

    Arguments:
        count: F, how many values an example is conditioned on.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(
                f"count is {count}, expected the number of values that an example is conditioned on: data.conditions names them."
            )
        self.width = count

    def forward(self, context: Tensor) -> Tensor:
        """Values (B, F), as they are."""
        if not context.is_floating_point() or context.dim() != 2 or context.shape[1] != self.width:
            raise ValueError(
                f"The model is conditioned on {self.width} values for each example, received {_said(context)}. "
                "For class labels write condition.kind=networks.OneHot."
            )
        return context


class Conditioned(Network):
    """Another network that sees the condition beside its input.

    The vector of the condition is appended to a flat input, and to an image as constant channels, one for each of its numbers.
    The same condition serves all importance samples of an example.

    Arguments:
        in_shape: Shape of one input, without the condition.
        out_shape: Shape of one output.
        network: Called with `in_shape`, larger by the condition, and `out_shape`.
        condition: From what an example is conditioned on to a vector.

    References:
        | Learning Structured Output Representation using Deep Conditional Generative Models (Sohn, Lee and Yan, 2015), section 4
        | https://papers.nips.cc/paper/5775
    """

    conditional = True

    def __init__(
        self, in_shape: Sequence[int], out_shape: Sequence[int], network: NetworkFactory, condition: Condition
    ) -> None:
        super().__init__(in_shape, out_shape)
        self.condition = condition
        self.network = network(in_shape=(in_shape[0] + condition.width, *in_shape[1:]), out_shape=out_shape)

    def begin_at(self, output: Tensor) -> None:
        """As the network."""
        self.network.begin_at(output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Inputs (*, B, *in_shape) and one row of `context` for each of the B examples to (*, B, *out_shape).

        Raises:
            ValueError: Without a context, or if it is not one row for each example.
        """
        if context is None:
            raise ValueError(
                "This model is conditional: say what to condition on, for example model.sample(n, context=labels)."
            )
        dims = len(self.in_shape)
        lead = x.shape[: x.dim() - dims]
        if context.shape[:1] != lead[-1:]:
            raise ValueError(
                f"The context is {_said(context)} for {lead[-1:].numel()} examples: give one row for each example."
            )
        c = self.condition(context).to(x.dtype)
        c = c.view(*c.shape, *(1,) * (dims - 1)).expand(*lead, self.condition.width, *self.in_shape[1:])
        out: Tensor = self.network(torch.cat([x, c], x.dim() - dims))
        return out


def _classes(classes: int) -> int:
    if classes < 1:
        raise ValueError(
            "The data have no labels to condition on: take data with labels, or continuous conditions: data.conditions=KEY and "
            "'condition={kind: networks.Values, count: F}'."
        )
    return classes


def _labels(context: Tensor, classes: int) -> Tensor:
    if context.is_floating_point() or context.dim() != 1:
        raise ValueError(
            f"The model is conditioned on one of {classes} class labels, received {_said(context)}. "
            "For continuous conditions write 'condition={kind: networks.Values, count: F}'."
        )
    # only where looking at the values does not make the host wait for them
    # a tensor of which only the shape is known, while a program is written, has no values to look at
    known = type(context) is Tensor and context.device.type == "cpu"
    if known and bool(((context < 0) | (context >= classes)).any()):
        raise ValueError(
            f"The model knows the classes 0 to {classes - 1}, received labels from {int(context.min())} to {int(context.max())}."
        )
    return context.long()


def _said(context: Tensor) -> str:
    return f"an array of {str(context.dtype).removeprefix('torch.')} and shape {tuple(context.shape)}"
