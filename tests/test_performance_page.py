"""The page of figures is the one that its script makes of the files beside it."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_is_made_of_what_was_measured() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "performance.py"))
    page = made["page"](made["read"]())
    assert (ROOT / "docs" / "performance.md").read_text("utf-8") == page, "run: python docs/performance.py"


def test_the_verdict_on_a_bar() -> None:
    verdict = runpy.run_path(str(ROOT / "docs" / "performance.py"))["verdict"]
    assert verdict(0.6, 0.6) == "at most 0.6: holds"
    assert verdict(0.61, 0.6) == "at most 0.6: **missed**"
