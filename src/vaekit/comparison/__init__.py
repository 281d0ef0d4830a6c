"""Finished runs side by side: their numbers in one table, best first, and the pictures that a choice between them needs."""

from vaekit.comparison.compare import Compare, compare
from vaekit.comparison.find import Found, find
from vaekit.comparison.importance import Importance, importance
from vaekit.comparison.measure import Measured, measure
from vaekit.comparison.settings import differing

__all__ = ["Compare", "Found", "Importance", "Measured", "compare", "differing", "find", "importance", "measure"]
