"""From measured runs to groups that compare: which columns, in which order, and which of them say the same thing of every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vaekit.comparison.measure import Measured
from vaekit.comparison.settings import data_of, differing, told_apart
from vaekit.errors import ConfigError, closest
from vaekit.report.comparison import Cell, Column, Group, Line, best_first

SPLITS = ("validation", "test", "ood")

# what must be the same of two runs for a number to compare: nothing, what the model sees, that and whether it is a density, or
# these and a scale that was given and not found: without the KL beside it, the nats of an error say which scale it was
_ANY, _SPACE, _BOUND, _ERROR = (), ("space",), ("space", "discrete"), ("space", "discrete", "scale")


@dataclass(frozen=True)
class Kind:
    """A number that has a column.

    Attributes:
        title: For readers.
        unit: nats, dB, dimensions, or 1.
        higher: Whether more is better; None where neither is.
        needs: Facts that runs must share to be compared by it.
    """

    title: str
    unit: str = "1"
    higher: bool | None = None
    needs: tuple[str, ...] = _ANY


KINDS: dict[str, Kind] = {
    "elbo": Kind("ELBO", "nats", True, _BOUND),
    "reconstruction": Kind("Reconstruction", "nats", False, _ERROR),
    "kl": Kind("KL", "nats"),
    "active_units": Kind("Active units"),
    "counts_nll": Kind("NLL of counts", "nats", False),
    "mse": Kind("MSE", "1", False, _SPACE),
    "psnr": Kind("PSNR", "dB", True, _SPACE),
    "pearson_cell": Kind("Pearson per example", "1", True, _SPACE),
    "pearson_gene_mean": Kind("Pearson of feature means", "1", True, _SPACE),
    "knn_accuracy": Kind("15-NN accuracy", "1", True),
    "silhouette": Kind("Silhouette", "1", True),
    "ari_kmeans": Kind("ARI, k-means", "1", True),
    "nmi_kmeans": Kind("NMI, k-means", "1", True),
    "ari_leiden": Kind("ARI, Leiden", "1", True),
    "nmi_leiden": Kind("NMI, Leiden", "1", True),
    "batch_mixing": Kind("Batch mixing"),
}
_ON_VALIDATION = ("elbo", "reconstruction")
# which column orders the runs, the first that all of them compare by
_ORDER = (
    "validation/elbo", "validation/reconstruction", "test/counts_nll", "test/knn_accuracy", "test/mse", "test/psnr",
)  # fmt: skip

_WHY = {
    _SPACE: "the models see the data differently ({}), and the number is in the unit of what they see",
    _BOUND: "of densities and of probabilities, or of data seen differently ({}), nats do not compare",
    _ERROR: "under different scales that were given and not found ({}), nats of an error do not compare",
}


@dataclass(frozen=True)
class Compared:
    """A group and the measured runs behind its lines, in their order."""

    group: Group
    runs: tuple[Measured, ...]


def groups(measured: Sequence[Measured], by: str | None = None) -> list[Compared]:
    """Runs on the same data together, each group best first; the group with most runs first.

    Arguments:
        measured: One or more.
        by: Key of the column that orders them, such as test/mse; chosen by what the runs have when None.

    Raises:
        ConfigError: If no run has a number of that name.
    """
    together: dict[Any, list[Measured]] = {}
    for run in measured:
        together.setdefault(data_of(run.config), []).append(run)
    if by is not None:
        _must_be_known(by, measured)
    made = _with_own_titles([_compared(runs, by) for runs in together.values()])
    return sorted(made, key=lambda compared: (-len(compared.runs), compared.group.title))


def _with_own_titles(made: list[Compared]) -> list[Compared]:
    """Groups of one title with what tells their data apart behind it."""
    alike: dict[str, list[Compared]] = {}
    for compared in made:
        alike.setdefault(compared.group.title, []).append(compared)
    told = {}
    for title, several in alike.items():
        how = told_apart([compared.runs[0].config for compared in several])
        for compared, said in zip(several, how, strict=True):
            told[id(compared)] = f"{title}, {said}" if len(several) > 1 and said else title
    return [replace(compared, group=replace(compared.group, title=told[id(compared)])) for compared in made]


def check_order(by: str) -> None:
    """Refuse to order by what no measurement of any run has.

    Raises:
        ConfigError: If `by` is not a split and a number that is better when higher, or when lower.
    """
    split, _, name = by.partition("/")
    if split in SPLITS and name in KINDS and KINDS[name].higher is not None:
        return
    valid = [f"{split}/{known}" for split in SPLITS for known, kind in KINDS.items() if kind.higher is not None]
    why = "more of it is neither better nor worse" if split in SPLITS and name in KINDS else "there is no such number"
    raise ConfigError(f"--by {by}: {why}{closest(by, valid)}")


def _must_be_known(by: str, measured: Sequence[Measured]) -> None:
    valid = {
        f"{split}/{name}" for run in measured for split in run.numbers for name in run.numbers[split] if name in KINDS
    }
    shown = {key for key in valid if not key.startswith("validation/") or key.split("/")[1] in _ON_VALIDATION}
    directed = {key for key in shown if KINDS[key.split("/")[1]].higher is not None}
    if by in shown - directed:
        raise ConfigError(f"--by {by}: more of it is neither better nor worse{closest(by, directed)}")
    if by not in directed:
        raise ConfigError(f"--by {by}: no run has such a number{closest(by, directed)}")


def _compared(runs: Sequence[Measured], by: str | None) -> Compared:
    names, settings = differing([run.config for run in runs])
    columns = _columns(runs)
    paths = _short([run.path for run in runs])
    lines = [
        Line(path, values, tuple(_cell(run, column) for column in columns))
        for path, values, run in zip(paths, settings, runs, strict=True)
    ]
    place = _ordering(columns, lines, by)
    higher = None if place is None else columns[place].higher
    ordered = best_first(lines, place, higher)
    behind = dict(zip(paths, runs, strict=True))
    group = Group(
        title=title_of(runs[0].config),
        facts=_facts(runs),
        settings=names,
        columns=columns,
        lines=ordered,
        order=_order(columns, place, len(runs)),
        best=place,
        notes=_notes(runs),
    )
    return Compared(group, tuple(behind[line.run] for line in ordered))


def _columns(runs: Sequence[Measured]) -> tuple[Column, ...]:
    columns = []
    for split in SPLITS:
        for name, kind in KINDS.items():
            if split == "validation" and name not in _ON_VALIDATION:
                continue
            having = [run for run in runs if math.isfinite(_value(run, split, name))]
            if having:
                key = f"{split}/{name}"
                columns.append(Column(key, kind.title, split, kind.unit, kind.higher, _apart(having, kind)))
    return tuple(columns)


def _value(run: Measured, split: str, name: str) -> float:
    estimate = run.numbers.get(split, {}).get(name)
    return math.nan if estimate is None else estimate.value


def _apart(runs: Sequence[Measured], kind: Kind) -> str:
    for needs in (_BOUND, _ERROR) if kind.needs == _ERROR else (kind.needs,):
        found = {tuple(_fact(run, need) for need in needs): run for run in runs}
        if len(found) > 1:
            return _WHY[needs].format(", ".join(sorted({_seen(run, needs) for run in found.values()})))
    return ""


def _fact(run: Measured, need: str) -> Any:
    return _given_scale(run) if need == "scale" else run.facts[need]


def _given_scale(run: Measured) -> float | None:
    """The scale of a likelihood that has a given one; None for a learned one, and for likelihoods without."""
    likelihood = run.config.get("likelihood", {})
    learned = str(likelihood.get("kind", "")).partition(".")[2].startswith(("Learned", "Optimal"))
    return None if learned else likelihood.get("scale")


def _seen(run: Measured, needs: tuple[str, ...]) -> str:
    space = str(run.facts["space"])
    if "discrete" not in needs:
        return space
    scale = _given_scale(run) if "scale" in needs else None
    given = "" if scale is None else f" with scale {scale:.3g}"
    return f"{'probability' if run.facts['discrete'] else 'density'} of {space}{given}"


def _cell(run: Measured, column: Column) -> Cell:
    estimate = run.numbers.get(column.split, {}).get(column.key.partition("/")[2])
    if estimate is None:
        return Cell(note="this model or its data have no such number")
    error = estimate.standard_error
    return Cell(
        estimate.value,
        error,
        "; ".join(filter(None, (estimate.estimator, f"n = {estimate.n:,}" if estimate.n else ""))),
    )


def _ordering(columns: Sequence[Column], lines: Sequence[Line], by: str | None) -> int | None:
    keys = [column.key for column in columns]
    for key in (by,) if by is not None else _ORDER:
        if key not in keys:
            continue
        place = keys.index(key)
        complete = all(math.isfinite(line.cells[place].value) for line in lines)
        if by is not None or (complete and not columns[place].apart):
            return place
    return None


def _order(columns: Sequence[Column], place: int | None, count: int) -> str:
    if count == 1:
        return "One run: nothing to compare it with."
    if place is None:
        return "In the order of their names: there is no number that all of these runs have and compare by."
    column = columns[place]
    # chosen by what it is reported on, the best looks better than it is
    warning = " The best of many on test data looks better there than it is." if column.split != "validation" else ""
    return f"Best first, by the {column.title} on {column.split} data.{warning}"


def _facts(runs: Sequence[Measured]) -> tuple[str, ...]:
    spaces = sorted({str(run.facts["space"]) for run in runs})
    kinds = sorted({str(run.facts["likelihood"]) for run in runs})
    said = [f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}", f"likelihood: {', '.join(kinds)}"]
    if any(space != "the values as the model sees them" for space in spaces):
        said.append(f"expression: {', '.join(spaces)}")
    said.append(f"{runs[0].facts['features']:,} features")
    return tuple(said)


def _notes(runs: Sequence[Measured]) -> tuple[str, ...]:
    notes = [str(runs[0].facts["data"])] if len({run.facts["data"] for run in runs}) == 1 else []
    spaces = ", ".join(sorted({str(run.facts["space"]) for run in runs}))
    notes += [note for run in runs if (note := _changed(run))]
    notes.append(f"MSE, PSNR and Pearson correlations: between {spaces} and reconstructions at the posterior mean.")
    if any("counts_nll" in found for run in runs for found in run.numbers.values()):
        notes.append(
            "NLL of counts: -log p(x|z) of a model of counts. A model of their expression knows no probability of counts; there "
            "it is that of negative binomials around its reconstructions, with dispersions fitted to the training part."
        )
    if any("batch_mixing" in found for run in runs for found in run.numbers.values()):
        notes.append(
            "Batch mixing: entropy of the batches among 30 neighbours, over that of shuffled batches; 1 is mixed, 0 apart."
        )
    return tuple(notes)


# standard errors between the ELBO that a run logged and that of the same examples now: other draws differ by less than two
_SAME = 5.0


def _changed(run: Measured) -> str:
    """A line if a run's ELBO on validation data is no longer what it was while it trained."""
    logged, now = run.facts.get("logged"), run.numbers.get("validation", {}).get("elbo")
    if not isinstance(logged, float) or now is None or abs(logged - now.value) <= _SAME * now.standard_error:
        return ""
    return (
        f"{run.path}: its ELBO on validation data was {logged:.4g} nats while it trained and is {now.value:.4g} now. Have the data "
        "changed since? Its numbers may be of other examples or features."
    )


def title_of(config: Mapping[str, Any]) -> str:
    """What the data are called: their name, else that of their file, else their kind."""
    node = config["data"]
    path = str(node.get("path") or "")
    return str(node.get("name") or Path(path).stem or node.get("kind"))


def _short(paths: Sequence[Path]) -> list[str]:
    """Paths from the last folder that they share; with several names in it, those that differ."""
    real = [path.resolve() for path in paths]
    shared = 0
    if len(real) > 1:
        while len({path.parts[: shared + 1] for path in real}) == 1:
            shared += 1
    else:
        shared = len(real[0].parts) - min(2, len(real[0].parts))
    return ["/".join(path.parts[shared:]) for path in real]
