"""The figure of a codebook: how often each of its codes is chosen."""

# M codes

from pathlib import Path

import numpy as np

from vaekit.report.style import INK, MUTED, TRAIN, VALIDATION, heading, new_figure, tidy, write_message, write_png
from vaekit.report.tiles import Array


def codebook_usage(counts: Array, perplexity: float, path: Path) -> None:
    """Draw the share of each code, the most frequent first, beside that of codes that are all used alike.

    Arguments:
        counts: How often each code is chosen over a whole split, shape (M,).
        perplexity: exp of the entropy of the shares: how many codes, all used alike, would be as varied.
        path: The PNG to write.

    Raises:
        ValueError: If the counts are no list of numbers from 0.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError(f"Counts of codes are numbers from 0, shape (M,), received {counts.shape}.")
    if counts.sum() == 0:
        write_message("no code was chosen: there are no examples", path)
        return
    shares = np.sort(counts)[::-1] / counts.sum()
    size, dead = len(shares), int((counts == 0).sum())
    figure = new_figure(7.6, 3.8)
    axes = figure.add_axes((0.085, 0.14, 0.895, 0.68))
    tidy(axes)
    axes.grid(visible=False, axis="x")
    edges = np.arange(size + 1) + 0.5
    axes.stairs(100 * shares, edges, fill=True, color=TRAIN, linewidth=0)
    axes.axhline(100 / size, color=VALIDATION, linewidth=1.4, linestyle=(0, (5, 4)))
    top = 1.12 * 100 * max(float(shares[0]), 1 / size)
    axes.text(
        edges[-1], 100 / size + 0.015 * top, "all codes alike ", ha="right", va="bottom", fontsize=8, color=VALIDATION
    )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, top)
    axes.set_xlabel("codes, the most frequent first", fontsize=8.5, color=INK)
    axes.set_ylabel("share, %", fontsize=8.5, color=MUTED)
    heading(axes, _words(size, dead), f"perplexity {perplexity:,.1f} of {size:,}")
    write_png(figure, path)


def _words(size: int, dead: int) -> str:
    if not dead:
        return "Every code is used" if size > 1 else "The one code is used"
    return f"{dead:,} of {size:,} codes {'is' if dead == 1 else 'are'} never used"
