"""The README is true: its Python runs, its commands are understood, and both languages show the same ones."""

import re
import shlex
from pathlib import Path

import pytest

from vaekit.cli.aliases import translate
from vaekit.cli.main import COMMANDS
from vaekit.compose import compose

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md"))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    lines = "\n".join(blocks(text, "sh")).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True)) and words[0] == "vaekit"]


def test_both_languages_show_the_same_commands_and_code() -> None:
    assert commands(ENGLISH) == commands(CHINESE)
    without_comments = [re.sub(r"\s*#.*", "", code) for code in blocks(ENGLISH, "python")]
    assert without_comments == [re.sub(r"\s*#.*", "", code) for code in blocks(CHINESE, "python")]
    assert blocks(ENGLISH, "text") == blocks(CHINESE, "text")


@pytest.mark.parametrize("words", commands(ENGLISH), ids=" ".join)
def test_commands_are_understood(words: list[str]) -> None:
    assert words[1] in COMMANDS
    if words[1] == "train":
        compose(translate(words[2:]))


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ENGLISH, "python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["codes"].shape == (4, 2)
    assert names["images"].shape == (16, 1, 8, 8)
    assert names["trace"].log_w.shape == (50, 4)
