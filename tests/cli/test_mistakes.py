"""Every mistake gets one line, an exit code, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SOURCE = Path(__file__).parents[2] / "src"

MISTAKES: dict[str, tuple[str, int, str]] = {
    "command": ("trian", 2, "there is no command 'trian'; closest: train"),
    "flag as command": ("--epochs 3", 2, "there is no command '--epochs'"),
    "key": ("train latent_dmi=3", 2, "closest: latent_dim"),
    "group": ("train likelyhood=normal", 2, "closest: likelihood"),
    "choice": ("train likelihood=normla", 2, "closest: normal"),
    "data": ("train --dataset mnits", 2, "closest: mnist"),
    "model": ("train --model resnet", 2, "there is no model 'resnet'"),
    "flag": ("train --epocs 3", 2, "there is no flag --epocs; closest: epochs"),
    "short flag": ("train -e 3", 2, "there is no flag -e"),
    "VampPrior of a conditional model": (
        "train --epochs 1 model=cvae prior=vamp",
        2,
        "write another prior, such as prior=mixture",
    ),
    "codes under a prior of numbers": (
        "train --epochs 1 model=vqvae prior=standard",
        2,
        "expected priors.FittedAutoregressive or priors.UniformCodes",
    ),
    "network of two models": ("train network=growing", 2, "model=residual_progressive bring; choose one of them too"),
    "nothing to sweep": ("train -m latent_dim=2", 2, "There is nothing to vary"),
    "list": ("train latent_dim=2,3", 2, "asks for several values"),
    "list in a flag": ("train --seed 1,2", 2, "asks for several values"),
    "no value": ("train --epochs", 2, "--epochs needs a value"),
    "flag for a value": ("train --epochs --lr 1", 2, "--epochs needs a value"),
    "empty value": ("train --epochs=", 2, "training.epochs is ''"),
    "no key": ("train digits", 2, "Cannot read 'digits'"),
    "text for an integer": ("train --epochs many", 2, "training.epochs is 'many', expected an integer"),
    "float for an integer": ("train --epochs 1.5", 2, "training.epochs is 1.5, expected an integer"),
    "text for a number": ("train --lr fast", 2, "optimizer.lr is 'fast', expected a finite number"),
    "no epochs": ("train --epochs 0", 2, "epochs is 0, expected 1 or more"),
    "negative rate": ("train --lr -1", 2, "learning rate: -1"),
    "nan": ("train --lr nan", 2, "optimizer.lr is nan, expected a finite number"),
    "no latents": ("train --z_dim 0", 2, "latent_dim=20"),
    "negative width": ("train --hidden_dim -3", 2, "hidden_dims is [-3, -3]"),
    "batch size": ("train --batch_size 0", 2, "batch_size is 0"),
    "sigma": ("train --recon gaussian --sigma 0", 2, "scale is 0"),
    "beta": ("train --beta high", 2, "'high'"),
    "seed": ("train --seed -1", 2, "seed is -1, expected an integer from 0"),
    "seed of text": ("train --seed abc", 2, "seed is 'abc'"),
    "dropout": ("train model.net.dropout_rate=1.5", 2, "dropout is 1.5"),
    "activation": ("train model.net.activation=rleu", 2, "activation is 'rleu'"),
    "recon": ("train --recon mse", 2, "--recon is 'mse', expected bce or gaussian"),
    "kl": ("train --kl exact", 2, "--kl is 'exact', expected analytic or mc.\n"),
    "reduction": ("train --reduction none", 2, "expected sum or mean"),
    "model type": ("train --model-type cnn", 2, "expected fc or conv"),
    "sigma of a bernoulli": ("train --recon bce --sigma_learnable", 2, "belongs to --recon gaussian"),
    "switch": ("train --include_const=maybe", 2, "expected true or false"),
    "device": ("train --device gpu", 2, "device is 'gpu', expected one of auto, cuda, mps, cpu"),
    "device as a number": ("train device=0", 2, "device is 0, expected text"),
    "input_dim": ("train --input_dim 784", 2, "input_dim is 784, but an example of these data has 64 values"),
    "schedule": (
        "train --epochs 1 beta={kind:schedules.Linear,start:0.0,stop:1.0,steps:1000}",
        2,
        "A schedule reaches its final value at step 1,000, but the training ends at step 12",
    ),
    "schedule's argument": ("train beta={kind:schedules.Linear,begin:0.0}", 2, "no argument 'begin'"),
    "schedule's name": ("train beta={kind:schedules.Linaer}", 2, "closest: schedules.Linear"),
    "kind": ("train data.kind=os.system", 2, "which is not a part of vaekit"),
    "kind of a number": ("train data.kind=5", 2, "which is not a part of vaekit"),
    "part in the wrong place": ("train architecture.kind=networks.MLP", 2, "architecture"),
    "plan in the wrong place": ("train training.kind=evaluation.Plan", 2, "training"),
    "convolution of a table": ("train --model cnn data=array data.path={table}", 2, "Use network=mlp"),
    "environment": ("train name=${oc.env:HOME}", 2, "calls a resolver"),
    "name above": ("train --exp_name ../x", 2, "name is '../x'"),
    "absolute name": ("train --exp_name /tmp/x", 2, "name is '/tmp/x'"),
    "path of a library's data": (
        "train --data-path somewhere",
        2,
        "digits comes with scikit-learn and is read from no path",
    ),
    "progressive": (
        "train --start_res 4",
        2,
        "start_res belongs to model=progressive and model=residual_progressive; choose one of them too",
    ),
    "kld_weight": ("train model.kld_weight=0.1", 2, "write likelihood=normal sigma=1, or kld_weight=null and a beta."),
    "two weights": (
        "train model.kld_weight=0.1 beta=4",
        2,
        "beta=4 and kld_weight=0.1 both weigh the KL: leave one out",
    ),
    "sweep": ("train experiment=stage1_vae_sweep data=digits", 2, "write vaekit sweep in place of vaekit train"),
    "devices": ("train trainer.devices=2", 2, "a training uses one device"),
    "batch norm": (
        "train model=progressive model.net.use_batch_norm=true",
        2,
        "network.encoder (networks.GrowingEncoder) has no argument 'norm'",
    ),
    "batch norm of a number": ("train model.net.use_batch_norm=1", 2, "'1', expected true or false"),
    "beta that equals another weight": ("train model=vqvae beta=0.25", 2, "beta=0.25 has no effect on this objective"),
    "sigma of the optimal scale": (
        "train likelihood=normal_optimal sigma=0.5",
        2,
        "sigma=0.5 has no effect on likelihoods.OptimalScaleNormal",
    ),
    "sigma of the squared error": ("train likelihood=squared_error sigma=0.5", 2, "sigma=0.5 has no effect on"),
    "penalties in place of a prior": (
        "train --epochs 1 objective=rae",
        2,
        "No term of the objective (recon, latent, decoder) holds q(z|x) to the prior",
    ),
    "nothing in place of a prior": ("train --epochs 1 objective=reconstruction", 2, "write posterior=delta"),
    "codes without their model": (
        "train posterior=quantized",
        2,
        "conditionals.Quantized needs event_shape, which model=vqvae and model=vqvae_gradient bring; choose one of them too.",
    ),
    "prior of codes without their model": ("train prior=uniform_codes", 2, "choose one of them too."),
    "network of another kind": (
        "train network.encoder.kind=networks.ConvEncoder",
        2,
        "hidden_dims, which networks.ConvEncoder does not take; write the whole node: "
        "'network.encoder={kind: networks.ConvEncoder}'.",
    ),
    "condition of another kind": (
        "train model=cvae condition.kind=networks.Values",
        2,
        "classes, which networks.Values does not take; write the whole node: 'condition={kind: networks.Values, count: ...}'.",
    ),
    "config folder": ("train --config-dir nowhere", 2, "--config-dir nowhere: there is no such folder"),
    "no such file": ("train data=array data.path=nowhere.npy", 2, "nowhere.npy"),
    "no path": ("train data=array", 2, "data.array needs data.path"),
    "bytes": ("train data=array data.path={bytes}", 2, "data.scale=255"),
    "negative values": ("train data=array data.path={table}", 2, "expects values in [0, 1]"),
    "nan in data": ("train data=array data.path={nan} likelihood=normal", 2, "3"),
    "too few": ("train data=array data.path={two} likelihood=normal", 2, "2 examples"),
    "objects": ("train data=array data.path={objects}", 2, "objects"),
    "text as npy": ("train data=array data.path={text}", 2, "text.npy"),
    "no run": ("resume nowhere", 1, "nowhere is not a run folder"),
    "no argument": ("resume", 2, "required: run"),
    "no run to measure": ("evaluate nowhere", 1, "nowhere is not a run folder"),
    "nothing to measure": ("evaluate", 2, "required: run. See: vaekit evaluate --help"),
    "no run to report": ("report nowhere", 1, "nowhere is not a run folder"),
    "unknown option": ("sample {run} --cuont 3", 2, "unrecognized arguments: --cuont"),
    "unknown split": ("encode {run} --split tset", 2, "split is 'tset', expected one of train, validation, test"),
    "suffix of codes": ("encode {run} --output x.npy", 2, "expected a file that ends in .npz"),
    "suffix of samples": ("sample {run} --output x.png", 2, "expected a file that ends in .npy"),
    "folder of samples": ("sample {run} --output nowhere/x.npy", 2, "nowhere"),
    "no samples": ("sample {run} --count 0", 2, "--count is 0"),
    "samples of text": ("sample {run} --count x", 2, "invalid int value: 'x'"),
    "seed of samples": ("sample {run} --seed -1", 2, "seed"),
    "device of samples": ("sample {run} --device gpu", 2, "device is 'gpu'"),
    "key of an evaluation": ("evaluate {run} evaluation.smaples=3", 2, "closest: evaluation.samples"),
    "another key": ("evaluate {run} latent_dim=3", 2, "an evaluation has no key 'latent_dim'"),
    "value of an evaluation": ("evaluate {run} evaluation.samples=x", 2, "evaluation.samples is 'x'"),
    "range of an evaluation": ("evaluate {run} evaluation.samples=0", 2, "samples is 0, expected 1 or more"),
    "half a value": ("evaluate {run} evaluation.samples=[", 2, "write a number"),
    "group to list": ("list piror", 2, "there is no group 'piror'; closest: prior"),
    "fetch what": ("data fetch", 2, "fetch what?"),
    "fetch nothing": ("data fetch mnits", 2, "mnist"),
    "action": ("data get", 2, "fetch"),
}


@pytest.fixture(scope="module")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    numbers = np.random.default_rng(0)
    table = numbers.standard_normal((50, 3)).astype(np.float32)
    broken = table.copy()
    broken[3, 1] = np.nan
    arrays = {
        "table": table, "nan": broken, "two": table[:2],
        "bytes": numbers.integers(0, 256, (50, 4, 4), dtype=np.uint8), "objects": np.array([{}, {}], dtype=object),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=name == "objects")
    (folder / "text.npy").write_text("no array")
    return {"run": run} | {name: folder / f"{name}.npy" for name in (*arrays, "text")}


@pytest.mark.parametrize(("line", "code", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_and_writes_nothing(
    line: str,
    code: int,
    said: str,
    vaekit: Any,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [part.format(**files) if part.startswith(("{", "data.path={")) else part for part in line.split(" ")]
    result = vaekit(*arguments)
    assert result.code == code, (result.out, result.err)
    assert result.err.startswith("vaekit: ")
    assert result.err.count("\n") == 1, result.err
    assert said in result.err
    assert len(result.err) < 600
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("line", ["train data=mnist", "data fetch mnist"])
def test_data_that_are_not_here_name_files_and_places(
    line: str, vaekit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def no_network(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    result = vaekit(*line.split())
    assert result.code == 2
    for part in ("train-images-idx3-ubyte.gz", "--data_path DIR", "VAEKIT_DATA", "digits", "https://"):
        assert part in result.err
    assert "Traceback" not in result.err
    assert "--debug" not in result.err
    assert result.err.count("\n") <= 12
    assert not (tmp_path / "runs").exists()


def test_bad_images_are_named(vaekit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "faces" / name).write_text("no image")
    result = vaekit("train", "data=images", "data.path=faces")
    assert result.code == 2
    assert "a.png: " in result.err
    assert "b.png: " in result.err


def test_debug_shows_the_traceback(vaekit: Any) -> None:
    from vaekit.errors import ConfigError

    with pytest.raises(ConfigError, match="latent_dmi"):
        vaekit("train", "latent_dmi=3", "--debug")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "vaekit", "trian"]
    quiet = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    loud = subprocess.run(
        [*command, "--debug"], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert (quiet.returncode, quiet.stderr) == (2, "vaekit: there is no command 'trian'; closest: train.\n")
    assert "Traceback" in loud.stderr
    assert loud.returncode == 1


def test_an_error_that_nobody_foresaw_gets_one_line(vaekit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaekit import api

    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("first line\nsecond line")

    monkeypatch.setattr(api, "train", fail)
    result = vaekit("train")
    assert result.code == 1
    assert result.err.startswith("vaekit: KeyError: ")
    assert result.err.count("\n") == 1
    assert "--debug shows where" in result.err


def test_a_loss_that_is_not_finite_ends_with_3(vaekit: Any, tiny: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((100, 3), 1e30, dtype=np.float32) * np.random.default_rng(0).random((100, 3)))
    result = vaekit(
        "train", *tiny, "data=array", f"data.path={tmp_path / 'x.npy'}", "likelihood=normal", "--output-dir", tmp_path
    )
    assert result.code == 3
    assert result.err.count("\n") == 1
    assert "'recon'" in result.err
    assert not list(tmp_path.glob("*/*/checkpoints"))


def test_a_folder_that_cannot_be_written(vaekit: Any, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    result = vaekit("train", *tiny, "--output-dir", tmp_path / "runs")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert str(tmp_path / "runs") in result.err


def test_warnings_are_lines_as_well_and_the_filters_stay(vaekit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from vaekit.cli import list as command

    def warn(*_: Any) -> int:
        warnings.simplefilter("always")
        warnings.warn("look out", stacklevel=1)
        return 0

    before = warnings.showwarning, list(warnings.filters)
    monkeypatch.setattr(command, "run", warn)
    assert vaekit("list").err == "vaekit: warning: look out\n"
    assert (warnings.showwarning, list(warnings.filters)) == before
