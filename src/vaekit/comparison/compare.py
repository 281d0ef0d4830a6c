"""All of a comparison in order: find the runs, measure what is not known yet, group them, draw, write."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vaekit import runs
from vaekit.comparison.find import find
from vaekit.comparison.measure import Measured, checked, kept, measure
from vaekit.comparison.pictures import check_colour, draw, mapper_named
from vaekit.comparison.table import Compared, check_order, groups
from vaekit.data import Dataset
from vaekit.errors import ConfigError, RunError
from vaekit.recipe import open_data
from vaekit.report.comparison import Comparison, Group, Picture, write_csv
from vaekit.report.comparison_page import write_comparison_page

Say = Callable[[str], None]


def _quiet(line: str) -> None:
    pass


@dataclass(frozen=True)
class Compare:
    """What was written.

    Attributes:
        comparison: The table.
        csv: Its file.
        page: The HTML page.
    """

    comparison: Comparison
    csv: Path
    page: Path


def compare(
    roots: Sequence[Path],
    out: Path | None = None,
    *,
    by: str | None = None,
    colour: str | None = None,
    map_name: str = "pca",
    device: str = "auto",
    say: Say = _quiet,
) -> Compare:
    """Compare the finished runs in and below some folders, and write `comparison.csv`, `comparison.html` and pictures.

    Arguments:
        roots: Folders.
        out: Where to write; `comparison` in the first of them by default.
        by: Key of the column that orders the runs, such as test/mse; the ELBO on validation data where all of them compare by it.
        colour: Column of the examples behind the colours of the map; the labels by default.
        map_name: pca or umap.
        device: Where to measure.
        say: Told what is done, a line at a time.

    Raises:
        RunError: If there is no run.
        ConfigError: For a column, a map or a number that is not there.
    """
    roots = list(map(Path, roots))
    mapper = mapper_named(map_name)  # what is refused is refused before anything is measured
    if by is not None:
        check_order(by)
    found = find(roots)
    for line in found.left_out:
        say(f"Left out: {line}")
    measured, failed = _measured(found.runs, device, say)
    if not measured:
        raise RunError(f"None of {len(found.runs)} runs can be compared. The first: {failed[0]}")
    compared = groups(measured, by)
    if colour is not None:
        check_colour(compared, colour)
    out = roots[0] / "comparison" if out is None else Path(out)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    made: list[Group] = []
    for place, group in enumerate(compared, 1):
        prefix = f"{place}_" if len(compared) > 1 else ""
        pictures, notes = draw(group, out / "figures", prefix, mapper, colour)
        made.append(_with(group, tuple(pictures), notes))
    comparison = Comparison(tuple(map(str, roots)), tuple(made), (*found.left_out, *failed))
    return Compare(
        comparison,
        write_csv(comparison, out / "comparison.csv"),
        write_comparison_page(comparison, out / "comparison.html"),
    )


def _with(compared: Compared, pictures: tuple[Picture, ...], notes: Sequence[str]) -> Group:
    return replace(compared.group, pictures=pictures, notes=(*compared.group.notes, *notes))


def _measured(paths: Sequence[Path], device: str, say: Say) -> tuple[list[Measured], list[str]]:
    """All runs; those on the same data one after the other, so that one data set at a time is in memory."""
    measured: list[Measured] = []
    failed: list[str] = []
    opened: tuple[str, Dataset] | None = None
    ordered = sorted(paths, key=lambda path: (repr(runs.Run(path).config["data"]), str(path)))
    for place, path in enumerate(ordered, 1):
        try:
            run = checked(path, device)
            key = repr(run.config["data"])
            known = kept(run)
            if known is None:
                say(f"Measuring {place} of {len(ordered)}: {path}")
                if opened is None or opened[0] != key:
                    opened = None
                    gc.collect()
                    opened = key, open_data(run.config["data"]).to(run.device)
                known = measure(replace(run, opened=opened[1]))
            measured.append(known)
        except (RunError, ConfigError, ValueError, OSError) as error:
            line = f"{path}: {' '.join(str(error).split())[:300]}"
            say(f"Left out: {line}")
            failed.append(line)
    return measured, failed
