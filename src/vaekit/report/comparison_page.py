"""One self-contained HTML file about many runs: their table, best first, and the pictures. No script, every text escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from vaekit._version import __version__
from vaekit.files import write_atomically
from vaekit.report.comparison import Cell, Column, Comparison, Group, Line, Picture
from vaekit.report.markup import Markup, element, joined, visible, void
from vaekit.report.page import page_head
from vaekit.report.private import without_home
from vaekit.report.tables import digits
from vaekit.report.theme import MARK

SPLITS = {"validation": "validation", "test": "test, in distribution", "ood": "out of distribution"}

# beside the theme of all pages: a table that is wider than the page keeps its first column in sight
TABLE_STYLE = Markup("""
main, header > div, footer { max-width: 1360px; }
.compared { font-size: 14px; width: auto; min-width: 100%; overflow-wrap: normal; }
.compared th, .compared td { padding: 8px 16px 8px 0; white-space: nowrap; }
.compared th { vertical-align: bottom; }
.compared th.value { white-space: normal; min-width: 92px; }
.compared .split { font-weight: 500; font-size: 12px; text-align: left; border-bottom: 0; padding-bottom: 0; }
.compared .rank { position: sticky; left: 0; background: var(--card); padding-right: 12px; color: var(--muted); }
.compared td.value { font-weight: 500; }
.compared td.best { font-weight: 700; color: var(--accent); }
.compared td.missing, .compared .apart { color: var(--muted); }
.compared .se { display: block; font-size: 12px; font-weight: 400; color: var(--muted); }
.compared .unit { display: block; font-weight: 400; font-size: 12px; }
.compared tr.first td { background: var(--note-paper); }
.compared td.setting { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 13px; }
.compared td.run { color: var(--muted); font-size: 13px; }
.pictures.main { margin-bottom: 24px; }
.told { color: var(--muted); font-size: 14px; margin: 12px 0 0; padding-left: 18px; }
""")


def write_comparison_page(comparison: Comparison, path: Path) -> Path:
    """Write the page; the same comparison gives the same bytes.

    Arguments:
        comparison: With pictures that are on the disk.
        path: The HTML file.
    """
    write_atomically(path, _page(comparison).encode())
    return path


def _page(comparison: Comparison) -> str:
    count = sum(len(group.lines) for group in comparison.groups)
    title = f"{count} {'run' if count == 1 else 'runs'} compared"
    links = [element("a", group.title, href=f"#group-{place}") for place, group in enumerate(comparison.groups, 1)]
    if comparison.left_out:
        links.append(element("a", "Left out", href="#left-out"))
    searched = (element("li", element("span", "searched"), without_home(name)) for name in comparison.searched)
    head = joined(
        element("div", MARK, "vaekit compare", class_="brand"),
        element("h1", title),
        element("ul", *searched, class_="facts"),
        element("nav", *links),
    )
    parts = [_group(group, f"group-{place}") for place, group in enumerate(comparison.groups, 1)]
    foot = f"Written by vaekit {__version__}. Losses are in nats per example; below each number, one standard error."
    body = element(
        "body",
        element("header", element("div", head)),
        element("main", *parts, _left_out(comparison)),
        element("footer", foot),
    )
    return "<!doctype html>\n" + element("html", page_head(f"{title} · vaekit", TABLE_STYLE), body, lang="en") + "\n"


def _group(group: Group, anchor: str) -> Markup:
    facts = (element("li", fact) for fact in group.facts)
    table = element("div", element("div", _table(group), class_="scroll"), _notes(group), class_="card")
    main = [_picture(picture) for picture in group.pictures if picture.main]
    others = [_picture(picture) for picture in group.pictures if not picture.main]
    return element(
        "section",
        element("h2", group.title),
        element("ul", *facts, class_="facts"),
        element("p", group.order, class_="lead"),
        element("div", *main, class_="pictures main") if main else Markup(""),
        table,
        element("h3", "Pictures", style="margin: 34px 0 12px") if others else Markup(""),
        element("div", *others, class_="pictures") if others else Markup(""),
        id=anchor,
    )


def _table(group: Group) -> Markup:
    best = [_best(group, place) for place in range(len(group.columns))]
    head = (element("tr", *_splits(group)), element("tr", *_header(group)))
    rows = (element("tr", *_row(group, line, rank, best), class_="first" if rank == 1 else "") for rank, line in
            enumerate(group.lines, 1))  # fmt: skip
    return element("table", element("thead", *head), element("tbody", *rows), class_="compared")


def _splits(group: Group) -> Iterator[Markup]:
    """Name above the columns whose examples they are about."""
    yield element("th", "", class_="split", colspan=str(2 + len(group.settings)))
    place = 0
    while place < len(group.columns):
        split = group.columns[place].split
        width = 0
        while place + width < len(group.columns) and group.columns[place + width].split == split:
            width += 1
        yield element("th", SPLITS.get(split, split), class_="split value", colspan=str(width), scope="colgroup")
        place += width


def _header(group: Group) -> Iterator[Markup]:
    yield element("th", "#", class_="rank", scope="col")
    for name in group.settings:
        yield element("th", name, class_="setting", scope="col")
    for column in group.columns:
        yield element("th", *_column(column), class_="value apart" if column.apart else "value", scope="col")
    yield element("th", "run", scope="col")


def _column(column: Column) -> Iterator[str]:
    arrow = "" if column.higher is None else " ↑" if column.higher else " ↓"
    yield f"{column.title}{' †' if column.apart else arrow}"
    yield element("span", "" if column.unit == "1" else column.unit, class_="unit")


def _row(group: Group, line: Line, rank: int, best: list[float]) -> Iterator[Markup]:
    yield element("td", str(rank), class_="rank")
    for value in line.settings:
        yield element("td", value, class_="setting")
    for column, cell, leading in zip(group.columns, line.cells, best, strict=True):
        yield _cell(column, cell, leading)
    yield element("td", without_home(line.run), class_="run")


def _cell(column: Column, cell: Cell, leading: float) -> Markup:
    if not math.isfinite(cell.value):
        return element("td", "–", class_="value missing", title=cell.note or "not measured")
    value, error = digits(cell.value, cell.error)
    kind = "value apart" if column.apart else "value best" if cell.value == leading else "value"
    return element(
        "td", value, element("span", f"± {error}" if error else "", class_="se"), class_=kind, title=cell.note
    )


def _best(group: Group, place: int) -> float:
    column = group.columns[place]
    values = [line.cells[place].value for line in group.lines if math.isfinite(line.cells[place].value)]
    if column.higher is None or column.apart or len(values) < 2:
        return math.nan
    return max(values) if column.higher else min(values)


def _notes(group: Group) -> Markup:
    apart: dict[str, list[str]] = {}
    for column in group.columns:
        if column.apart:
            titles = apart.setdefault(column.apart, [])
            titles.append(column.title) if column.title not in titles else None
    told = [f"† {', '.join(titles)}: {reason}" for reason, titles in apart.items()]
    arrows = "↑ more is better, ↓ less is better; blue is the best of its column. The pointer on a number says how it was made."
    return element("ul", *(element("li", text) for text in (arrows, *told, *group.notes)), class_="told")


def _picture(picture: Picture) -> Markup:
    with Image.open(picture.path, formats=["PNG"]) as image:
        width, height = image.size
    # figures are drawn at 150 dots per inch, a page counts 96
    content = base64.b64encode(picture.path.read_bytes()).decode()
    shown = void(
        "img", src=f"data:image/png;base64,{content}", alt=picture.title, width=str(round(width / 1.5)),
        height=str(round(height / 1.5)), loading="lazy",
    )  # fmt: skip
    said = element("figcaption", element("h3", picture.title), element("p", picture.text))
    return element("figure", said, shown, class_="card wide" if width > 1.4 * height else "card")


def _left_out(comparison: Comparison) -> Markup:
    if not comparison.left_out:
        return Markup("")
    lines = (element("li", without_home(visible(line))) for line in comparison.left_out)
    return element(
        "section",
        element("h2", "Left out"),
        element("div", element("ul", *lines), class_="card incomplete"),
        id="left-out",
    )
