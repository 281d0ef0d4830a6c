"""The guide to cells is true: its commands are understood as they stand and run at a reduced size, its numbers can be derived."""

from __future__ import annotations

import json
import os
import re
import shlex
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaekit.builder import build, build_model
from vaekit.cli.main import main
from vaekit.comparison.table import KINDS
from vaekit.compose import compose, data_node
from vaekit.data import Dataset
from vaekit.objectives import equivalent_beta
from vaekit.recipe import build_objective, open_data, resolved

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ((ROOT / "docs" / name).read_text("utf-8") for name in ("cells.md", "cells.zh-CN.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
GENES = 32_738  # of pbmc3k

needs_data = pytest.mark.skipif("VAEKIT_DATA" not in os.environ, reason="the guide's data sets: set VAEKIT_DATA")

# What is appended to a heavy command, so that all of them run in a minute: fewer genes, narrow layers, one epoch, and of a sweep
# two trials. The first line whose words are all in the command is taken; other commands run as they are printed.
SMALL = ("training.epochs=1", "evaluation.samples=1")
COUNTS = (*SMALL, "hidden_dim=8", "data.features=60")
WIDE = (*SMALL, "hidden_dims=[8]", "data.features=60")
REDUCTIONS: tuple[tuple[set[str], tuple[str, ...]], ...] = (
    ({"sweep", "model=scvi"}, (*COUNTS, "--trials", "2")),
    ({"sweep", "--name", "small"}, (*WIDE, "kld_weight=1e-3,1e-2", "latent_dim=2")),
    ({"sweep", "experiment=stage1_vae_sweep"}, (*WIDE, "kld_weight=1e-3", "latent_dim=2,3")),
    ({"sweep"}, (*WIDE, "latent_dim=2")),
    ({"train", "expression=as_is"}, (*SMALL, "hidden_dims=[8]")),  # genes are chosen by their counts
    ({"train", "model=scvi"}, COUNTS),
    ({"train"}, WIDE),
)
TRACKERS = {"tracking=tensorboard": "tensorboard", "tracking=wandb": "wandb", "tracking=mlflow": "mlflow"}


def reduced(words: list[str]) -> list[str]:
    return [*words, *next((extra for having, extra in REDUCTIONS if words[1] in having and having <= {*words}), ())]


def lines(block: str) -> list[list[str]]:
    return [words for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def commands(text: str) -> list[list[str]]:
    return [words for language, block in FENCE.findall(text) if language == "sh" for words in lines(block)]


def row_of(text: str, start: str) -> list[str]:
    """The cells of the first row of a table that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the guide takes for the reader's own: 300 cells, 80 genes, two types, three donors."""
    anndata, sparse = pytest.importorskip("anndata"), pytest.importorskip("scipy.sparse")
    from scipy.io import mmwrite

    folder = tmp_path_factory.mktemp("guide")
    draw = np.random.default_rng(1)
    kind = draw.integers(0, 2, 300)
    x = draw.poisson(np.exp(draw.normal(size=(2, 80)))[kind]) + 0
    counts = sparse.csr_matrix(x.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anndata, about its own dependencies
        table = anndata.AnnData(counts)
        table.layers["log_normalised"] = np.log1p(100 * x / x.sum(1, keepdims=True)).astype(np.float32)
        table.obs["cell_type"] = np.array(["B cells", "T cells"])[kind]
        table.obs["donor"] = np.array(["first", "second", "third"])[draw.integers(0, 3, 300)]
        table.obs["percent_mito"] = draw.uniform(0, 5, 300)
        table.write_h5ad(folder / "cells.h5ad")
    sparse.save_npz(folder / "counts.npz", counts)
    tenx = folder / "filtered_feature_bc_matrix"
    tenx.mkdir()
    mmwrite(tenx / "matrix.mtx", sparse.coo_matrix(x.T))
    (tenx / "genes.tsv").write_text("".join(f"id{gene}\tgene{gene}\n" for gene in range(80)))
    (tenx / "barcodes.tsv").write_text("".join(f"cell{cell}-1\n" for cell in range(300)))
    ((mine,),) = [[block for language, block in FENCE.findall(ENGLISH) if language == "yaml"]]
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "blood.yaml").write_text(mine)
    return folder


class Understood(BaseException):
    """The command has been read; its work would begin now."""

    def __init__(self, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        self.given, self.named = given, named


def work_begins(*given: Any, **named: Any) -> None:
    raise Understood(given, named)


# where each command hands over what it has read
ENDS = (
    "vaekit.api.train", "vaekit.sweep.run.Sweep", "vaekit.runs.open_run", "vaekit.comparison.compare",
    "vaekit.training.run.RunFolder", "vaekit.data.status",
)  # fmt: skip


@cache
def _opened(node: str) -> Dataset:
    return open_data(json.loads(node))


def buildable(overrides: list[str], config_dir: Path | None) -> None:
    """Build all parts on the shape of the data, without the memory that the weights would take."""
    composed = compose(overrides, config_dir)
    # the shape is that of all genes; what a model sees of them is the business of the data's own tests
    node = {**data_node(composed), "features": None, "expression": "as_is"}
    config = resolved(composed, _opened(json.dumps(node, sort_keys=True)))
    with torch.device("meta"):
        build_model(config)
    build_objective(config)
    for part in ("optimizer", "training", "evaluation", "tracking"):
        build(config[part], where=part)


def test_both_languages_have_the_same_commands_in_the_same_order() -> None:
    assert commands(ENGLISH) == commands(CHINESE)
    assert len(commands(ENGLISH)) > 20


@needs_data
@pytest.mark.parametrize("words", commands(ENGLISH), ids=" ".join)
def test_a_command_is_understood_as_it_is_printed(
    words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    if words[1] == "sweep":
        pytest.importorskip("optuna")
    with monkeypatch.context() as patched:
        for end in ENDS:
            patched.setattr(end, work_begins)
        with pytest.raises(Understood) as read:
            pytest.fail(f"exit code {main(words[1:])}")
    given, named = read.value.given, read.value.named
    if words[1] == "train":
        buildable(list(given), named["config_dir"])
    if words[1] == "sweep":
        _check_sweep(*given)


def _check_sweep(
    arguments: list[str], options: Any, translate: Callable[[str], list[str]], folder: Path | None
) -> None:
    from vaekit.sweep.axes import Choices
    from vaekit.sweep.metric import metric_of
    from vaekit.sweep.request import requested

    request = requested(arguments, translate, folder)
    first = {axis.key: axis.first for axis in request.axes}
    last = {axis.key: axis.values[-1] if isinstance(axis, Choices) else axis.first for axis in request.axes}
    for settings in (first, last):
        buildable(request.overrides(settings), folder)
    metric_of(options.metric)
    assert options.prune in ("none", "median")


def test_a_mistake_in_a_command_would_be_seen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("vaekit.api.train", work_begins)
    assert main(["compare", "runs", "--colour", "labels"]) == 2
    with pytest.raises(Understood) as read:
        main(["train", "data=cells", "data.path=counts.npz", "model=vae", "kld_wieght=1e-3"])
    with pytest.raises(ValueError, match="kld_weight"):
        buildable(list(read.value.given), None)


def test_beta_is_what_the_guide_says_it_is() -> None:
    section = ENGLISH[ENGLISH.index("## 4.") : ENGLISH.index("## 5.")]
    assert rf"$\beta = {equivalent_beta(1e-3, 28_231):.1f}$" in section
    assert "with 2,000 of them it is a beta of 1." in section
    assert equivalent_beta(1e-3, 2_000) == 1.0
    for weight in ("1e-6", "1e-5", "1e-4", "1e-3", "1e-2"):
        beta = equivalent_beta(float(weight), GENES)
        assert float(row_of(section, weight)[1]) == pytest.approx(beta, rel=0.03)


def test_the_columns_that_the_guide_explains_are_those_of_the_table() -> None:
    section = ENGLISH[ENGLISH.index("## 6.") : ENGLISH.index("## 7.")]
    titles = {kind.title.split(",")[0] for name, kind in KINDS.items() if name != "psnr"}  # of images
    assert all(title in section for title in titles), titles


def test_the_lines_that_the_guide_explains_are_in_the_package() -> None:
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "src" / "vaekit").rglob("*.py"))
    section = ENGLISH[ENGLISH.index("## 3.") : ENGLISH.index("## 4.")]
    for said in ("the latent is hardly used", "latent dimensions", "was left out", "the loss is no longer finite",
                 "steps in a row had to be left out", "Training not finished"):  # fmt: skip
        assert said in source, said
        assert said in section, said


@needs_data
@pytest.mark.parametrize("preset", [*re.findall(r"^\| \[`(\w+)`\]", ENGLISH, re.MULTILINE)])
def test_a_preset_is_as_large_as_the_guide_says(preset: str) -> None:
    row = row_of(ENGLISH, f"[`{preset}`]")
    composed = compose(["data=pbmc3k", f"model={preset}"])
    node = {**data_node(composed), "expression": "as_is"}
    config = resolved(composed, _opened(json.dumps(node, sort_keys=True)))
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in build_model(config).parameters())
    assert float(row[4].split()[0]) == pytest.approx(weights / 1e6, rel=0.02)
    assert (row[2], row[3]) == (config["expression"], str(config["latent_dim"]))


@needs_data
@pytest.mark.slow
def test_so_many_principal_components_lie_above_beta() -> None:
    train = open_data(data_node(compose(["data=pbmc3k", "model=vae"]))).train
    x = train.batch(torch.arange(len(train))).x
    x -= x.mean(0)
    variances = torch.linalg.eigvalsh((x @ x.T).double()).flip(0) / len(x)
    for weight in ("1e-6", "1e-5", "1e-4", "1e-3", "1e-2"):
        said = int(re.sub(r"\D", "", row_of(ENGLISH, weight)[2]))
        assert said == int((variances > equivalent_beta(float(weight), GENES)).sum()), weight
    shown = [31, 11, 7.0, 3.5, 2.7, 2.3, 1.9, 1.8, 1.5]
    assert [float(f"{variance:.2g}") for variance in variances[:9]] == shown
    assert f"{variances[99]:.2f}" == "0.50"


@needs_data
@pytest.mark.slow
def test_every_command_runs(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of the page, in one folder, each at its reduced size; RUN is the latest run, the database a file."""
    pytest.importorskip("optuna")
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = ""
    for language, block in FENCE.findall(ENGLISH):
        if language == "py":
            names: dict[str, Any] = {"folder": run}
            exec(compile(block, "cells.md", "exec"), names)
            assert len(set(names["table"].obs_names)) == len(names["codes"]["mean"]) == 264
        for words in lines(block) if language == "sh" else ():
            if any(find_spec(TRACKERS[word]) is None for word in words if word in TRACKERS):
                continue
            here = {"RUN": run, "output_dir=/shared/runs": f"output_dir={place / 'shared'}",
                    "postgresql://me@host/sweeps": f"sqlite:///{place / 'shared.db'}"}  # fmt: skip
            code = main([here.get(word, word) for word in reduced(words)[1:]])
            printed = capsys.readouterr()
            assert code == 0, f"{shlex.join(words)}\n{printed.err}"
            assert "Tracking" not in printed.err, printed.err
            end = printed.out.rstrip().splitlines()[-1]
            run = end if words[1] == "train" else run
            if words[1] == "sweep":
                assert "2 trials: 2 finished, 0 failed, 0 pruned" in printed.out or "--prune" in words
            if words[1] == "compare":
                assert Path(end).is_file()
                assert Path(end).with_suffix(".csv").is_file()
    assert (place / "shared.db").is_file()
    assert (place / "runs" / "sweeps" / "small" / "comparison" / "figures" / "rate_distortion.png").is_file()
