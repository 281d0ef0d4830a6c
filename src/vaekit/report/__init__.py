"""Figures and the page about a run: numbers and arrays in, plain files out; no model is loaded.

Names load when they are first used: a figure needs matplotlib, and a training draws its first when an epoch is over.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaekit.report.codebook import codebook_usage
    from vaekit.report.columns import histograms, kept
    from vaekit.report.curves import training_losses
    from vaekit.report.gif import animation, frame
    from vaekit.report.gradients import gradient_signal
    from vaekit.report.grids import generated_samples, manifold, reconstructions
    from vaekit.report.latent import latent_space
    from vaekit.report.page import write_page
    from vaekit.report.spectrum import latent_spectrum
    from vaekit.report.strip import strips
    from vaekit.report.style import write_message
    from vaekit.report.tables import html_table, plain_table, written

# no file may have the name of a function: importing it would put the file in the function's place
_HOMES = {
    "animation": "gif",
    "codebook_usage": "codebook",
    "frame": "gif",
    "generated_samples": "grids",
    "gradient_signal": "gradients",
    "histograms": "columns",
    "html_table": "tables",
    "kept": "columns",
    "latent_space": "latent",
    "latent_spectrum": "spectrum",
    "manifold": "grids",
    "plain_table": "tables",
    "reconstructions": "grids",
    "strips": "strip",
    "training_losses": "curves",
    "write_message": "style",
    "write_page": "page",
    "written": "tables",
}

__all__ = [
    "animation",
    "codebook_usage",
    "frame",
    "generated_samples",
    "gradient_signal",
    "histograms",
    "html_table",
    "kept",
    "latent_space",
    "latent_spectrum",
    "manifold",
    "plain_table",
    "reconstructions",
    "strips",
    "training_losses",
    "write_message",
    "write_page",
    "written",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"vaekit.report.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vaekit.report' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
