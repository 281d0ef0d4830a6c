"""Train small models of several kinds and lay what they make out on one sheet: docs/figures/gallery.png.

    python docs/gallery.py                 # MNIST where VAEKIT_DATA has it, else the built-in digits
    python docs/gallery.py --tiny          # seconds, on the digits: does it still run?

A model that has been trained before is taken from --runs, so an interrupted gallery goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import vaekit
from vaekit.cli.main import main as vaekit_command
from vaekit.report import strips

Images = NDArray[np.floating]

COLUMNS = 10
MOST_BYTES = 300_000
PICTURE = Path(__file__).parent / "figures" / "gallery.png"


@dataclass(frozen=True)
class Setting:
    """What is trained on.

    Attributes:
        common: Overrides of every model.
        fixed: Of those whose images have one size.
        growing: Of those that grow.
    """

    common: tuple[str, ...]
    fixed: tuple[str, ...]
    growing: tuple[str, ...]


def mnist(epochs: int) -> Setting:
    """Full size."""
    growing = (f"epochs_per_stage={max(1, epochs // 4)}", "base_ch=64", "latent_dim=32")
    return Setting(("data=mnist",), (f"training.epochs={epochs}",), growing)


def digits(epochs: int) -> Setting:
    """The 8x8 images that need no download."""
    common = ("data=digits", "data.binarisation=none", "training.batch_size=64")
    growing = ("start_res=2", "final_res=8", f"epochs_per_stage={max(1, epochs // 3)}")
    return Setting(common, (f"training.epochs={epochs}",), growing)


@dataclass(frozen=True)
class Row:
    """One row of the sheet.

    Attributes:
        title: What stands at its left.
        preset: The model.
        overrides: Of that model, beside those of the setting.
        draw: From the run folder to images (COLUMNS, C, H, W).
    """

    title: str
    preset: str
    overrides: tuple[str, ...]
    draw: Callable[[Path], Images]


def command(*words: str) -> None:
    """Run a command of vaekit; what it says of files is not shown, what it says of mistakes is."""
    with redirect_stdout(StringIO()):
        code = vaekit_command(list(words))
    if code != 0:
        raise SystemExit(f"vaekit {' '.join(words)} failed.")


def ask(*words: str) -> Images:
    """The array that a command writes."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "images.npy"
        command(*words, "--output", str(output))
        images: Images = np.load(output, allow_pickle=False)
    return images


def samples(*options: str) -> Callable[[Path], Images]:
    """Draws from the prior."""
    return lambda path: ask("sample", str(path), "-n", str(COLUMNS), "--seed", "1", *options)


def classes(path: Path) -> Images:
    """One draw of each class."""
    drawn = [ask("sample", str(path), "-n", "1", "--seed", "1", "--label", str(label)) for label in range(COLUMNS)]
    return np.concatenate(drawn)


def after_fitting(kind: str) -> Callable[[Path], Images]:
    """Draws from a prior that is fitted to the codes first."""

    def draw(path: Path) -> Images:
        if not (path / "priors" / f"{kind}.safetensors").exists():
            command("prior", str(path), kind)
        return samples("--prior", kind)(path)

    return draw


def interpolation(path: Path) -> Images:
    """From one test example to another, along a great circle."""
    words = ("--from", "0", "--to", "3", "--mode", "spherical", "--steps", str(COLUMNS))
    return ask("interpolate", str(path), *words)[0]


def traversal(path: Path) -> Images:
    """The latent dimension that says most, from -3 to 3, the others as for the first test example."""
    words = ("--index", "0", "--dims", "1", "--steps", str(COLUMNS))
    return ask("traverse", str(path), *words)[0]


def rows(setting: Setting) -> list[Row]:
    """All of the sheet, from top to bottom."""
    fixed, grown = (*setting.common, *setting.fixed), (*setting.common, *setting.growing)
    return [
        Row("mlp", "mlp", fixed, samples()),
        Row("cnn", "cnn", fixed, samples()),
        Row("cvae, 0 to 9", "cvae", fixed, classes),
        Row("vampprior", "vampprior", fixed, samples()),
        Row("vqvae, its own prior", "vqvae", fixed, samples()),
        Row("... autoregressive", "vqvae", fixed, after_fitting("autoregressive")),
        Row("progressive", "progressive", grown, samples()),
        Row("residual_progressive", "residual_progressive", grown, samples()),
        Row("cnn, interpolation", "cnn", fixed, interpolation),
        Row("cnn, traversal", "cnn", fixed, traversal),
    ]


def trained(preset: str, overrides: Sequence[str], runs: Path) -> Path:
    """The run folder of a model, trained unless it is there already."""
    home = runs / preset
    for found in sorted(home.glob("*/*/metrics.json")):
        return found.parent
    print(f"{preset} ...", flush=True)
    return vaekit.train(f"model={preset}", *overrides, f"output_dir={home}").path


def same_size(images: Sequence[Images]) -> Images:
    """Cut the border off images that were padded, so that all are as large as the smallest."""
    height, width = (min(row.shape[axis] for row in images) for axis in (-2, -1))

    def cut(row: Images) -> Images:
        top, left = (row.shape[-2] - height) // 2, (row.shape[-1] - width) // 2
        return row[..., top : top + height, left : left + width]

    return np.stack([cut(row) for row in images])


def compress(path: Path) -> None:
    """Write the picture with as many shades of grey as fit into `MOST_BYTES`."""
    with Image.open(path) as picture:
        grey = picture.convert("L")
    for shades in (128, 64, 32, 16):
        grey.quantize(shades).save(path, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            return
    raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}.")


def main() -> None:
    """Train what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="of each model (default 20)")
    parser.add_argument("--runs", type=Path, default=Path("runs/gallery"), help="where models are kept")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the picture")
    parser.add_argument("--tiny", action="store_true", help="three epochs on the digits")
    options = parser.parse_args()
    data = os.environ.get("VAEKIT_DATA")
    has_mnist = data is not None and (Path(data) / "mnist").is_dir()
    setting = mnist(options.epochs) if has_mnist and not options.tiny else digits(3 if options.tiny else options.epochs)
    sheet = rows(setting)
    drawn = [row.draw(trained(row.preset, row.overrides, options.runs)) for row in sheet]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    strips(same_size(drawn), options.output, [row.title for row in sheet])
    compress(options.output)
    print(f"{options.output}, {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
