"""All protocols, by name."""

from __future__ import annotations

from vaekit.errors import ConfigError, closest
from vaekit.reproduce.cells import PBMC3K
from vaekit.reproduce.gaussian import LINEAR_GAUSSIAN
from vaekit.reproduce.iwae import DREG, TABLE_1, TWO_LAYERS
from vaekit.reproduce.progressive import PROGRESSIVE
from vaekit.reproduce.protocol import Protocol
from vaekit.reproduce.sigma import OPTIMAL_SIGMA
from vaekit.reproduce.vampprior import CALTECH, FREY

_ALL = (LINEAR_GAUSSIAN, TABLE_1, TWO_LAYERS, DREG, CALTECH, FREY, OPTIMAL_SIGMA, PROGRESSIVE, PBMC3K)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def protocol_named(name: str) -> Protocol:
    """The protocol called `name`.

    Raises:
        ConfigError: If there is none; the message names the closest ones.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"there is no protocol {name!r}{closest(name, PROTOCOLS)}")
    return PROTOCOLS[name]
