"""The page of results, made of the files that `vaekit reproduce` writes. Nobody writes it by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaekit.errors import ConfigError
from vaekit.reproduce.protocol import Protocol
from vaekit.reproduce.words import minutes, ours, summary

_HEAD = """# Results: published numbers and ours

*[all documents](README.md) · [models](models/README.md) · [theory](theory.md)*

`vaekit reproduce NAME` carries out a published protocol and puts its numbers beside the published ones; `vaekit reproduce --list`
shows all of them with their time. Each protocol is an experiment, `src/vaekit/conf/experiment/`, with its source and every detail
that matters, and its runs are ordinary run folders. A second call goes on where the first was stopped. `--quick` is a variant for
two cores and minutes, and says what so little can claim.

```sh
vaekit reproduce --list
vaekit reproduce linear_gaussian
vaekit reproduce iwae_table1 --quick
```

The last line of the command is the file with the result. This page is made of such files, those in [results](results), by `python
docs/results.py`, and a test holds it to them.

## How to read it

A verdict follows from number and rule alone, and the rules were written down before the numbers came. Two were changed after the
first numbers: the rule of `dreg`, before any number of DReG, from "ahead" to "not behind by more than another seed may do", and
that of a difference from an exact value, which now asks for an error of half of the tolerance or less.

- **agrees, differs**: of a number beside a published one, for whole protocols only. It agrees within a tolerance, which is the
  spread between independent reproductions. It differs where it is further off than the tolerance and 1.96 standard errors together;
  between the two it is too early to say. On the very examples that the published number is of, the error over examples is that of
  both numbers, and is not counted.
- **claim holds, claim does not hold**: of a number that is said to be above a threshold, which has to be 2.58 standard errors away,
  so that either answer is wrong with a probability of 0.5 %; nearer than that it is **too early to say**. Differences between two
  models are taken example by example.
- **±** is one standard error over test examples. It knows nothing of other seeds: each row is one training of each model. Where a
  threshold is above 0, that is what another seed may do.
- A quick variant stops after a small part of the protocol. Its published number stands beside it for the direction; how much
  remains of a gain at the end is not claimed.
- Negative log-likelihoods are those of importance sampling with as many draws as stated: bounds that are a little too high.
  Binarisation, split and draws are part of every number: those of other papers do not compare.
"""
_VERDICTS = ("what", "published", "ours", "difference", "rule", "verdict")


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The results in a folder, by the name of their files.

    Raises:
        ConfigError: If one is no result.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            result = json.loads(file.read_text("utf-8"))
            result["rows"], result["protocol"], result["variant"]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{file} is no result of vaekit reproduce: {error}.") from error
        found.append(result)
    return found


def page(results: Sequence[Mapping[str, Any]], protocols: Iterable[Protocol]) -> str:
    """The page in Markdown.

    Arguments:
        results: As `vaekit reproduce` writes them.
        protocols: All there are, in their order: what was not run is on the page, too.
    """
    order = {protocol.name: protocol for protocol in protocols}
    done = sorted(results, key=lambda result: (list(order).index(result["protocol"]), result["variant"]))
    ran = {(result["protocol"], result["variant"]) for result in done}
    lines = [_HEAD, "## What was run", "", *_overview(done), ""]
    open_ones = [protocol for protocol in order.values() if protocol.full and (protocol.name, "full") not in ran]
    if open_ones:
        lines += ["## What was not run", "", *_table(("protocol", "published", "time"), _open(open_ones)), ""]
    for result in done:
        lines += _section(result)
    return "\n".join(lines).rstrip() + "\n"


def _overview(results: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            f"[{_title(result)}](#{_anchor(_title(result))})",
            result["title"],
            summary(result),
            minutes(result["seconds"]),
        )
        for result in results
    ]
    return _table(("protocol", "what", "came out", "time"), rows)


def _open(protocols: Iterable[Protocol]) -> Iterator[tuple[str, ...]]:
    for protocol in protocols:
        assert protocol.full is not None
        yield f"`{protocol.name}`", protocol.published, protocol.full.time


def _section(result: Mapping[str, Any]) -> list[str]:
    made = result["made_with"]
    lines = [
        f"## {_title(result)}",
        "",
        f"{result['title']}. {result['source']}.",
        "",
        f"It can claim: {result['claim']}.",
        "",
    ]
    lines += _table(_VERDICTS, (_cells(row) for row in result["rows"]))
    lines.append("")
    lines += [f"- {words}" for words in _explained(result["rows"])]
    lines += [f"- differs from the publication: {text}" for text in result["differs"]]
    threads = f"{made['threads']} thread{'s' if made['threads'] != 1 else ''}"
    busy = "" if made["load"] is None else f" of {made['cores']} cores with a load of {made['load']:g}"
    lines.append(
        f"- {minutes(result['seconds'])} on {made['processor']}, {threads}{busy}; vaekit {made['vaekit']}, torch {made['torch']}, "
        f"{result['finished']}"
    )
    commands = [f"`{run['command']}` ({minutes(run['seconds'] or 0.0)})" for run in result["runs"].values()]
    lines += [f"- {command}" for command in commands]
    return [*lines, ""]


def _title(result: Mapping[str, Any]) -> str:
    return f"{result['protocol']}, {result['variant']}"


def _anchor(title: str) -> str:
    return title.lower().replace(",", "").replace(" ", "-")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    published = "" if row["published"] is None else f"{row['published']:g}"
    difference = "" if row["difference"] is None else f"{row['difference']:+.3g}"
    return row["label"], published, ours(row), difference, row["rule"], row["verdict"]


def _explained(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """How the numbers behind the rows were made, each once."""
    said = [f"{words}; {row['ours']['n']:,} examples" for row in rows for words in row["estimators"] if words]
    return list(dict.fromkeys(said))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
