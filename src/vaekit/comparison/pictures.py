"""The pictures of a group: of its best run its features and its latents, of all runs rate and distortion and what mattered."""

# N examples, L latent dimensions

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.comparison.importance import Importance, importance
from vaekit.comparison.measure import Measured
from vaekit.comparison.table import Compared
from vaekit.comparison.views import View
from vaekit.errors import ConfigError
from vaekit.evaluation.units import Estimate
from vaekit.report.comparison import Picture
from vaekit.report.comparison_figures import (
    FeatureStatistics,
    Panel,
    feature_statistics,
    importance_bars,
    latent_map,
)
from vaekit.report.rate_distortion import Point, rate_distortion

Array = npt.NDArray[Any]
# from latents (N, L) of each part, the first in distribution, to points of each on one plane, and the names of its axes
Mapper = Callable[[Sequence[Array]], tuple[list[Array], tuple[str, str]]]

_IN, _OUT = "test, in distribution", "out of distribution"


def principal_plane(parts: Sequence[Array]) -> tuple[list[Array], tuple[str, str]]:
    """The two directions in which the latents in distribution vary most."""
    mean = parts[0].mean(0)
    _, sizes, directions = np.linalg.svd(parts[0] - mean, full_matrices=False)
    share = sizes**2 / max(float((sizes**2).sum()), 1e-300)
    first, second = (f"PC{place + 1}, {share[place]:.0%} of the variance" for place in range(2))
    return [(points - mean) @ directions[:2].T for points in parts], (first, second)


def neighbour_map(parts: Sequence[Array]) -> tuple[list[Array], tuple[str, str]]:
    """A map that keeps neighbours together; its distances mean little. Of umap-learn, fitted to all parts at once: placed
    afterwards, many points around few are pushed into a ring.

    References:
        | UMAP: Uniform Manifold Approximation and Projection (McInnes, Healy and Melville, 2018), https://arxiv.org/abs/1802.03426
    """
    latents = np.concatenate(list(parts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its packages
        # n_jobs: a seed means one core
        mapped = (
            import_module("umap").UMAP(n_neighbors=min(15, len(latents) - 1), random_state=0, n_jobs=1).fit(latents)
        )
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return np.split(np.asarray(mapped.embedding_), ends), ("UMAP 1", "UMAP 2")


def mapper_named(name: str) -> Mapper:
    """`pca` or `umap`.

    Raises:
        ConfigError: If it is another, or umap-learn is not installed.
    """
    if name == "pca":
        return principal_plane
    if name != "umap":
        raise ConfigError(f"--map is {name!r}, expected pca or umap.")
    if importlib.util.find_spec("umap") is None:
        raise ConfigError("--map umap needs umap-learn: pip install umap-learn. --map pca needs nothing.")
    return neighbour_map


def draw(
    compared: Compared, folder: Path, prefix: str, mapper: Mapper, colour: str | None
) -> tuple[list[Picture], list[str]]:
    """All pictures of a group that there is something for.

    Arguments:
        compared: The group.
        folder: Where the PNGs go.
        prefix: Of their names.
        mapper: From latents to a plane.
        colour: Column behind the colours of the map; None for the labels, where the data have any.

    Returns:
        The pictures, and a line for each that could not be drawn.
    """
    best = compared.runs[0]
    label = _label(compared, 0)
    drawn, notes = [], []
    pictures = (
        _rates(compared, folder / f"{prefix}rate_distortion.png"),
        _latents(best, label, folder / f"{prefix}latent_map.png", mapper, colour),
        _features(best, label, folder / f"{prefix}features.png"),
        _mattered(compared, folder / f"{prefix}importance.png"),
    )
    for picture in pictures:
        if isinstance(picture, str):
            notes.append(picture) if picture else None
        else:
            drawn.append(picture)
    return drawn, notes


def has_column(compared: Compared, name: str) -> bool:
    """Whether the map of this group can be coloured by a column."""
    return any(name in view.names for view in compared.runs[0].views.values())


def _label(compared: Compared, place: int) -> str:
    group = compared.group
    line = group.lines[place]
    # keys by their last name, as that is what people call them
    said = [
        f"{name.rpartition('.')[2]}={value}"
        for name, value in zip(group.settings, line.settings, strict=True)
        if value != "–"
    ]
    return " ".join(said) or line.run


def _latents(run: Measured, label: str, path: Path, mapper: Mapper, colour: str | None) -> Picture | str:
    view = run.views.get("test")
    if view is None or view.latents.shape[1] < 2 or len(view.latents) < 3:
        return "No latent map: it takes two latent dimensions and three examples." if view is not None else ""
    inside = view.latents.astype(np.float64)
    if not np.isfinite(inside).all():
        return "No latent map: some latents are not finite."
    parts, views = [inside], [view]
    outside = run.views.get("ood")
    if outside is not None and np.isfinite(outside.latents).all():
        parts.append(outside.latents.astype(np.float64))
        views.append(outside)
    points, axes = mapper(parts)
    name = colour if colour is not None and colour in view.names else "labels" if "labels" in view.names else None
    panels = [_panel(_IN, points[0], view, name)]
    panels += [_panel(_OUT, points[1], views[1], name, behind=points[0])] if len(views) > 1 else []
    caption = f"Posterior means of the first run ({label})"
    latent_map(panels, axes, path, caption, name or "")
    told = "Where the test examples lie in the latent space of the first run"
    coloured = f", coloured by {name}" if name else ""
    beside = "; beside them those that were set aside, over the others in grey" if len(panels) > 1 else ""
    return Picture(path, "Latent map", f"{told}{coloured}{beside}.")


def _panel(title: str, points: Array, view: View, name: str | None, behind: Array | None = None) -> Panel:
    names, amounts = view.column(name) if name is not None and name in view.names else (None, None)
    return Panel(title, points, names, amounts, behind)


def _features(run: Measured, label: str, path: Path) -> Picture | str:
    sets = [
        FeatureStatistics(title, view.statistics[0], view.statistics[1])
        for split, title in (("test", _IN), ("ood", _OUT))
        if (view := run.views.get(split)) is not None and view.statistics is not None
    ]
    if not sets:
        return ""
    amounts, zeros = bool(run.facts["amounts"]), str(run.facts["zeros"])
    space = run.facts["space"]
    feature_statistics(
        sets, path, f"A point is a feature; first run ({label}), {space}", logarithmic=amounts, zeros=zeros
    )
    text = (
        f"Each feature's mean and variance{' and ' + zeros if zeros else ''} over the examples: the data ({space}) "
        "against one draw from p(x|z) for each example, z from q(z|x). On the dashed line they are equal."
    )
    return Picture(path, "Features, original against drawn", text)


def _rates(compared: Compared, path: Path) -> Picture | str:
    having = [
        (place, run, run.numbers["test"])
        for place, run in enumerate(compared.runs)
        if {"kl", "reconstruction", "elbo"} <= set(run.numbers["test"])
        and math.isfinite(run.numbers["test"]["kl"].value) and math.isfinite(run.numbers["test"]["reconstruction"].value)
    ]  # fmt: skip
    if not having:
        return "No picture of rate and distortion: no run has an ELBO."
    family = _family(having[0][1])
    points = [_point(compared, place, n) for place, run, n in having if _family(run) == family]
    others = len(having) - len(points)
    rate_distortion(points, path, f"Test data, one point a run, ± one standard error; nats of {family[0]}")
    are = "run whose nats do not compare is" if others == 1 else "runs whose nats do not compare are"
    without = f" {others} {are} not shown." if others else ""
    text = (
        "What a code costs against what it leaves untold. The ELBO is the same along a grey line, and better to the lower left; "
        "the star has the best on these data. A run above the blue line, the lower convex hull, is beaten by a mixture of two "
        f"others: more rate for what it tells. Minus the slope of that line is the beta for which its runs are best.{without}"
    )
    return Picture(path, "Rate-distortion curve", text, main=len({point.beta for point in points}) > 2)


def _point(compared: Compared, place: int, numbers: Mapping[str, Estimate]) -> Point:
    group, line = compared.group, compared.group.lines[place]
    rate, distortion = numbers["kl"], numbers["reconstruction"]
    # a seed tells readers of a curve nothing
    differing = [
        f"{name.rpartition('.')[2]}={value}"
        for name, value in zip(group.settings, line.settings, strict=True)
        if value != "–" and name not in ("beta", "seed")
    ]
    beta = compared.runs[place].config.get("beta")
    known = isinstance(beta, int | float) and not isinstance(beta, bool)
    told = known and "beta" in group.settings
    return Point(
        " ".join(differing) or ("" if told else _label(compared, place)),
        rate.value,
        rate.standard_error,
        distortion.value,
        distortion.standard_error,
        numbers["elbo"].standard_error,
        float(beta) if told and beta is not None else None,
    )


def _family(run: Measured) -> tuple[str, str]:
    return "probabilities" if run.facts["discrete"] else "densities", str(run.facts["space"])


def _mattered(compared: Compared, path: Path) -> Picture | str:
    group = compared.group
    if group.best is None:
        return "Which settings mattered is not asked: the runs have no number that orders them."
    scores = [line.cells[group.best].value for line in group.lines]
    found = importance(group.settings, [line.settings for line in group.lines], scores)
    if not isinstance(found, Importance):
        return found
    column = group.columns[group.best]
    said = f"{column.title} on {column.split} data, {found.runs} runs; ± standard deviation over shuffles"
    importance_bars(found.names, found.values, found.spread, path, said)
    text = (
        f"How much less of the variance of the {column.title} on {column.split} data a random forest explains when a setting is "
        f"shuffled between the {found.runs} runs (permutation importance, ± its standard deviation over 30 shuffles). The forest "
        f"explains {_share(found.explained)} of the variance of runs that it was not fitted to: the nearer to 100 %, the more the "
        "bars mean."
    )
    return Picture(path, "Which settings mattered", text)


def _share(value: float) -> str:
    return f"{value:.0%}" if value > 0 else "nothing"


def check_colour(compared: Sequence[Compared], colour: str) -> None:
    """Raise unless some group has this column.

    Raises:
        ConfigError: With the columns that there are.
    """
    if not any(has_column(group, colour) for group in compared):
        known = [view for group in compared for view in group.runs[0].views.values()]
        if not any(view.names for view in known):
            raise ConfigError(f"--color {colour}: nothing is known of the examples of these data.")
        merged: dict[str, list[str]] = {name: [] for view in known for name in view.names}
        View(np.zeros((0, 0)), names=merged).column(colour)
