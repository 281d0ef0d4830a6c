"""Fit a prior to the latents of a trained model: better samples, and a rate that says how far the model's own prior is off.

It is fitted to training latents and scored on test latents, in nats per example; `vaekit sample RUN --prior NAME` draws from it.
"""

from __future__ import annotations

from argparse import ArgumentParser

from vaekit.cli.arguments import add_device, add_run
from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit prior`."""
    add_run(parser)
    parser.add_argument(
        "name",
        nargs="?",
        help="normal, mixture or flow for continuous latents, autoregressive for codes (default mixture, or autoregressive)",
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same prior on the CPU (default 0)")
    parser.add_argument(
        "--draws", type=int, default=4, help="latents of each example, if its posterior is random (default 4)"
    )
    add_device(parser)
    options = parser.parse_args(arguments)

    from vaekit import runs
    from vaekit.report import plain_table, write_page
    from vaekit.second_stage import default_name, fit_second_stage

    done = runs.open_run(options.run, options.device)
    name = options.name or default_name(done.model)
    fitted = fit_second_stage(done, name, options.seed, options.draws)
    write_page(done.path)
    say(f"On {len(done.dataset.test):,} test examples (± one standard error), higher is better:")
    say(plain_table(fitted.scores))
    say(str(done.path / "priors" / f"{name}.safetensors"))
    say(str(fitted.picture))
    return 0
