"""Published protocols: what they train, how it is measured, and what is said of the numbers."""

from vaekit.reproduce.catalogue import PROTOCOLS, protocol_named
from vaekit.reproduce.page import page, read_results
from vaekit.reproduce.protocol import Arm, Check, Protocol, Quantity, Variant
from vaekit.reproduce.runner import Outcome, reproduce
from vaekit.reproduce.words import listing, report

__all__ = [
    "PROTOCOLS",
    "Arm",
    "Check",
    "Outcome",
    "Protocol",
    "Quantity",
    "Variant",
    "listing",
    "page",
    "protocol_named",
    "read_results",
    "report",
    "reproduce",
]
