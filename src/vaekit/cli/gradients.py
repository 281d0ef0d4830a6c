"""Measure how much signal there is in the noise of a gradient, by the number of draws K: for the encoder and for the decoder.

The gradient of the mean loss of a few examples is drawn many times. Its signal-to-noise ratio is |mean| / standard deviation of
each parameter, a mean over parameters; the directional one, DSNR, is how much of a draw lies along the mean gradient of all
draws, over how much lies across it. A picture goes to RUN/figures/gradients.png.

  elbo   the ELBO, its KL in closed form        mc     the ELBO, its KL from draws
  stl    the ELBO, path derivative              iwae   the importance-weighted bound
  dreg   the importance-weighted bound, doubly reparameterised

Under the importance-weighted bound the encoder's ratio falls as K rises, in the end as 1 / sqrt(K), and the decoder's rises.
With dreg both rise. Where the encoder's falls: vaekit train model=dreg
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vaekit.cli.arguments import add_device, add_run
from vaekit.cli.output import say
from vaekit.errors import ConfigError

if TYPE_CHECKING:
    from vaekit.evaluation.gradients import Signal
    from vaekit.evaluation.units import Estimate

    Slopes = Mapping[tuple[str, str], Estimate]

Value = TypeVar("Value")


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit gradients`."""
    add_run(parser)
    parser.add_argument("--ks", default="1,4,16,64", help="numbers of draws for each example (default 1,4,16,64)")
    parser.add_argument(
        "--estimators", help="some of the above (default: those of elbo,stl,iwae,dreg that the model has)"
    )
    parser.add_argument(
        "--draws", type=int, default=200, help="how often the gradient is drawn, at least 20 (default 200)"
    )
    parser.add_argument(
        "--examples", type=int, default=8, help="examples of the batch, the first of the split (default 8)"
    )
    parser.add_argument("--split", default="train", help="train (default), validation or test")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON and nothing else")
    options = parser.parse_args(arguments)
    ks = _listed("--ks", options.ks, int)
    asked = None if options.estimators is None else _listed("--estimators", options.estimators, str)

    from vaekit import runs
    from vaekit.evaluation.gradients import USUAL, floor, gradient_signals, possible, slopes
    from vaekit.evaluation.passes import Plan
    from vaekit.training.device import thread_count, threads

    done = runs.open_run(options.run, options.device)
    split, plan = done.dataset.split(options.split), Plan(seed=options.seed)
    without: dict[str, str] = {}
    if asked is None:
        without = possible(done.model, split, plan, USUAL)
        asked = [name for name in USUAL if name not in without]
    flops = 6.0 * sum(parameter.numel() for parameter in done.model.parameters()) * max(ks) * options.examples
    with threads(thread_count(flops)):
        signals = gradient_signals(
            done.model, split, plan, ks=ks, estimators=asked, draws=options.draws, count=options.examples
        )
    fitted = slopes(signals)
    picture = done.folder.figures / "gradients.png"
    _draw(signals, fitted, picture, options.draws)
    if options.json:
        say(json.dumps(_numbers(signals, fitted), indent=2))
        return 0
    count = min(options.examples, len(split))
    say(
        f"Gradients of the mean loss of {count:,} {options.split} examples, {options.draws:,} draws (± one standard error):"
    )
    say(_table(signals, fitted))
    say(f"\nNoise alone would show an SNR of about {floor(options.draws):.2g}.")
    lacking = [key for key in dict.fromkeys((one.estimator, one.side) for one in signals) if key not in fitted]
    if lacking and len(ks) > 1:
        named = "; ".join(f"{name}, {side}" for name, side in lacking)
        say(f"No power of K where fewer than two ratios stand out of the noise: {named}. Take more --draws.")
    for name, reason in without.items():
        say(f"\nWithout {name}: {reason}")
    say(f"\nPicture: {picture}")
    return 0


def _draw(signals: Sequence[Signal], fitted: Slopes, path: Path, draws: int) -> None:
    from vaekit.evaluation.gradients import floor
    from vaekit.report import gradient_signal

    curves: dict[str, dict[str, list[tuple[int, float, float]]]] = {}
    for one in signals:
        points = curves.setdefault(one.side, {}).setdefault(one.estimator, [])
        points.append((one.samples, one.snr.value, one.snr.standard_error))
    said = {key: f"K^{slope.value:+.2f} ± {slope.standard_error:.2f}" for key, slope in fitted.items()}
    gradient_signal(curves, path, floor=floor(draws), slopes=said)


def _numbers(signals: Sequence[Signal], fitted: Slopes) -> dict[str, Any]:
    points = [
        {
            "estimator": one.estimator, "side": one.side, "samples": one.samples,
            "snr": one.snr.as_dict(), "dsnr": one.dsnr.as_dict(), "rms": one.rms.as_dict(),
        }
        for one in signals
    ]  # fmt: skip
    lines = [{"estimator": name, "side": side, "snr_slope": slope.as_dict()} for (name, side), slope in fitted.items()]
    return {"points": points, "slopes": lines}


def _table(signals: Sequence[Signal], fitted: Slopes) -> str:
    """A line for each K of each estimator: both ratios of both sides; then the slopes."""
    from vaekit.report import written

    sides = list(dict.fromkeys(one.side for one in signals))
    by_place = {(one.estimator, one.samples, one.side): one for one in signals}
    rows = [["estimator", "K", *(f"{ratio} {side}" for side in sides for ratio in ("SNR", "DSNR"))]]
    for name, k in dict.fromkeys((one.estimator, one.samples) for one in signals):
        found = [by_place[name, k, side] for side in sides]
        rows.append([name, f"{k:,}", *(written(ratio) for one in found for ratio in (one.snr, one.dsnr))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    if fitted:
        lines += [
            "",
            "SNR grows as K to the power of (fitted to its root mean square over parameters, noise taken out)",
        ]
        lines += [f"  {written(slope)}  {name}, {side}" for (name, side), slope in fitted.items()]
    return "\n".join(lines)


def _listed(flag: str, text: str, kind: Callable[[str], Value]) -> list[Value]:
    try:
        return [kind(word.strip()) for word in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{flag} is {text!r}, expected numbers with commas between them, such as 1,8,64.") from error
