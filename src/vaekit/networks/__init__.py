"""Networks: tensor to tensor, no probability."""

from vaekit.networks.base import Network
from vaekit.networks.condition import Conditioned, Embedding, OneHot, Values
from vaekit.networks.conv import ConvDecoder, ConvEncoder
from vaekit.networks.growing import GrowingDecoder, GrowingEncoder, Growth
from vaekit.networks.maps import MapDecoder, MapEncoder
from vaekit.networks.mlp import MLP
from vaekit.networks.resnet import ResidualDecoder, ResidualEncoder

__all__ = [
    "MLP",
    "Conditioned",
    "ConvDecoder",
    "ConvEncoder",
    "Embedding",
    "GrowingDecoder",
    "GrowingEncoder",
    "Growth",
    "MapDecoder",
    "MapEncoder",
    "Network",
    "OneHot",
    "ResidualDecoder",
    "ResidualEncoder",
    "Values",
]
