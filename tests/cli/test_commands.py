"""What the commands do when nothing is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vaekit import api, runs
from vaekit.cli.aliases import DOTTED, FLAGS, translate
from vaekit.cli.main import COMMANDS
from vaekit.compose import compose, resolve
from vaekit.errors import ConfigError

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to write into."""
    return Path(shutil.copytree(run, tmp_path / "a run"))


@pytest.fixture
def unfinished(vaekit: Any, tiny: list[str], tmp_path: Path) -> Path:
    """A run that was stopped before its first epoch was over."""
    from vaekit.training.callbacks import Interrupted
    from vaekit.training.loop import Callback

    class Stop(Callback):
        def step(self, progress: Any) -> None:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        api.train(*tiny, f"output_dir={tmp_path}", progress=lambda say: Stop())
    return next(tmp_path.glob("*/*"))


def test_the_run_folder_has_the_files_that_scripts_rely_on(run: Path) -> None:
    assert sorted(p.name for p in run.iterdir()) == sorted(
        ["config.yaml", "environment.json", "train.log", "metrics.jsonl", "model.safetensors", "checkpoints", "metrics.json",
         "figures", "frames", "report.html", "symptoms.json"]
    )  # fmt: skip
    figures = {
        "training_losses.png",
        "reconstructions.png",
        "generated_samples.png",
        "latent_space.png",
        "manifold.png",
        "traversal.png",
        "interpolation.png",
        "training.gif",
    }
    assert {p.name for p in (run / "figures").iterdir()} == figures


def test_train_ends_with_numbers_and_the_folder(vaekit: Any, tiny: list[str], tmp_path: Path) -> None:
    said = vaekit("train", *tiny, "--output-dir", tmp_path)
    assert said.code == 0
    assert said.err == ""
    assert Path(said.last, "model.safetensors").is_file()
    for word in ("elbo", "reconstruction", "kl", "active_units", "figures", "report.html", "epoch 2/2"):
        assert word in said.out
    assert "effective beta" not in said.out.lower().replace("effective_beta", "")


ODD = ["two words", "it's", 'say "x"', "a,b=c", "Größe ☃", "back\\slash", "${seed}", "-dash", "[x]", "null", "007"]


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_and_folders(
    odd: str, vaekit: Any, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "draw_gallery", lambda *_: None)  # frames and animation are pictures enough
    data = tmp_path / "in" / odd
    data.mkdir(parents=True)
    np.save(data / "x.npy", np.random.default_rng(0).random((60, 3)).astype(np.float32))
    said = vaekit(
        "train", *tiny, "training.epochs=1", "--dataset", "array", "--data_path", data / "x.npy",
        f"--exp_name={odd}", "--output-dir", tmp_path / "out" / odd,
    )  # fmt: skip
    assert said.code == 0, said.err
    run = Path(said.last)
    assert run.parent == tmp_path / "out" / odd / odd
    assert yaml.safe_load((run / "config.yaml").read_text("utf-8"))["data"]["path"] == str(data / "x.npy")
    assert (run / "figures" / "training.gif").is_file()
    assert vaekit("resume", run).code == 0
    assert vaekit("evaluate", run).code == 0


USES = {
    "exp-name": ("first", "name", "first"),
    "data-path": ("some where", "data.path", "some where"),
    "dataset": ("mnist", "data.name", "mnist"),
    "model": ("cnn", "network.encoder.kind", "networks.ConvEncoder"),
    "model-type": ("conv", "network.encoder.kind", "networks.ConvEncoder"),
    "input-dim": ("64", "input_dim", 64),
    "hidden-dim": ("7", "network.encoder.hidden_dims", [7, 7]),
    "hidden-size": ("7", "network.decoder.hidden_dims", [7, 7]),
    "z-dim": ("3", "prior.event_shape", [3]),
    "code-size": ("3", "posterior.event_shape", [3]),
    "latent-dim": ("3", "latent_dim", 3),
    "batch-size": ("9", "training.batch_size", 9),
    "epochs": ("4", "training.epochs", 4),
    "lr": ("1e-2", "optimizer.lr", 0.01),
    "gradient-clip": ("2.0", "training.gradient_clip", 2.0),
    "seed": ("5", "seed", 5),
    "recon": ("gaussian", "likelihood.kind", "likelihoods.Normal"),
    "sigma": ("0.5", "sigma", 0.5),
    "sigma-learnable": ("true", "likelihood.kind", "likelihoods.LearnedScaleNormal"),
    "include-const": ("true", "training.include_const", True),
    "kl": ("mc", "objective.terms.kl.kind", "objectives.MonteCarloKL"),
    "beta": ("4", "objective.weights.kl", 4),
    "reduction": ("mean", "objective.reduction.kind", "objectives.MeanReduction"),
    "output-dir": ("out", "output_dir", "out"),
    "device": ("cpu", "device", "cpu"),
}
GROWING_USES: dict[str, tuple[str, str, Any]] = {
    "epochs-per-stage": ("3", "training.epochs", 6),
    "fadein-ratio": ("0.25", "architecture.growth.fadein_ratio", 0.25),
    "start-res": ("8", "architecture.growth.start_res", 8),
    "final-res": ("16", "architecture.growth.final_res", 16),
    "base-ch": ("24", "base_ch", 24),
    "min-ch": ("6", "min_ch", 6),
}


def value_of(overrides: list[str], key: str) -> Any:
    node: Any = resolve(compose(overrides), (1, 8, 8))
    for part in key.split("."):
        node = node[part]
    return node


def test_every_flag_is_used_below() -> None:
    assert {flag.name for flag in FLAGS} == set(USES) | set(GROWING_USES)


@pytest.mark.parametrize("model", ["progressive", "residual_progressive"])
@pytest.mark.parametrize(("name", "use"), GROWING_USES.items(), ids=GROWING_USES.keys())
def test_flags_of_growing_models_belong_to_them(name: str, use: tuple[str, str, Any], model: str) -> None:
    value, key, wanted = use
    others = [] if name in ("start-res", "final-res") else ["final_res=8"]
    assert value_of([*translate(["--model", model, f"--{name}", value]), *others], key) == wanted
    with pytest.raises(ConfigError, match="belongs to model=progressive and model=residual_progressive"):
        compose(translate([f"--{name}", value]))


@pytest.mark.parametrize(("name", "use"), USES.items(), ids=USES.keys())
def test_every_flag_sets_what_it_stands_for(name: str, use: tuple[str, str, Any]) -> None:
    value, key, wanted = use
    beside = ["likelihood=normal"] if name == "sigma" else []  # under Bernoulli a sigma is refused
    for flag in (f"--{name}", f"--{name.replace('-', '_')}"):
        assert value_of([*beside, *translate([flag, value])], key) == wanted
        assert value_of([*beside, *translate([f"{flag}={value}"])], key) == wanted


DOTTED_USES: dict[str, tuple[str, str, Any]] = {
    "model.net.latent_dim": ("3", "prior.event_shape", [3]),
    "model.net.hidden_dims": ("[9,5]", "network.decoder.hidden_dims", [5, 9]),
    "model.net.activation": ("tanh", "network.encoder.activation", "tanh"),
    "model.net.dropout_rate": ("0.2", "network.decoder.dropout", 0.2),
    "model.net.use_batch_norm": ("true", "network.decoder.norm", "batch"),
    "model.optimizer.lr": ("0.1", "optimizer.lr", 0.1),
    "model.optimizer.weight_decay": ("0.1", "optimizer.weight_decay", 0.1),
    "trainer.gradient_clip_val": ("1.0", "training.gradient_clip", 1.0),
    "trainer.max_epochs": ("3", "training.epochs", 3),
    "trainer.devices": ("1", "seed", 42),
    "model.kld_weight": ("0.01", "kld_weight", 0.01),
}


def test_every_dotted_name_is_used_below() -> None:
    assert set(DOTTED) == set(DOTTED_USES)


@pytest.mark.parametrize(("name", "use"), DOTTED_USES.items(), ids=DOTTED_USES.keys())
def test_every_dotted_name_sets_what_it_stands_for(name: str, use: tuple[str, str, Any]) -> None:
    value, key, wanted = use
    beside = ["likelihood=normal"] if name == "model.kld_weight" else []
    assert value_of(translate([f"{name}={value}", *beside]), key) == wanted


TOGETHER: dict[str, tuple[str, str, Any]] = {
    "recon first": ("--recon gaussian --sigma_learnable", "likelihood.kind", "likelihoods.LearnedScaleNormal"),
    "recon last": ("--sigma_learnable --recon gaussian", "likelihood.kind", "likelihoods.LearnedScaleNormal"),
    "not learned": ("--sigma_learnable false --recon gaussian", "likelihood.kind", "likelihoods.Normal"),
    "learned alone": ("--sigma_learnable", "likelihood.kind", "likelihoods.LearnedScaleNormal"),
    "not learned, bce": ("--sigma_learnable False --recon bce", "likelihood.kind", "likelihoods.Bernoulli"),
    "taken back": ("--sigma_learnable --sigma_learnable=False", "likelihood.kind", "likelihoods.Bernoulli"),
    "constant taken back": ("--include_const --include_const false", "training.include_const", False),
    "constant in capitals": ("--include_const=True", "training.include_const", True),
    "last flag": ("--epochs 3 --epochs 4", "training.epochs", 4),
    "override after flag": ("--epochs 3 training.epochs=5", "training.epochs", 5),
    "flag after override": ("training.epochs=5 --epochs 3", "training.epochs", 3),
    "two flags for one key": ("--hidden-dim 3 --hidden_size 4", "hidden_dim", 4),
    "override after recon": ("--recon gaussian likelihood=normal_optimal", "likelihood.kind", "likelihoods.OptimalScaleNormal"),
    "switch before an override": ("--include_const latent_dim=3", "latent_dim", 3),
    "negative value": ("--beta -1", "beta", -1),
}  # fmt: skip


@pytest.mark.parametrize(("line", "key", "wanted"), TOGETHER.values(), ids=TOGETHER.keys())
def test_flags_together(line: str, key: str, wanted: Any) -> None:
    assert value_of(translate(line.split()), key) == wanted


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, vaekit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import io
    from contextlib import redirect_stdout

    from vaekit.cli.main import main

    out = io.StringIO()
    with pytest.raises(SystemExit) as caught, redirect_stdout(out):
        main([command, "--help"])
    assert caught.value.code == 0
    assert out.getvalue().startswith(f"usage: vaekit {command}")
    if command == "train":
        for flag in FLAGS:
            assert f"--{flag.name}" in out.getvalue()
        for choices in ("analytic or mc", "sum or mean", "bce (", "fc (mlp) or conv", "auto, cuda, mps or cpu"):
            assert choices in out.getvalue()


def test_the_first_help_is_light() -> None:
    code = """
import sys
from vaekit.cli.main import main
assert main(["--help"]) == main([]) == main(["--version"]) == 0
for command in ("train", "resume", "evaluate", "list"):
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
print(sorted({"torch", "hydra", "omegaconf", "numpy", "matplotlib", "sklearn", "rich", "yaml", "safetensors"} & set(sys.modules)))
"""
    environment = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for command in COMMANDS:
        assert f"  {command} " in done.stdout


def test_list(vaekit: Any) -> None:
    said = vaekit("list")
    assert said.code == 0
    for line in ("data=digits", "likelihood=normal_optimal", "model=cnn", "prior=standard"):
        assert line in said.out
    only = vaekit("list", "prior")
    assert "prior=standard" in only.out
    assert "model=" not in only.out
    assert all(len(line.split(maxsplit=1)) == 2 for line in said.out.splitlines() if "=" in line)  # each has words
    assert "caltech101_silhouettes  Caltech" in said.out  # long names keep their distance, too


def test_data(vaekit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEKIT_DATA", str(tmp_path))  # real files take seconds to verify: tests/data/test_named.py
    said = vaekit("data")
    assert said.code == 0
    for name in ("digits", "mnist", "fashion_mnist", "freyfaces", "comes with scikit-learn"):
        assert name in said.out


def test_data_of_a_library_need_no_fetching(vaekit: Any) -> None:
    said = vaekit("data", "fetch", "digits")
    assert said.code == 0
    assert "digits comes with scikit-learn and needs no download" in said.out


def test_encode_twice_gives_the_same_bytes_and_what_load_gives(run: Path, vaekit: Any, tmp_path: Path) -> None:
    contents = []
    for name in ("a.npz", "b.npz"):
        assert vaekit("encode", run, "--output", tmp_path / name, "--scale").code == 0
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    codes = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert set(codes) == {"mean", "scale", "index", "labels"}
    assert codes["mean"].shape == codes["scale"].shape == (180, 2)
    assert (codes["scale"] > 0).all()
    model, data = runs.load(run), runs.open_run(run, "cpu").dataset.split("test")
    assert np.array_equal(codes["labels"], data.labels.numpy())
    # the data are binarised anew for each look, but the same for the same example
    from vaekit.evaluation.passes import batches

    (batch,) = batches(data, runs.open_run(run, "cpu").plan)
    assert np.array_equal(codes["mean"], model.encode(batch.x).detach().numpy())
    assert vaekit("encode", run, "--split", "train", "--output", tmp_path / "train.npz").code == 0
    assert set(np.load(tmp_path / "train.npz")) == {"mean", "index", "labels"}


def test_sample_is_reproducible(run: Path, vaekit: Any, tmp_path: Path) -> None:
    def sample(name: str, *options: object) -> np.ndarray:
        assert vaekit("sample", run, "--output", tmp_path / name, *options).code == 0
        assert (tmp_path / name).with_suffix(".png").stat().st_size > 100
        return np.load(tmp_path / name)

    first = sample("a.npy", "-n", 5)
    assert first.shape == (5, 1, 8, 8)
    assert np.array_equal(first, sample("b.npy", "-n", 5))
    assert np.array_equal(first, sample("c.npy", "-n", 9)[:5])
    assert not np.array_equal(first, sample("d.npy", "-n", 5, "--seed", 1))
    noisy = sample("e.npy", "-n", 5, "--noise")
    assert set(np.unique(noisy)) <= {0.0, 1.0}
    assert np.array_equal(noisy, sample("f.npy", "-n", 5, "--noise"))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_reconstruct(run: Path, vaekit: Any, tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        assert vaekit("reconstruct", run, "--split", "validation", "--output", tmp_path / name).code == 0
    assert np.load(tmp_path / "a.npy").shape == (180, 1, 8, 8)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_outputs_go_into_the_run_by_default(copy: Path, vaekit: Any) -> None:
    for command, name in {
        "sample": "samples.npy",
        "reconstruct": "reconstructions_test.npy",
        "reconstruct --split validation": "reconstructions_validation.npy",
        "encode": "codes_test.npz",
    }.items():
        said = vaekit(*command.split(), copy)
        assert said.code == 0, said.err
        assert said.out.splitlines()[0] == str(copy / name)
        assert (copy / name).is_file()


def test_evaluate_twice_is_the_same_and_agrees_with_the_training(copy: Path, run: Path, vaekit: Any) -> None:
    for _ in range(2):
        assert vaekit("evaluate", copy).code == 0
        assert (copy / "metrics.json").read_bytes() == (run / "metrics.json").read_bytes()


@pytest.mark.parametrize("size", [1, 7, 179, 500])
def test_numbers_do_not_depend_on_the_batch_size(size: int, copy: Path, run: Path, vaekit: Any) -> None:
    assert vaekit("evaluate", copy, f"evaluation.batch_size={size}").code == 0
    wanted, found = (json.loads((path / "metrics.json").read_text()) for path in (run, copy))
    assert wanted.keys() == found.keys()
    for name, entry in wanted.items():
        assert found[name]["value"] == pytest.approx(entry["value"], rel=1e-5), name
        assert found[name]["standard_error"] == pytest.approx(entry["standard_error"], rel=1e-4), name
        assert (found[name]["n"], found[name]["unit"]) == (entry["n"], entry["unit"])


def test_json_is_json_and_nothing_else(copy: Path, vaekit: Any) -> None:
    said = vaekit("evaluate", copy, "--json", "evaluation.samples=3")
    numbers = json.loads(said.out)
    assert {"elbo", "reconstruction", "kl", "iwae_3", "active_units"} <= set(numbers)
    assert set(numbers["elbo"]) >= {"value", "standard_error", "unit", "n"}
    assert set(json.loads((copy / "metrics.json").read_text())) == {*numbers, "effective_beta"}


def test_other_splits_and_seeds_are_printed_and_not_kept(copy: Path, vaekit: Any) -> None:
    before = (copy / "metrics.json").read_bytes()
    said = vaekit("evaluate", copy, "--split", "validation")
    assert "180 validation examples" in said.out
    assert (copy / "metrics.json").read_bytes() == before
    first, second = (json.loads(vaekit("evaluate", copy, "--json", f"evaluation.seed={s}").out) for s in (1, 2))
    assert first["elbo"]["value"] != second["elbo"]["value"]
    assert first["kl"]["value"] != second["kl"]["value"]  # the binarisation is drawn from the seed as well


def test_report_on_a_finished_and_on_an_unfinished_run(copy: Path, unfinished: Path, vaekit: Any) -> None:
    for path in (copy, unfinished):
        (path / "report.html").unlink(missing_ok=True)
        said = vaekit("report", path)
        assert said.code == 0, said.err
        assert (path / "report.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("command", ["evaluate", "sample", "reconstruct", "encode"])
def test_an_unfinished_run_says_how_to_go_on(command: str, unfinished: Path, vaekit: Any) -> None:
    said = vaekit(command, unfinished)
    assert said.code == 1
    assert (
        said.err == f"vaekit: The training in {unfinished} has not finished. Go on with: vaekit resume {unfinished}\n"
    )
    assert not (unfinished / "metrics.json").exists()


def test_a_run_without_its_model(copy: Path, vaekit: Any) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    for content in (b"", weights[:-10], b"\x80\x04N.", b"{}"):
        (copy / "model.safetensors").write_bytes(content)
        said = vaekit("encode", copy)
        assert said.code == 1
        assert "model.safetensors is damaged" in said.err
        assert said.err.strip().endswith(f"vaekit resume '{copy}'")
        assert said.err.count("\n") == 1
    (copy / "model.safetensors").write_bytes(weights)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("- 8\n", "- 9\n"))
    said = vaekit("encode", copy)
    assert said.code == 1
    assert "do not fit its config.yaml" in said.err


def test_a_pipe_that_closes_is_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m vaekit list | head -1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.stderr == ""
