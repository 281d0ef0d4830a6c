"""Train a model, measure it on test data, and draw its pictures.

Alone, it trains the default model on built-in data. Give overrides (`data=mnist latent_dim=10`, in Hydra's grammar),
long flags, or both; of two for the same key the last one counts. `vaekit list` shows what can be chosen. With -m, and lists of
values (latent_dim=2,4), it is `vaekit sweep`.
"""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.aliases import table, translate
from vaekit.cli.loading import loading
from vaekit.cli.output import conclude, say, shown_progress, stopped

EXAMPLES = """examples:
  vaekit train
  vaekit train data=mnist model=cnn latent_dim=10
  vaekit train --dataset mnist --model mlp --recon bce --epochs 30
  vaekit train data=array data.path=my.npy likelihood=normal_optimal
"""


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit train`."""
    if {"-m", "--multirun"} & {*arguments}:
        from vaekit.cli import sweep

        return sweep.run(parser, arguments)
    parser.usage = "vaekit train [OVERRIDE ...] [--FLAG VALUE ...] [--config-dir DIR]"
    parser.epilog = f"{EXAMPLES}\nlong flags, each with the override it stands for (- and _ are the same):\n{table()}"
    parser.add_argument(
        "--config-dir", "--config_dir", type=Path, help="a folder with your own groups, for example DIR/model/mine.yaml"
    )
    options, others = parser.parse_known_args(arguments)
    overrides = translate(others)

    with loading():
        from vaekit import api  # torch, so only now
        from vaekit.training.callbacks import Interrupted
        from vaekit.training.memory import keep_freed_memory

    keep_freed_memory()
    command = shlex.join(["vaekit", "train", *arguments])
    try:
        done = api.train(*overrides, config_dir=options.config_dir, say=say, progress=shown_progress(), command=command)
    except Interrupted as interrupted:
        return stopped(interrupted.path, interrupted.signal)
    conclude(done)
    return 0
