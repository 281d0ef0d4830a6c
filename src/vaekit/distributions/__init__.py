"""Distributions without parameters, and how they are drawn from."""

from vaekit.distributions.draw import Draw, centre, draw

__all__ = ["Draw", "centre", "draw"]
