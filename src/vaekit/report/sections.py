"""The sections of the page, each a function of the run folder that gives its markup, empty if there is nothing to show."""

import base64
from collections.abc import Sequence
from typing import Protocol

from vaekit.report.about import command, facts, flat, run_name, run_path
from vaekit.report.captions import caption
from vaekit.report.chart import chart, legend
from vaekit.report.folder import Number, Picture, RunFolder
from vaekit.report.history import panels
from vaekit.report.markup import Markup, element, joined, void
from vaekit.report.private import without_home
from vaekit.report.tables import digits, html_table, unit
from vaekit.report.theme import MARK

NOTHING = Markup("")
_HALF = 700  # pixels of a picture that fit into half of the page's width

# what a card is called, the names its number goes by, what it means
HEADLINES = (
    ("Test ELBO", ("elbo", "test/elbo"), "Lower bound on log p(x) of an unseen example. Higher is better."),
    (
        "Reconstruction",
        ("reconstruction", "test/reconstruction", "recon_loss", "test/recon_loss"),
        "−log p(x|z): what the code does not tell about the example. Lower is better.",
    ),
    (
        "KL",
        ("kl", "test/kl", "kl_loss", "test/kl_loss"),
        "Price of the code: how far q(z|x) is from the prior, on average.",
    ),
    ("Active units", ("active_units", "test/active_units"), "Latent dimensions that carry information."),
)


class Finding(Protocol):
    """What the diagnosis says; `vaekit.evaluation.doctor.Finding` is one."""

    @property
    def severity(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def evidence(self) -> str: ...  # noqa: D102
    @property
    def cause(self) -> str: ...  # noqa: D102
    @property
    def remedies(self) -> tuple[str, ...]: ...  # noqa: D102


def head(run: RunFolder) -> Markup:
    """Name the run, and what is known about it at a glance."""
    known = (element("li", element("span", name), value) for name, value in facts(run))
    return joined(
        element("div", MARK, "vaekit report", class_="brand"),
        element("h1", run_name(run)),
        element("ul", *known, class_="facts"),
    )


def incomplete(run: RunFolder) -> Markup:
    """Say which parts of the run are missing or damaged."""
    if not run.problems:
        return NOTHING
    said = (element("li", problem) for problem in run.problems)
    return element(
        "div", element("strong", "This run is not complete."), element("ul", *said), class_="card incomplete"
    )


def headline(run: RunFolder) -> Markup:
    """Show the numbers that matter first, each with its standard error, unit and number of examples."""
    cards = []
    for label, names, meaning in HEADLINES:
        name = next((name for name in names if name in run.metrics), None)
        if name is not None:
            cards.append(_card(label, run.metrics[name], meaning))
    return element("div", *cards, class_="cards") if cards else NOTHING


def watch(findings: Sequence[Finding]) -> Markup:
    """Show the findings of the diagnosis, errors and warnings first."""
    if not findings:
        return element("div", "The diagnosis found nothing to worry about.", class_="card")
    ordered = sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.severity))
    return joined(*map(_finding, ordered))


def curves(run: RunFolder) -> Markup:
    """Draw the course of the training, and keep the figure of it at hand."""
    drawn = panels(run.rows)
    figure = next((picture for picture in run.pictures if picture.name == "training_losses"), None)
    parts = []
    if drawn:
        parts.append(legend(drawn))
        parts.append(element("div", *(element("div", chart(panel), class_="card") for panel in drawn), class_="charts"))
    if figure and drawn:
        parts.append(
            element("details", element("summary", "The same as a picture, to copy"), _image(figure), class_="card")
        )
    elif figure:
        parts.append(element("div", _image(figure), class_="card"))
    return joined(*parts)


def pictures(run: RunFolder) -> Markup:
    """Show all figures: those that have a caption first, then the others by name."""
    rest = [picture for picture in run.pictures if picture.name != "training_losses"]
    ordered = sorted(rest, key=lambda picture: caption(picture.name))
    return element("div", *map(_picture, ordered), class_="pictures") if ordered else NOTHING


def numbers(run: RunFolder) -> Markup:
    """Give all numbers as a table."""
    if not run.metrics:
        return NOTHING
    notes = {name: number.estimator for name, number in run.metrics.items() if number.estimator}
    return element("div", element("div", html_table(run.metrics, notes), class_="scroll"), class_="card")


def configuration(run: RunFolder) -> Markup:
    """Show the configuration as it was resolved."""
    if not run.config_text:
        return NOTHING
    shown = element("details", element("summary", "config.yaml, every value resolved"), element("pre", run.config_text))
    return element("div", shown, class_="card")


def environment(run: RunFolder) -> Markup:
    """Show versions, device and time."""
    rows = [
        element("tr", element("td", name, class_="name"), element("td", without_home(value, run.config_text)))
        for name, value in flat(run.environment)
        if name.split(".")[0] != "command"
    ]
    table = element("table", element("tbody", *rows))
    return element("div", element("div", table, class_="scroll"), class_="card") if rows else NOTHING


def reproduce(run: RunFolder) -> Markup:
    """Give the commands that make this run again and go on from it."""
    path = run_path(run)
    steps = [
        ("Train it again", command(run)),
        ("Measure it again, with standard errors", f"vaekit evaluate {path}"),
    ]
    if "finished" not in run.environment:
        steps.append(("Go on exactly where it stopped", f"vaekit resume {path}"))
    return element("div", *(joined(element("h3", said), element("pre", line)) for said, line in steps), class_="card")


def _card(label: str, number: Number, meaning: str) -> Markup:
    value, error = digits(number.value, number.standard_error)
    size = f"{number.n:,} examples" if number.n else ""
    uncertain = " ".join(filter(None, (f"± {error}" if error else "", unit(number))))
    return element(
        "div",
        element("p", label, class_="label"),
        element("p", value, class_="value"),
        element("p", uncertain or "\u00a0", class_="error"),
        element("p", size, class_="count"),
        element("p", meaning, class_="meaning"),
        class_="card",
    )


def _finding(finding: Finding) -> Markup:
    severity = "note" if finding.severity == "note" else "warning"
    remedies = (element("div", element("code", remedy)) for remedy in finding.remedies)
    entries = (("Evidence", finding.evidence), ("Cause", finding.cause), ("Remedies", joined(*remedies)))
    told = (joined(element("dt", name), element("dd", said)) for name, said in entries if said)
    badge = element("span", finding.severity.capitalize(), class_="badge")
    return element("div", badge, element("h3", finding.title), element("dl", *told), class_=f"card finding {severity}")


def _picture(picture: Picture) -> Markup:
    told = caption(picture.name)
    said = element("figcaption", element("h3", told.title), element("p", told.text) if told.text else NOTHING)
    wide = " wide" if picture.width > max(1.4 * picture.height, _HALF) else ""
    return element("figure", said, _image(picture), class_="card" + wide)


def _image(picture: Picture) -> Markup:
    # figures are drawn at 150 dots per inch, a page counts 96
    width, height = round(picture.width / 1.5), round(picture.height / 1.5)
    source = f"data:image/{picture.kind};base64," + base64.b64encode(picture.content).decode()
    alternative = caption(picture.name).title
    return void("img", src=source, alt=alternative, width=str(width), height=str(height), loading="lazy")
