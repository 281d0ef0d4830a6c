"""How every figure looks, and how it reaches the disk: one place for colours, sizes and bytes.

Only matplotlib's object interface is used, so that drawing changes no global state and works in any thread.
"""

import math
import textwrap
from functools import cache
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from vaekit.files import write_atomically

DPI = 150
INK, MUTED, GRID, PAPER = "#1f2430", "#667085", "#e4e7ec", "#ffffff"

# Okabe and Ito's blue and vermilion: told apart with every common colour vision deficiency, and in grey.
TRAIN, VALIDATION = "#0072b2", "#d55e00"

# Petroff's ten colours, optimised for colour vision deficiencies (https://arxiv.org/abs/2107.02270).
CLASSES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip


def new_figure(width: float, height: float) -> Figure:
    """Give an empty white figure of `width` by `height` inches at 150 dots per inch."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> None:
    """Leave of the axes' furniture what carries information: a light grid, quiet ticks, two spines."""
    axes.set_facecolor(PAPER)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)


def heading(axes: Axes, title: str, unit: str = "") -> None:
    """Write the title over the left edge of the axes, and the unit, in grey, over the right one."""
    axes.set_title(legible(title), loc="left", fontsize=10, fontweight="bold", color=INK, pad=10, parse_math=False)
    axes.set_title(legible(unit), loc="right", fontsize=8, color=MUTED, pad=10, parse_math=False)


def legible(text: str, longest: int = 400) -> str:
    """Give the text on one line, shortened, with the characters that the font lacks replaced.

    Names come from files: a missing glyph would make matplotlib warn, and a line break would shift the layout.
    """
    line = " ".join(str(text).split())
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return "".join(character if ord(character) in _glyphs() else "\N{REPLACEMENT CHARACTER}" for character in line)


def text_width(text: str, size: float) -> int:
    """Pixels that a line of legible text takes."""
    renderer = RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]
    width: float = renderer.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]  # type: ignore[no-untyped-call]
    return math.ceil(width)


def write_message(message: str, path: Path) -> None:
    """Write a picture that only says why there is nothing to see yet."""
    lines = textwrap.wrap(legible(message), 52)
    figure = new_figure(6, max(2.0, 1.0 + 0.28 * len(lines)))
    said = "\n".join(lines)
    figure.text(0.5, 0.5, said, ha="center", va="center", color=MUTED, fontsize=12, linespacing=1.4, parse_math=False)
    write_png(figure, path)


def write_png(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically: equal figures give equal bytes, for neither date nor software is stored."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None}, facecolor=PAPER)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), buffer.getvalue())


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
