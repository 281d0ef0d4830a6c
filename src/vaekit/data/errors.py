"""What can go wrong with data, as three errors that a caller may want to catch."""

from __future__ import annotations


class DataFormatError(ValueError):
    """A file is damaged, or is not of the format that it should have; the message names the file."""


class DataNotFoundError(FileNotFoundError):
    """The files of a data set are neither on this machine nor to be had; the message says where to put them."""


class DownloadError(RuntimeError):
    """A file could not be fetched, or is not the published one; the message has the URL, what was expected and found."""
