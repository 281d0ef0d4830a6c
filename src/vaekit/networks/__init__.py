"""Networks: tensor to tensor, no probability."""

from vaekit.networks.base import Network
from vaekit.networks.condition import Conditioned, Embedding, OneHot, Values
from vaekit.networks.conv import ConvDecoder, ConvEncoder
from vaekit.networks.counts import BatchDispersion, Compositional, Covariates, LatentCompositional, LogCounts
from vaekit.networks.growing import GrowingDecoder, GrowingEncoder, Growth
from vaekit.networks.initialised import Initialised
from vaekit.networks.maps import MapDecoder, MapEncoder
from vaekit.networks.mlp import MLP
from vaekit.networks.resnet import ResidualDecoder, ResidualEncoder
from vaekit.networks.wide import wide_decoder, wide_encoder

__all__ = [
    "MLP",
    "BatchDispersion",
    "Compositional",
    "Conditioned",
    "ConvDecoder",
    "ConvEncoder",
    "Covariates",
    "Embedding",
    "GrowingDecoder",
    "GrowingEncoder",
    "Growth",
    "Initialised",
    "LatentCompositional",
    "LogCounts",
    "MapDecoder",
    "MapEncoder",
    "Network",
    "OneHot",
    "ResidualDecoder",
    "ResidualEncoder",
    "Values",
    "wide_decoder",
    "wide_encoder",
]
