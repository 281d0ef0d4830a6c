"""Networks: tensor to tensor, no probability."""

from vaekit.networks.base import Network
from vaekit.networks.conv import ConvDecoder, ConvEncoder
from vaekit.networks.mlp import MLP

__all__ = ["MLP", "ConvDecoder", "ConvEncoder", "Network"]
