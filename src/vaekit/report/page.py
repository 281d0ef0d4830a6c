"""One self-contained HTML file about a run: no script, no request to anywhere, every text escaped."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vaekit._version import __version__
from vaekit.files import write_atomically
from vaekit.report import sections
from vaekit.report.about import command, run_name
from vaekit.report.folder import RunFolder, read_run
from vaekit.report.markup import Markup, element, void
from vaekit.report.sections import NOTHING, Finding
from vaekit.report.theme import STYLE

# the browser's own guard, should a text ever slip through: nothing is executed, nothing is fetched
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(folder: Path) -> Path:
    """Write `report.html` into the run folder, from the plain files that are in it.

    The same folder gives the same bytes. Files that are missing or damaged are named on the page.

    Arguments:
        folder: A run folder, as `vaekit train` leaves it; it may be unfinished.

    Returns:
        The path of the page.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    run = read_run(folder)
    path = run.path / "report.html"
    write_atomically(path, _page(run).encode())
    return path


def _page(run: RunFolder) -> str:
    parts = _parts(run)
    links = (element("a", title, href=f"#{anchor}") for anchor, title, _ in parts)
    body = element(
        "body",
        element("header", element("div", sections.head(run), element("nav", *links))),
        element("main", sections.incomplete(run), sections.headline(run), *(_section(*part) for part in parts)),
        element(
            "footer", f"Written by vaekit {__version__}. All losses are in nats per example, ± one standard error."
        ),
    )
    return "<!doctype html>\n" + element("html", page_head(f"{run_name(run)} · vaekit report"), body, lang="en") + "\n"


def page_head(title: str, style: Markup = NOTHING) -> Markup:
    """Give the head of a page: its title, the theme, what else it needs of style, and the browser's orders to fetch nothing."""
    return element(
        "head",
        void("meta", charset="utf-8"),
        void("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY}),
        void("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        void("link", rel="icon", href="data:,"),  # or the browser asks the server for one
        element("title", title),
        element("style", STYLE, style),
    )


def _parts(run: RunFolder) -> list[tuple[str, str, Markup]]:
    parts = [
        ("watch", "What to watch", _watch(run)),
        ("curves", "Curves", sections.curves(run)),
        ("pictures", "Pictures", sections.pictures(run)),
        ("numbers", "Numbers", sections.numbers(run)),
        ("configuration", "Configuration", sections.configuration(run)),
        ("environment", "Environment", sections.environment(run)),
        ("reproduce", "Reproduce", sections.reproduce(run)),
    ]
    return [part for part in parts if part[2]]


def _section(anchor: str, title: str, content: Markup) -> Markup:
    return element("section", element("h2", title), content, id=anchor)


def _watch(run: RunFolder) -> Markup:
    if not run.metrics or not run.config:
        return NOTHING
    try:
        return sections.watch(_findings(run))
    except Exception as error:
        # a diagnosis that stumbles over an odd run must not take the page with it, nor pass for a good one
        return element("div", f"The diagnosis failed: {type(error).__name__}: {error}", class_="card")


def _findings(run: RunFolder) -> Sequence[Finding]:
    from vaekit.evaluation.doctor import diagnose
    from vaekit.evaluation.units import Estimate

    metrics, symptoms = (
        {name: Estimate(**asdict(number)) for name, number in found.items()} for found in (run.metrics, run.symptoms)
    )
    steps = run.rows[-1].get("step") if run.rows else None
    return diagnose(metrics, run.config, command(run), steps if isinstance(steps, int) else None, run.rows, symptoms)
