"""Arguments that several commands share."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def add_run(parser: ArgumentParser) -> None:
    """The run folder."""
    parser.add_argument("run", type=Path, help="a run folder, the last line that `vaekit train` printed")


def add_split(parser: ArgumentParser) -> None:
    """The part of the data."""
    parser.add_argument(
        "--split", default="test", help="train, validation, test (default), or ood where the data set some aside"
    )


def add_device(parser: ArgumentParser) -> None:
    """Where to compute."""
    parser.add_argument("--device", default="auto", help="auto (default), cuda, mps or cpu")


def add_label(parser: ArgumentParser) -> None:
    """The class that a conditional model decodes."""
    parser.add_argument("--label", help="of a conditional model: the class, by name or number")
