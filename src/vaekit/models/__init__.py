"""Models: how parts make a latent variable model."""

from vaekit.models.bottom_up import BottomUp
from vaekit.models.factories import flat, growing, residual_growing, two_layers
from vaekit.models.hierarchy import Hierarchy, TopDown
from vaekit.models.level import Level
from vaekit.models.library import latent_library
from vaekit.models.quantized import quantized
from vaekit.models.trace import Latent, Trace
from vaekit.models.vae import VAE

__all__ = [
    "VAE",
    "BottomUp",
    "Hierarchy",
    "Latent",
    "Level",
    "TopDown",
    "Trace",
    "flat",
    "growing",
    "latent_library",
    "quantized",
    "residual_growing",
    "two_layers",
]
