"""Figures and the page about a run: numbers and arrays in, plain files out; no model is loaded."""

from vaekit.report.animation import animation, frame
from vaekit.report.codebook import codebook_usage
from vaekit.report.columns import histograms, kept
from vaekit.report.curves import training_losses
from vaekit.report.gradients import gradient_signal
from vaekit.report.grids import generated_samples, manifold, reconstructions
from vaekit.report.latent import latent_space
from vaekit.report.page import write_page
from vaekit.report.spectrum import latent_spectrum
from vaekit.report.strips import strips
from vaekit.report.style import write_message
from vaekit.report.tables import html_table, plain_table, written

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
