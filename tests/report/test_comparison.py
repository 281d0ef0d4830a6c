"""The table of a comparison: what spreadsheets and browsers are given, and that nothing of it runs."""

from __future__ import annotations

import csv
import io
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaekit.report.comparison import (
    Cell,
    Column,
    Comparison,
    Group,
    Line,
    Picture,
    best_first,
    neutral,
    plain_group,
    write_csv,
)
from vaekit.report.comparison_figures import (
    FeatureStatistics,
    Panel,
    feature_statistics,
    importance_bars,
    latent_map,
)
from vaekit.report.comparison_page import write_comparison_page

NAN = math.nan
ELBO = Column("validation/elbo", "ELBO", "validation", "nats", higher=True)
MSE = Column("test/mse", "MSE", "test", "1", higher=False, apart="they see <b>other</b> values")
KL = Column("test/kl", "KL", "test", "nats")
PAYLOADS = [
    "<script>document.title='ran'</script>",
    "</style><script>document.title='ran'</script>",
    '" onmouseover="document.title=\'ran\'" x="',
    "</td></table><iframe src='data:text/html,1'></iframe>",
    "--><!-- ]]> &#60;b&#62; \x00\x1b\u202e",
]


def group(title: str = "digits", **changes: object) -> Group:
    lines = (
        Line("a", ("2", "Vamp"), (Cell(-90.25, 0.5, "K = 4"), Cell(0.1, 0.01), Cell(3.0, 0.1))),
        Line("b", ("4", "–"), (Cell(-80.5, 0.25), Cell(), Cell(5.0, NAN))),
    )
    given = {
        "facts": ("2 runs",), "settings": ("latent_dim", "prior"), "columns": (ELBO, MSE, KL),
        "lines": best_first(lines, 0, True), "order": "Best first.", "best": 0,
    }  # fmt: skip
    return Group(title, **{**given, **changes})  # type: ignore[arg-type]


def test_the_best_is_first_and_what_has_no_number_is_last() -> None:
    lines = [Line(name, (), (Cell(value),)) for name, value in (("a", 1.0), ("b", NAN), ("c", 3.0), ("d", 3.0))]
    assert [line.run for line in best_first(lines, 0, True)] == ["c", "d", "a", "b"]
    assert [line.run for line in best_first(lines, 0, False)] == ["a", "c", "d", "b"]
    assert [line.run for line in best_first(lines[::-1], None, None)] == ["a", "b", "c", "d"]


def test_the_csv_is_read_again_as_it_was(tmp_path: Path) -> None:
    other = group("others", settings=("beta",), columns=(KL,), lines=(Line("c", ("0.1",), (Cell(1 / 3, 0.0),)),))
    path = write_csv(Comparison(("runs",), (group(), other)), tmp_path / "t.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
    assert [row["run"] for row in rows] == ["b", "a", "c"]
    assert [row["rank"] for row in rows] == ["1", "2", "1"]
    assert [row["latent_dim"] for row in rows] == ["4", "2", ""]
    assert rows[0]["prior"] == ""
    assert float(rows[1]["validation/elbo"]) == -90.25
    assert float(rows[1]["validation/elbo_se"]) == 0.5
    assert (rows[0]["test/mse"], rows[0]["test/mse_se"], rows[0]["test/kl_se"]) == ("", "", "")
    assert float(rows[2]["test/kl"]) == 1 / 3


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")', "|x", "%0A"]
)
def test_no_cell_of_the_csv_is_a_formula(text: str, tmp_path: Path) -> None:
    lines = (Line(text, (text,), (Cell(-1.5, 0.5),)),)
    given = group(text, settings=(text,), columns=(ELBO,), lines=lines)
    rows = list(
        csv.reader(io.StringIO(write_csv(Comparison((text,), (given,)), tmp_path / "t.csv").read_text("utf-8")))
    )
    assert len(rows) == 2
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "@", "\t", "\r", "|", "%")), cell
        assert not cell.startswith("-") or float(cell) == -1.5  # a number of ours stays a number


def test_numbers_stay_numbers_and_control_characters_do_not_reach_the_table() -> None:
    assert [neutral(text) for text in ("-1", "1e-3", "-0.5", "[1,2]", "a")] == ["-1", "1e-3", "-0.5", "[1,2]", "a"]
    assert neutral("-1_0") == "'-1_0"
    assert neutral("a\nb\x1b[31m") == "a b�[31m"


class Page(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def picture(path: Path) -> Path:
    Image.new("RGB", (30, 20)).save(path)
    return path


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_on_the_page_is_run_or_fetched(payload: str, tmp_path: Path) -> None:
    column = Column("test/x", payload, payload, payload, higher=True, apart=payload)
    drawn = Picture(picture(tmp_path / "a.png"), payload, payload)
    given = group(
        payload, facts=(payload,), settings=(payload,), columns=(column,), order=payload, pictures=(drawn,), notes=(payload,),
        lines=(Line(payload, (payload,), (Cell(1.0, 0.1, payload),)), Line("b", ("",), (Cell(note=payload),))),
    )  # fmt: skip
    source = write_comparison_page(Comparison((payload,), (given,), (payload,)), tmp_path / "a.html").read_text("utf-8")
    page = Page(source)
    assert not {"script", "iframe", "object", "form", "base"} & set(page.tags)
    assert all(not name.startswith("on") for name, _ in page.attributes)
    links = [value or "" for name, value in page.attributes if name in ("href", "src")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert any("default-src 'none'" in (value or "") for name, value in page.attributes if name == "content")
    shown = payload.replace("\x00", "�").replace("\x1b", "�").replace("\u202e", "�")
    assert page.text.count(shown) >= 8  # shown as it is
    assert "\x1b" not in source


def test_the_page_tells_the_best_what_does_not_compare_and_what_is_missing(tmp_path: Path) -> None:
    path = write_comparison_page(Comparison(("runs",), (group(),), ("runs/x: not finished",)), tmp_path / "a.html")
    source = path.read_text("utf-8")
    page = Page(source)
    assert "2 runs compared" in page.text
    assert 'class="value best" title="">-80.50<' in source
    assert "-90.25" in page.text
    assert "± 0.50" in page.text
    assert "MSE †" in page.text
    assert "† MSE: they see <b>other</b> values" in page.text
    assert "ELBO ↑" in page.text
    assert 'class="value missing"' in source
    assert "runs/x: not finished" in page.text
    assert (
        path.read_bytes()
        == write_comparison_page(
            Comparison(("runs",), (group(),), ("runs/x: not finished",)), tmp_path / "b.html"
        ).read_bytes()
    )


def test_the_terminal_shows_what_orders_the_runs_first() -> None:
    lines = plain_group(group()).splitlines()
    assert lines[1].split() == ["latent_dim", "prior", "validation", "ELBO", "test", "MSE", "†", "test", "KL"]
    assert lines[2].startswith("1  4")
    assert "-80.50 ± 0.25" in lines[2]
    assert lines[-1] == "† MSE: they see <b>other</b> values"
    narrow = plain_group(group(), width=40).splitlines()
    assert narrow[1].endswith("ELBO")
    assert "\x1b" not in plain_group(group("a\x1b[2J"))


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


ODD = ["$x_1$", "_hidden", "", "名前", "a" * 300, "<b>"]


@pytest.mark.parametrize("logarithmic", [True, False])
def test_features_of_any_kind_are_drawn(tmp_path: Path, logarithmic: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, size=(2, 3, 40))
    values[0, 0, 0], values[1, 1, 1], values[0, 0, 2] = 0.0, np.nan, -1.0
    sets = [FeatureStatistics(name, *values) for name in ("in", ODD[0])]
    feature_statistics(sets, tmp_path / "a.png", ODD[4], logarithmic=logarithmic, zeros="share of zeros")
    assert size(tmp_path / "a.png")[0] > 1000
    nothing = [FeatureStatistics("in", np.zeros((3, 4)), np.zeros((3, 4)))]
    feature_statistics(nothing, tmp_path / "b.png", "", logarithmic=logarithmic)
    assert size(tmp_path / "b.png")[1] > 300


@pytest.mark.parametrize("kind", ["names", "amounts", "many", "nothing"])
def test_maps_are_drawn_with_any_column(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 2))
    points[3] = np.nan
    names = np.array([ODD[k % len(ODD)] for k in range(60)])
    if kind == "many":
        names = np.array([f"n{k % 45}" for k in range(60)])
    amounts = np.where(np.arange(60) == 5, np.nan, rng.normal(size=60))
    panels = [
        Panel(
            title, points[:count], names[:count] if kind in ("names", "many") else None,
            amounts[:count] if kind == "amounts" else None, behind,
        )
        for title, count, behind in (("in", 60, None), (ODD[0], 9, points))
    ]  # fmt: skip
    latent_map(panels, ("PC1", ODD[0]), tmp_path / "a.png", "caption", ODD[0])
    assert size(tmp_path / "a.png")[0] > 1300


def test_points_that_are_not_finite_give_a_message(tmp_path: Path) -> None:
    latent_map([Panel("in", np.full((3, 2), np.nan))], ("a", "b"), tmp_path / "a.png", "")
    assert size(tmp_path / "a.png")


def test_importances_are_drawn_the_largest_first(tmp_path: Path) -> None:
    importance_bars(ODD, [0.1, -0.2, 0.9, 0.0, 0.3, 0.2], [0.1] * 6, tmp_path / "a.png", "caption")
    assert size(tmp_path / "a.png")[0] == 1080
