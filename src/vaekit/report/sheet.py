"""A sheet: pixels shown one to one, with text around them."""

import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from vaekit.report.style import DPI, MUTED, legible, new_figure, write_png
from vaekit.report.tiles import Pixels

MARGIN = 24
LINE = 26  # pixels from one line of the caption to the next
NARROWEST = 400  # so that the caption of a small sheet has room


class Sheet:
    """Paper around a mosaic, with `left`, `above` and `bottom` pixels kept free for labels. Positions count from the top left.

    matplotlib's `imshow` would resample; `figimage` copies, so what is on the paper are the pixels of the mosaic.
    """

    def __init__(self, pixels: Pixels, *, caption: str = "", left: int = 0, above: int = 0, bottom: int = 0) -> None:
        self.left = MARGIN + left
        self.width = max(NARROWEST, self.left + pixels.shape[1] + MARGIN)
        lines = textwrap.wrap(legible(caption), max(20, (self.width - 2 * MARGIN) // 10))
        self.top = MARGIN + LINE * len(lines) + (10 if lines else 0) + above
        self.height = self.top + pixels.shape[0] + bottom + MARGIN
        self.figure: Figure = new_figure((self.width + 0.01) / DPI, (self.height + 0.01) / DPI)
        for number, line in enumerate(lines):
            self.text(MARGIN, MARGIN + LINE * number, line, va="top")
        self.figure.figimage(pixels, xo=self.left, yo=self.height - self.top - pixels.shape[0], origin="upper")

    def text(self, x: float, y: float, text: str, *, size: float = 8.5, color: str = MUTED, **how: object) -> None:
        """Write the text at the pixel; `how` are properties of matplotlib's Text."""
        place = x / self.width, 1 - y / self.height
        self.figure.text(*place, legible(text), fontsize=size, color=color, parse_math=False, **how)  # type: ignore[arg-type]

    def write(self, path: Path) -> None:
        """Write the sheet as PNG."""
        write_png(self.figure, path)
