"""The documents are true: their Python prints what they say, both languages say the same, links and formulas hold together."""

from __future__ import annotations

import doctest
import re
import runpy
import shlex
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit.cli.aliases import translate
from vaekit.cli.main import COMMANDS, Parser
from vaekit.compose import CONF, choices, compose
from vaekit.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
MODELS = ROOT / "docs" / "models"
PAIRS = [
    (page, chinese)
    for page in PAGES
    if (chinese := page.with_name(f"{page.stem}.zh-CN.md")).exists() and chinese != page
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!\$)\$(?!\$)([^$\n]+)\$(?!\$)")
DISPLAY = re.compile(r"^\$\$(.+)\$\$$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
every_preset = pytest.mark.parametrize("name", choices("model"))
every_pair = pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=[pair[0].name for pair in PAIRS])


def read(page: Path) -> str:
    return page.read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(text) if found == language]


def prose(text: str) -> str:
    """Without blocks of code, and without code within a line."""
    return re.sub(r"`[^`\n]+`", "``", FENCE.sub("", text))


def headings(text: str) -> list[tuple[int, str]]:
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.+)$", FENCE.sub("", text), re.MULTILINE)]


def sections(text: str) -> list[str]:
    """The text before the first heading of level 2, and what stands under each."""
    return re.split(r"^## ", text, flags=re.MULTILINE)


def formulas(text: str) -> tuple[list[str], set[str]]:
    """Those on a line of their own, in order, and those within a sentence, which a language may say more or less often."""
    plain = prose(text)
    return DISPLAY.findall(plain), set(INLINE.findall(DISPLAY.sub("", plain)))


def anchor(title: str) -> str:
    """How GitHub names a heading: lower case, punctuation dropped, a hyphen for each space."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def only_python(text: str) -> str:
    """The page with everything but its Python replaced by empty lines, so that line numbers stay those of the page."""

    def lines() -> Iterator[str]:
        inside = False
        for line in text.splitlines():
            if line.startswith("```"):
                inside = line == "```python"
                yield ""
            else:
                yield line if inside else ""

    return "\n".join(lines())


def run(text: str, name: str) -> tuple[doctest.TestResults, str]:
    """Run the sessions of a page in one namespace: how many examples failed, and what they printed instead."""
    said: list[str] = []
    test = doctest.DocTestParser().get_doctest(only_python(text), {}, name, name, 0)
    results = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    return results, "".join(said)


@pytest.fixture
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@every_page
@pytest.mark.usefixtures("_one_thread")
def test_the_python_prints_what_the_page_says(page: Path) -> None:
    results, said = run(read(page), page.name)
    assert results.failed == 0, said
    # a block without a prompt would not be run
    assert all(code.startswith(">>> ") for code in blocks(read(page), "python"))
    assert results.attempted == sum(
        len(re.findall(r"^>>> ", code, re.MULTILINE)) for code in blocks(read(page), "python")
    )


def test_a_wrong_number_on_a_page_would_be_seen() -> None:
    page = "Text.\n\n```python\n>>> 1 + 1\n3\n```\n"
    results, said = run(page, "page")
    assert results.failed == 1
    assert 'File "page", line 4' in said


def test_the_theory_is_there_in_both_languages() -> None:
    assert {english.name for english, _ in PAIRS} >= {"theory.md"}


@every_pair
def test_both_languages_have_the_same_sections(english: Path, chinese: Path) -> None:
    ours, theirs = headings(read(english)), headings(read(chinese))
    assert [level for level, _ in ours] == [level for level, _ in theirs]
    numbers = [[re.match(r"\d*", title)[0] for _, title in titles] for titles in (ours, theirs)]
    assert numbers[0] == numbers[1]


@every_pair
def test_both_languages_have_the_same_formulas_code_and_sources(english: Path, chinese: Path) -> None:
    for ours, theirs in zip_longest(sections(read(english)), sections(read(chinese)), fillvalue=""):
        name = ours.splitlines()[0]
        assert formulas(ours) == formulas(theirs), name
        assert FENCE.findall(ours) == FENCE.findall(theirs), name
        outside = [[link for link in LINK.findall(prose(text)) if "//" in link] for text in (ours, theirs)]
        assert Counter(outside[0]) == Counter(outside[1]), name
        rows = [
            [line.count("|") for line in prose(text).splitlines() if line.startswith("|")] for text in (ours, theirs)
        ]
        assert rows[0] == rows[1], name


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(read(page))):
        if "//" in link:
            continue
        name, _, place = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if place:
            assert place in {anchor(title) for _, title in headings(read(target))}, link


@every_page
def test_formulas_survive_markdown(page: Path) -> None:
    """GitHub reads a page as Markdown first: an escape, a tag or an emphasis inside a formula would be lost or eat text."""
    text = prose(read(page))
    without_display = DISPLAY.sub("", text)
    assert "$" not in INLINE.sub("", without_display), "a dollar without its partner, or a formula over two lines"
    displayed, inline = formulas(read(page))
    for formula in [*displayed, *inline]:
        assert not re.search(r"\\[^A-Za-z]|[<>*|]|\]\(", formula), formula
        assert formula.count("{") == formula.count("}"), formula
        assert len(re.findall(r"\\left\b", formula)) == len(re.findall(r"\\right\b", formula)), formula
        assert formula == formula.strip(), formula
    for found in INLINE.finditer(without_display):
        before, after = without_display[: found.start()][-1:], without_display[found.end() :][:1]
        assert before in ("", " ", "\n"), f"a space is wanted before {found[0]}"
        assert not re.match(r"\w", after), f"no letter may follow {found[0]}"


class Understood(BaseException):
    """The arguments have been read; the command would begin now."""


class Reading(Parser):
    def parse_args(self, *arguments: Any) -> Any:
        super().parse_args(*arguments)
        raise Understood

    def parse_known_args(self, *arguments: Any, **others: Any) -> Any:
        parsed = super().parse_known_args(*arguments, **others)
        if (
            self.prog == "sweep"
        ):  # the one that does not ask for all of them; others come here through the two methods beside it
            raise Understood
        return parsed

    def parse_intermixed_args(self, *arguments: Any) -> Any:
        super().parse_intermixed_args(*arguments)
        raise Understood


def understand(words: list[str]) -> None:
    assert words[1] in COMMANDS
    if words[1] == "train":
        compose(translate(words[2:]))
        return
    with pytest.raises(Understood):
        import_module(f"vaekit.cli.{words[1]}").run(Reading(prog=words[1], allow_abbrev=False), words[2:])


# those of the guide to cells are run: tests/test_guide.py
SHOWN = [*(page for page in PAGES if not page.name.startswith("cells.")), ROOT / "README.md"]


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_commands_are_understood(page: Path) -> None:
    lines = "\n".join(blocks(read(page), "sh")).splitlines()
    for words in (shlex.split(line, comments=True) for line in lines):
        if words and words[0] != "make":
            assert words[0] == "vaekit"
            understand(words)


def test_a_flag_that_a_command_does_not_have_would_be_seen() -> None:
    with pytest.raises(ConfigError, match="--labels"):
        understand(["vaekit", "sample", "RUN", "--labels", "3"])


@every_preset
def test_every_preset_has_a_page_with_the_file_itself(name: str) -> None:
    page = MODELS / f"{name}.md"
    assert page.exists(), f"write docs/models/{name}.md"
    text = read(page)
    assert headings(text)[0][1].startswith(f"{name}: ")
    assert blocks(text, "yaml") == [(CONF / "model" / f"{name}.yaml").read_text("utf-8")], "the page shows another file"


@every_preset
def test_a_page_of_a_preset_says_all_that_it_should(name: str) -> None:
    text = read(MODELS / f"{name}.md")
    for part in ("**What is minimised**", "**Look at**", "**Compare**", "**Mistakes it does not make"):
        assert text.count(part) == 1, part
    assert formulas(text)[0], "no formula"
    (commands,) = blocks(text, "sh")
    assert f"model={name}" in commands
    # the papers that the file names are those of the page
    preset = (CONF / "model" / f"{name}.yaml").read_text("utf-8")
    cited = {link.rstrip(":.") for link in re.findall(r"https://[^\s,;)]+", preset)}
    linked = {link for link in LINK.findall(prose(text)) if "//" in link}
    assert all(any(link.startswith(address) for link in linked) for address in cited), cited


def test_the_index_lists_every_preset_and_no_other() -> None:
    listed = [link.removesuffix(".md") for link in LINK.findall(read(MODELS / "README.md")) if "/" not in link]
    assert sorted(listed) == sorted(choices("model"))
    assert sorted(page.stem for page in MODELS.glob("*.md") if page.name != "README.md") == sorted(choices("model"))


def test_the_gallery_asks_for_what_there_is() -> None:
    """The script trains for long; here its settings are only composed."""
    script = runpy.run_path(str(ROOT / "docs" / "gallery.py"))
    for setting in (script["mnist"](20), script["digits"](3)):
        asked = {(row.preset, row.overrides) for row in script["rows"](setting)}
        for preset, overrides in asked:
            compose([f"model={preset}", *overrides])
