"""Figures and the page about a run: numbers and arrays in, plain files out; no model is loaded."""

from vaekit.report.curves import training_losses
from vaekit.report.grids import generated_samples, manifold, reconstructions
from vaekit.report.latent import latent_space
from vaekit.report.page import write_page
from vaekit.report.tables import html_table, plain_table, written

__all__ = [
    "generated_samples",
    "html_table",
    "latent_space",
    "manifold",
    "plain_table",
    "reconstructions",
    "training_losses",
    "write_page",
    "written",
]
