"""What is written of a sweep can be opened in a spreadsheet without running anything."""

from __future__ import annotations

import csv
import io

from vaekit.sweep.results import Result, _csv


def test_texts_that_a_spreadsheet_would_run_are_neutralised() -> None:
    result = Result(
        trial=0,
        point=0,
        attempt=0,
        state="failed",
        settings={"sigma": "-0.5", "name": '=HYPERLINK("http://x")'},
        score=-1.5,
        metric="@x",
        epoch=3,
        seconds=1.0,
        run="runs/a",
        machine="+m",
        error="=1+1",
    )
    (row,) = csv.DictReader(io.StringIO(_csv([result], ["sigma", "name"])))
    assert row["sigma"] == "-0.5"  # a number stays one
    assert row["score"] == "-1.5"
    assert row["name"] == '\'=HYPERLINK("http://x")'
    assert (row["metric"], row["machine"], row["error"]) == ("'@x", "'+m", "'=1+1")
