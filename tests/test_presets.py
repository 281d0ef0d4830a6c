"""Every published variant, from its name alone: it trains, improves, is written down, taken up again, loaded and sampled from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import vaekit
from vaekit import api, runs
from vaekit.compose import CONF, choices
from vaekit.evaluation.passes import Plan, encodings
from vaekit.training.loop import Callback, Progress

# small enough for seconds, large enough to learn: digits, three epochs of 45 steps
COMMON = (
    "training.batch_size=32",
    "training.epochs=3",
    "evaluation.samples=2",
    "device=cpu",
    "seed=3",
)
GROWING = ("final_res=8", "epochs_per_stage=2", "base_ch=16", "min_ch=8", "training.epochs=4")
# made for tens of thousands of columns: narrow for 64 values, and with a weight of the KL that is a beta of 0.1 for these
WIDE = ("hidden_dims=[64,32]", "latent_dim=8", "kld_weight=0.003125")
OWN = {
    "progressive": GROWING,
    "residual_progressive": GROWING,
    "iwae": ("training.samples=5",),
    "dreg": ("training.samples=5",),
    "piwae": ("training.samples=16",),
    **dict.fromkeys(("vae", "vae_beta", "vae_lightweight"), WIDE),
    "ae_vanilla": WIDE[:2],
    **dict.fromkeys(("ae_stage1_vae", "ae_stage1_beta_vae"), (*WIDE, "optimizer.lr=0.003")),
    "beta_vae_capacity": ("training.epochs=6", "optimizer.lr=0.003"),
    "vampprior": ("training.epochs=6", "optimizer.lr=0.003", "prior.components=50"),
}
PRESETS = choices("model")
# made for counts of cells
CELLS = dict.fromkeys(
    ("scvi", "scvi_latent_library"), ("data=cells", "data.batch=plate", "training.epochs=8", "optimizer.lr=0.003")
)
# made for other data than images, and tested with these: tests/cli/test_tables.py; and bounds that differ from iwae in one number,
# without a state of their own: tests/objectives/test_presets.py
ELSEWHERE = ("table_vae", "miwae", "ciwae", "renyi")
# their crashes are for the slow tests: each has the parts, and so the states, of the preset behind it, with other numbers
LIKE_ANOTHER = {
    "beta_vae": "mlp", "vae_beta": "vae", "vae_lightweight": "vae", "ae_stage1_beta_vae": "ae_stage1_vae", "ae_vanilla": "ae",
}  # fmt: skip
HERE = [name for name in PRESETS if name not in ELSEWHERE]


class Crash(BaseException):
    """Stands for SIGKILL."""


class At(Callback):
    """Ends the process, as far as the library can tell, after a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, progress: Progress) -> None:
        if progress.step == self.at:
            raise Crash


@dataclass(frozen=True)
class Trained:
    name: str
    overrides: tuple[str, ...]
    run: runs.Run


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("presets")


@pytest.fixture(scope="module", params=HERE)
def trained(request: pytest.FixtureRequest, folder: Path, cells_file: Path) -> Trained:
    name = request.param
    data = (
        (*CELLS[name], f"data.path={cells_file}") if name in CELLS else ("data.binarisation=none", *OWN.get(name, ()))
    )
    overrides = (f"model={name}", *COMMON, *data)
    return Trained(name, overrides, api.train(*overrides, f"output_dir={folder}"))


def criterion(name: str, row: dict[str, float]) -> float:
    """What the best weights are chosen by; lower is better. With a capacity that rises, what it buys: the reconstruction.

    With a weight of the KL far from the ELBO's, what is trained for.
    """
    if "kld_weight=0.003125" in OWN.get(name, ()):
        return row["val/loss"]
    if name == "beta_vae_capacity":
        return row["val/recon_loss"]
    bounds = [name for name in row if name.startswith("val/iwae_")]
    if bounds:
        return -row[bounds[0]]
    return -row["val/elbo"] if "val/elbo" in row else row["val/recon_loss"]


def test_it_improves_its_own_criterion(trained: Trained) -> None:
    rows = trained.run.history
    assert all(math.isfinite(value) for row in rows for value in row.values())
    first = -2 if trained.name == "residual_progressive" else 0  # a stage more is another quantity
    assert criterion(trained.name, rows[-1]) < criterion(trained.name, rows[first])


def test_the_use_of_a_codebook_is_logged_over_the_whole_split(trained: Trained) -> None:
    rows = trained.run.history
    for row in rows:
        assert ("val/codebook_perplexity" in row) == trained.name.startswith("vqvae")
    if trained.name.startswith("vqvae"):
        assert 1.0 <= rows[-1]["val/codebook_perplexity"] <= 512 * rows[-1]["val/codebook_used"] + 1e-9


def test_it_is_measured_and_drawn(trained: Trained) -> None:
    metrics = trained.run.metrics
    assert metrics["reconstruction"].n == len(trained.run.dataset.test)
    assert ("elbo" in metrics) == trained.run.model.bounded
    pictures = {file.name for file in trained.run.folder.figures.iterdir()}
    assert {"training_losses.png", "reconstructions.png", "generated_samples.png"} <= pictures
    assert ("training.gif" in pictures) == trained.run.model.bounded  # others have no prior before the training is over
    assert (trained.run.path / "report.html").exists()


def test_it_loads_and_says_the_same_again(trained: Trained) -> None:
    model, data = vaekit.load(trained.run.path), trained.run.dataset
    batch = data.test.batch(torch.arange(7))
    once, twice = (model.encode(batch.x, batch.context) for _ in range(2))
    assert torch.equal(once, twice)
    assert torch.equal(once, trained.run.model.encode(batch.x, batch.context))
    assert model.reconstruct(batch.x, batch.context).shape == batch.x.shape
    measured = runs.evaluate(runs.Run(trained.run.path), plan=Plan(batch_size=37, samples=2))["reconstruction"]
    assert measured.value == pytest.approx(trained.run.metrics["reconstruction"].value, rel=1e-5)  # at any batch size


def test_codes_are_the_posterior_mean_exactly_and_twice_the_same(trained: Trained) -> None:
    model, batch = trained.run.model, trained.run.dataset.test.batch(torch.arange(7))
    once = model.encode(batch.x, batch.context)
    torch.rand(3)  # somebody else draws
    assert torch.equal(model.encode(batch.x, batch.context), once)
    if len(model.hierarchy.open()) == 1:
        assert torch.equal(once, model.posterior(batch.x, batch.context).mean[0].flatten(1))


def test_it_samples(trained: Trained) -> None:
    model, data = vaekit.load(trained.run.path), trained.run.dataset
    x = model.sample(6, data.contexts(6) if model.conditional else None)
    assert x.shape == (6, *data.event_shape)
    assert x.isfinite().all()


def test_codes_do_not_depend_on_the_batch(trained: Trained) -> None:
    model, data = trained.run.model, trained.run.dataset
    whole, parts = (encodings(model, data.test, Plan(batch_size=size))[0] for size in (len(data.test), 23))
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "trained", [pytest.param(name, marks=[pytest.mark.slow] * (name in LIKE_ANOTHER)) for name in HERE], indirect=True
)
def test_a_crash_changes_nothing(trained: Trained, folder: Path, no_pictures: None) -> None:
    output = folder / "crashed" / trained.name
    settings = (*trained.overrides, "training.checkpoint_seconds=0.2", f"output_dir={output}")
    with pytest.raises(Crash):
        api.train(*settings, progress=lambda say: At(60))
    (path,) = [file.parent for file in output.glob("*/*/config.yaml")]
    done = api.resume(path)
    for file in ("model.safetensors", "metrics.jsonl"):
        assert (done.path / file).read_bytes() == (trained.run.path / file).read_bytes(), file


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_short_and_cites_its_paper(name: str) -> None:
    text = (CONF / "model" / f"{name}.yaml").read_text("utf-8")
    assert text.startswith("# @package _global_\n")
    assert "https://" in text.split("defaults:")[0]
    assert len([line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]) <= 35
