"""What a person reads: the list of protocols, and a result as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vaekit.evaluation.units import Estimate
from vaekit.report import written
from vaekit.reproduce.protocol import Protocol
from vaekit.reproduce.runner import Outcome
from vaekit.reproduce.verdict import Verdict

_WIDTH = 100


def listing(protocols: Iterable[Protocol]) -> Iterator[str]:
    """The protocols with what is published, where, and how long both variants take."""
    for protocol in protocols:
        yield protocol.name
        full = "the same" if protocol.full is None else protocol.full.time
        for name, text in (
            ("what", protocol.title),
            ("published", protocol.published),
            ("source", plain(protocol.source)),
            ("quick", f"{protocol.quick.time}; can claim: {protocol.quick.claim}"),
            ("full", full if protocol.full is None else f"{full}; can claim: {protocol.full.claim}"),
        ):
            yield from textwrap.wrap(
                text, _WIDTH, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13, break_on_hyphens=False
            )


def report(outcome: Outcome) -> Iterator[str]:
    """A result: published, ours with its error, the difference and the verdict, a few lines for each row."""
    found = outcome.as_dict()
    yield ""
    yield f"{found['title']} ({found['variant']})"
    yield from textwrap.wrap(f"Can claim: {found['claim']}.", _WIDTH, break_on_hyphens=False)
    for row in found["rows"]:
        yield ""
        yield row["label"]
        yield f"  ours       {ours(row)}"
        if row["published"] is not None:
            yield f"  published  {row['published']:g}, {plain(row['source'])}"
            yield f"  difference {row['difference']:+.3g}"
        yield f"  verdict    {row['verdict']} ({row['rule']})"
    yield ""
    yield f"{summary(found)}. {minutes(found['seconds'])} in all."
    yield str(outcome.file)


def ours(row: Mapping[str, Any]) -> str:
    """Our number of a row, with its error and unit."""
    return written(Estimate.from_dict(row["ours"]))


def summary(found: Mapping[str, Any]) -> str:
    """The verdicts of a result, counted: "3 claims hold, 1 too early to say"."""
    verdicts = [row["verdict"] for row in found["rows"]]
    names = {
        Verdict.AGREES: "agree",
        Verdict.DIFFERS: "differ",
        Verdict.HOLDS: "claims hold",
        Verdict.FAILS: "claims do not hold",
        Verdict.EARLY: "too early to say",
    }
    one = {
        Verdict.AGREES: "agrees",
        Verdict.DIFFERS: "differs",
        Verdict.HOLDS: "claim holds",
        Verdict.FAILS: "claim does not hold",
    }
    counted = {verdict: verdicts.count(verdict) for verdict in names}
    parts = [
        f"{n} {one.get(verdict, names[verdict]) if n == 1 else names[verdict]}" for verdict, n in counted.items() if n
    ]
    return ", ".join(parts) or "no claim"


def minutes(seconds: float) -> str:
    """A time, to the precision that anybody needs."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plain(text: str) -> str:
    """Markdown links as words: the text, and the address in brackets."""
    out, rest = "", text
    while "](" in rest:
        before, _, tail = rest.partition("](")
        start = before.rindex("[")
        address, _, rest = tail.partition(")")
        out += f"{before[:start]}{before[start + 1 :]} ({address})"
    return out + rest
