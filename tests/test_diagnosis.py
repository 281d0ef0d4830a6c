"""Runs that were broken on purpose, and healthy ones: the doctor names the right cause first, and is silent where nothing is wrong.

Every run is a training by the library, small enough for seconds. The quick ones run always, the others by `pytest -m slow`.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from vaekit import api, diagnosis, runs
from vaekit.builder import complete
from vaekit.cli.aliases import translate
from vaekit.compose import compose, data_node, resolve
from vaekit.data.errors import DataNotFoundError
from vaekit.errors import ConfigError, TrainingError
from vaekit.evaluation.doctor import Finding
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.symptoms import symptoms
from vaekit.recipe import make_session, open_data
from vaekit.training.device import select

GREY = "data.binarisation=none"
SMALL = "hidden_dim=64"
FAST = "optimizer.lr=3e-3"
LEARNED = ("likelihood=normal_learned", "sigma=0.3", GREY)
NORM = ("network.encoder.norm=batch", "network.decoder.norm=batch")
MAPS = ("network.encoder.hidden_channels=16", "network.decoder.hidden_channels=16", "latent_dim=16")
SCHEDULE = (
    "beta={{kind: schedules.InEpochs, schedule: {{kind: schedules.Linear, start: 0.0, stop: {stop}, steps: {epochs}}}, "
    "steps_per_epoch: '${{steps_per_epoch}}'}}"
)


@dataclass(frozen=True)
class Broken:
    """A run and what is wrong with it.

    Attributes:
        cause: Name of the finding that must come first.
        words: What its cause or evidence must say.
        overrides: Of the training.
        quick: Whether it belongs to the part that always runs.
        spoil: What is done to the weights afterwards, as a wrong file or a bug would.
    """

    cause: str
    words: str
    overrides: tuple[str, ...]
    quick: bool = False
    spoil: Callable[[dict[str, torch.Tensor]], None] | None = None


def epochs(count: int) -> str:
    return f"training.epochs={count}"


def zeroed(weights: dict[str, torch.Tensor]) -> None:
    weights["decoder.layers.0.weight"].zero_()


def silenced(weights: dict[str, torch.Tensor]) -> None:
    weights["encoder.layers.2.bias"].fill_(-50.0)


def forgotten(weights: dict[str, torch.Tensor]) -> None:
    for name, weight in weights.items():
        if name.endswith("running_mean"):
            weight.zero_()
        elif name.endswith("running_var"):
            weight.fill_(1.0)


BROKEN = {
    "sigma 1 on Frey Face": Broken(
        "sigma_too_large", "sigma of 1,", ("data=freyfaces", "likelihood=normal", "sigma=1", SMALL, epochs(8))
    ),
    "beta 50": Broken("kl_too_heavy", "With beta 50", ("beta=50", SMALL, epochs(10)), quick=True),
    "no warm-up, strong decoder": Broken(
        "posterior_collapse",
        "from the first step",
        ("network.decoder.hidden_dims=[200, 200, 200]", SMALL, epochs(20)),
    ),
    "learning rate 1": Broken("lr_too_large", "optimizer.lr is 1", ("optimizer.lr=1", SMALL, epochs(6)), quick=True),
    "learning rate 1e-6": Broken("lr_too_small", "optimizer.lr is 1e-06", ("optimizer.lr=1e-6", SMALL, epochs(6)), quick=True),
    "dropout 0.9": Broken(
        "dropout", "90% of its units", ("network.encoder.dropout=0.9", "network.decoder.dropout=0.9", SMALL, epochs(10))
    ),
    "normal likelihood on binary data": Broken(
        "density_on_binary", "Normal is a density", ("likelihood=normal", "sigma=0.1", SMALL, epochs(5))
    ),
    "Poisson on negative binomial counts": Broken(
        "overdispersed", "variance of the Poisson",
        ("data=cells", "data.path=CELLS", "model=scvi", "likelihood=poisson", SMALL, FAST, epochs(20)),
    ),
    "Bernoulli on grey values": Broken("grey_bernoulli", "not a density", (GREY, SMALL, FAST, epochs(20))),
    "VQ with 1024 codes": Broken(
        "codebook_collapse", "of 1024 codes", ("model=vqvae", "posterior.codebook.codes=1024", *MAPS, epochs(3))
    ),
    "z ignored, the condition says it all": Broken(
        "decoder_ignores_z", "The condition tells the decoder",
        ("data=array", "data.path=TOLD", "data.key=x", "data.conditions=c", "model=cvae",
         "condition={kind: networks.Values, count: 8}", "likelihood=normal_optimal", SMALL, FAST, epochs(40)),
    ),
    "z ignored, weights lost": Broken("decoder_ignores_z", "whatever z is", (SMALL, FAST, epochs(20)), spoil=zeroed),
    "two epochs only": Broken("training_unfinished", "still rising", (SMALL, epochs(2)), quick=True),
    "kld_weight 1e-7": Broken(
        "kl_too_light", "kld_weight 1e-07", ("likelihood=normal", "kld_weight=1e-7", GREY, SMALL, FAST, epochs(12))
    ),
    "sigma 0.01": Broken("sigma_too_small", "sigma of 0.01,", ("likelihood=normal", "sigma=0.01", GREY, SMALL, FAST, epochs(10))),
    "overfitting": Broken(
        "overfitting", "training examples are few", ("data=array", "data.path=FEW", "likelihood=normal_optimal", epochs(120))
    ),
    "warm-up that stops at 0.1": Broken(
        "schedule_unfinished", "ends at 0.1", (SCHEDULE.format(stop=0.1, epochs=12), SMALL, epochs(12))
    ),
    "learning rate gone": Broken(
        "lr_gone", "schedule of the learning rate",
        ("schedule=exponential", "schedule.schedule.steps=4", "schedule.schedule.stop=1e-5", SMALL, epochs(12)),
    ),
    "data far from zero": Broken(
        "data_far_from_zero", "on for all of them or for none",
        ("data=array", "data.path=OFFSET", "likelihood=normal_optimal", SMALL, FAST, epochs(15)),
    ),
    "dead units": Broken("dead_units", "no gradient", (SMALL, FAST, epochs(10)), spoil=silenced),
    "batch norm, too few steps": Broken(
        "batch_norm", "forget where they began", (*NORM, "training.batch_size=2000", SMALL, epochs(12))
    ),
    "batch norm, averages lost": Broken("batch_norm", "another network", (*NORM, SMALL, FAST, epochs(10)), spoil=forgotten),
    "mean reduction": Broken(
        "mean_reduction", "effective beta 3.2",
        ("objective.reduction.kind=objectives.MeanReduction", SMALL, epochs(12)), quick=True,
    ),
    "one example out of range": Broken(
        "broke_off", "far from all others", ("data=array", "data.path=HUGE", "likelihood=normal", SMALL, epochs(4)), quick=True
    ),
    "codes far from the prior": Broken(
        "far_from_prior", "prior hardly draws", ("model=ae", "prior=standard", GREY, SMALL, FAST, epochs(8))
    ),
}  # fmt: skip

HEALTHY = {
    "default": (SMALL, FAST, epochs(20)),
    "normal_optimal on Frey Face": ("data=freyfaces", "likelihood=normal_optimal", SMALL, FAST, epochs(15)),
    "normal_learned on grey digits": (*LEARNED, SMALL, FAST, epochs(15)),
    "conditional": ("model=cvae", *LEARNED, SMALL, FAST, epochs(15)),
    "mixture prior": ("model=mixture_prior", *LEARNED, SMALL, FAST, epochs(15)),
    "IWAE": ("model=iwae", "training.samples=5", *LEARNED, SMALL, FAST, epochs(12)),
    "scVI": ("data=cells", "data.path=CELLS", "model=scvi", SMALL, FAST, epochs(25)),
    "batch norm and a little dropout": (*NORM, "network.encoder.dropout=0.1", SMALL, FAST, epochs(12)),
    "regularised autoencoder": ("model=rae", GREY, SMALL, FAST, epochs(10)),
    "warm-up": (SCHEDULE.format(stop=1.0, epochs=6), *LEARNED, SMALL, FAST, epochs(15)),
}  # fmt: skip
QUICK_HEALTHY = ("default",)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, cells_file: Path) -> Mapping[str, str]:
    """The user's own data: few, far from zero, one of them out of range, or told by their condition."""
    folder = tmp_path_factory.mktemp("arrays")
    digits = load_digits().images.astype(np.float32) / 16
    digits = digits[np.random.default_rng(0).permutation(len(digits))]
    few, offset, huge, told = (folder / f"{name}.npz" for name in ("few", "offset", "huge", "told"))
    np.savez(few, x=digits[:130])
    np.savez(offset, x=(digits[:600] + 60).reshape(600, -1))
    out = digits[:300].copy()
    out[37] = 1e25
    np.savez(huge, x=out)
    # eight numbers behind each example, and nothing else but a little noise
    draw = np.random.default_rng(1)
    numbers = draw.normal(size=(600, 8))
    values = np.tanh(numbers @ draw.normal(size=(8, 40))) + 0.1 * draw.normal(size=(600, 40))
    np.savez(told, x=values.astype(np.float32), c=numbers.astype(np.float32))
    return {"FEW": str(few), "OFFSET": str(offset), "HUGE": str(huge), "TOLD": str(told), "CELLS": str(cells_file)}


@pytest.fixture(scope="module")
def light() -> Iterator[None]:
    """Trainings draw no pictures: they take longer than the trainings."""
    patch = pytest.MonkeyPatch()
    for name in ("draw_gallery", "animate", "write_page"):
        patch.setattr(api, name, lambda *_, **__: None)
    for name in ("Snapshots", "Stages"):
        patch.setattr(api, name, lambda *_: api.Callback())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    patch.undo()


Train = Callable[..., runs.Run]


@pytest.fixture(scope="module")
def train(light: None, files: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains once for each choice of overrides; a run that broke off is one too."""
    made: dict[tuple[str, ...], runs.Run] = {}

    def trained(*overrides: str) -> runs.Run:
        for name, path in files.items():
            overrides = tuple(word.replace(f"={name}", f"={path}") for word in overrides)
        if overrides not in made:
            folder = tmp_path_factory.mktemp("run")
            try:
                made[overrides] = api.train(*overrides, f"output_dir={folder}", "name=broken", "device=cpu")
            except DataNotFoundError as error:
                pytest.skip(str(error).splitlines()[0])
            except TrainingError:
                made[overrides] = runs.open_run(next((folder / "broken").iterdir()), "cpu")
        return made[overrides]

    return trained


def spoiled(run: runs.Run, spoil: Callable[[dict[str, torch.Tensor]], None]) -> runs.Run:
    """The run with its weights changed on the disk."""
    weights = load_file(run.path / "model.safetensors")
    spoil(weights)
    save_file(weights, run.path / "model.safetensors")
    run = runs.open_run(run.path, "cpu")
    run.folder.write_metrics({
        **run.folder.metrics(), **{name: entry.as_dict() for name, entry in runs.evaluate(run).items()}
    })  # fmt: skip
    return run


def cases(table: Mapping[str, Any], quick: Callable[[str], bool]) -> list[Any]:
    return [pytest.param(name, id=name, marks=() if quick(name) else pytest.mark.slow) for name in table]


def examined(train: Train, name: str) -> diagnosis.Examination:
    broken = BROKEN[name]
    run = train(*broken.overrides)
    return diagnosis.examine(run if broken.spoil is None else spoiled(run, broken.spoil))


@pytest.mark.parametrize("name", cases(BROKEN, lambda name: BROKEN[name].quick))
def test_the_right_cause_is_named_first(train: Train, name: str) -> None:
    found = examined(train, name)
    first = found.findings[0]
    assert first.name == BROKEN[name].cause, "\n".join(map(str, found.findings))
    assert BROKEN[name].words in f"{first.evidence} {first.cause}", str(first)
    # a note limits the meaning of numbers that are no fault of the training
    assert found.healthy == (name == "Bernoulli on grey values")
    assert first.cause.count(".") - first.cause.count("optimizer.lr") - first.cause.count("train.log") <= 4
    _every_remedy_trains(found)


def _every_remedy_trains(found: diagnosis.Examination) -> None:
    """Each command composes, is not the run itself again, and makes a session."""
    for finding in found.findings:
        assert finding.remedies, finding.title
        for remedy in finding.remedies:
            program, name, *words = shlex.split(remedy)
            assert (program, name) == ("vaekit", "train")
            composed = compose(translate(words))
            dataset = open_data(data_node(composed))
            config = complete(
                resolve(
                    composed, dataset.event_shape, examples=len(dataset.train), num_classes=dataset.num_classes,
                    levels=dataset.levels, num_conditions=dataset.num_conditions, num_batches=dataset.num_batches,
                )
            )  # fmt: skip
            assert config != found.run.config, remedy
            make_session(config, dataset, select("cpu"))


CURABLE = (
    "beta 50", "learning rate 1", "learning rate 1e-6", "dropout 0.9", "batch norm, too few steps", "mean reduction", "sigma 0.01",
    "kld_weight 1e-7", "Poisson on negative binomial counts", "learning rate gone", "normal likelihood on binary data",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CURABLE)
def test_the_first_remedy_mends_what_was_found(train: Train, name: str) -> None:
    found = examined(train, name)
    root, command = diagnosis.first_remedy(found)
    new = train(*translate(shlex.split(command)[2:]))
    treatment = diagnosis.treated(command, found, new)
    assert root.name not in [finding.name for finding in treatment.after.findings], "\n".join(
        map(str, treatment.after.findings)
    )
    assert f"{root.title}: not found any more." in treatment.verdict


@pytest.mark.parametrize("name", cases(HEALTHY, lambda name: name in QUICK_HEALTHY))
def test_a_healthy_run_is_left_alone(train: Train, name: str) -> None:
    found = diagnosis.examine(train(*HEALTHY[name]))
    assert found.healthy, "\n".join(map(str, found.findings))


def test_the_verdict_is_of_the_finding_that_was_treated() -> None:
    """A finding without a remedy may stand before the one whose first remedy was started."""
    first, second = (
        Finding("warning", name, "", "", remedies, name) for name, remedies in (("A", ()), ("B", ("vaekit train",)))
    )
    before, after = (
        diagnosis.Examination(None, "test", None, findings, [])  # type: ignore[arg-type]
        for findings in ([first, second], [first])
    )
    assert diagnosis.first_remedy(before) == (second, "vaekit train")
    assert diagnosis._verdict(before, after, None, "there is none").startswith("B: not found any more.")


def test_there_are_as_many_as_were_promised() -> None:
    assert len(BROKEN) >= 20
    assert len(HEALTHY) >= 8


@pytest.mark.parametrize("key", ["beta", "schedule"])
def test_a_schedule_that_would_outlast_the_training_is_refused(light: None, tmp_path: Path, key: str) -> None:
    """TRAPS 61: it cannot happen, and the message names the cause."""
    longer = {"beta": SCHEDULE.format(stop=1.0, epochs=400), "schedule": "schedule.schedule.steps=400"}[key]
    group = ("schedule=cosine",) if key == "schedule" else ()
    with pytest.raises(
        ConfigError, match="schedule reaches its final value at step 4,800, but the training ends at step 24"
    ):
        api.train(*group, longer, epochs(2), f"output_dir={tmp_path}")


def test_a_training_that_was_interrupted_is_to_be_resumed(train: Train) -> None:
    run = train(SMALL, epochs(2))
    (run.path / "model.safetensors").rename(run.path / "kept")
    try:
        (finding,) = diagnosis.examine(runs.open_run(run.path, "cpu")).findings
    finally:
        (run.path / "kept").rename(run.path / "model.safetensors")
    assert (finding.name, finding.severity) == ("interrupted", "error")
    assert finding.remedies == (f"vaekit resume {run.path}",)


def test_the_end_of_a_training_and_its_report_say_the_same(train: Train) -> None:
    run = train(*BROKEN["beta 50"].overrides)
    examination = diagnosis.examine(run)
    assert [finding.name for finding in run.findings] == [finding.name for finding in examination.findings]
    assert json.loads((run.path / "symptoms.json").read_text())["swap_z"]["unit"] == "nats"


FAMILIES = (
    "model=vqvae", "model=categorical", "model=vampprior prior.components=5", "model=cvae",
    "model=residual_progressive final_res=8 base_ch=8 min_ch=4 epochs_per_stage=1",
    "objective=geco objective.terms.recon.tolerance=9",
    "model=progressive final_res=8 base_ch=8 min_ch=4 epochs_per_stage=1", "likelihood=categorical data.binarisation=none",
    "likelihood=normal_pixel data.binarisation=none", "likelihood=continuous_bernoulli data.binarisation=none",
)  # fmt: skip


QUICK_FAMILIES = 4


@pytest.mark.parametrize(
    "line",
    [*FAMILIES[:QUICK_FAMILIES], *(pytest.param(line, marks=pytest.mark.slow) for line in FAMILIES[QUICK_FAMILIES:])],
)
def test_every_family_can_be_looked_at_and_twice_the_same(line: str) -> None:
    composed = compose([*line.split(), "hidden_dim=8"])
    dataset = open_data(data_node(composed))
    config = complete(
        resolve(
            composed, dataset.event_shape, examples=len(dataset.train), num_classes=dataset.num_classes, levels=dataset.levels
        )
    )  # fmt: skip
    made = make_session(config, dataset, select("cpu")).model
    first, second = (symptoms(made, dataset, "test", Plan(seed=3), 64) for _ in range(2))
    assert first.keys() == second.keys()
    assert {name: entry.value for name, entry in first.items()} == {name: entry.value for name, entry in second.items()}
    assert all(math.isfinite(entry.value) for entry in first.values())
    assert "swap_z" in first
