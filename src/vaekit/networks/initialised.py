"""Another network with first weights by a rule of the literature, in place of torch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from vaekit.networks.base import Network
from vaekit.networks.condition import NetworkFactory

Rule = Literal["glorot", "he"]


class Initialised(Network):
    r"""Another network whose linear layers begin with biases of 0 and weights drawn by a rule.

    With n inputs and m outputs of a layer, `glorot` is uniform on :math:`\pm \sqrt{6 / (n + m)}` and `he` normal with variance
    :math:`2 / n`; torch's own rule is uniform on :math:`\pm \sqrt{1 / n}`.

    Arguments:
        in_shape: Shape of one input.
        out_shape: Shape of one output.
        network: Called with these.
        rule: glorot or he.

    References:
        | Understanding the difficulty of training deep feedforward neural networks (Glorot and Bengio, 2010), equation 16
        | https://proceedings.mlr.press/v9/glorot10a.html
        | Delving Deep into Rectifiers (He, Zhang, Ren and Sun, 2015), equation 10, https://arxiv.org/abs/1502.01852
    """

    def __init__(
        self, in_shape: Sequence[int], out_shape: Sequence[int], network: NetworkFactory, rule: Rule = "glorot"
    ) -> None:
        super().__init__(in_shape, out_shape)
        self.network = network(in_shape=in_shape, out_shape=out_shape)
        for part in self.network.modules():
            if isinstance(part, nn.Linear):
                _RULES[rule](part.weight)
                nn.init.zeros_(part.bias)

    def begin_at(self, output: Tensor) -> None:
        """As the network."""
        self.network.begin_at(output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, *in_shape) to (*, *out_shape)."""
        out: Tensor = self.network(x, context)
        return out


def _he(weight: Tensor) -> None:
    nn.init.normal_(weight, std=(2.0 / weight.shape[1]) ** 0.5)


_RULES: dict[str, Callable[[Tensor], object]] = {"glorot": nn.init.xavier_uniform_, "he": _he}
