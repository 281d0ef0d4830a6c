"""The line at the end of a training: shares that add up, and advice that follows from them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vaekit.compose import compose
from vaekit.networks.linear import UNCOUNTED, Linear
from vaekit.recipe import make_session, open_data, resolved
from vaekit.training import bottleneck
from vaekit.training.bottleneck import Facts, advice, line, percentages, shares
from vaekit.training.clock import PARTS, Clock
from vaekit.training.device import SMALL_STEP
from vaekit.training.session import Session

EVEN = dict.fromkeys(PARTS, 1.0)


def test_shares_add_up_to_one() -> None:
    parts = shares({part: 0.1 * number for number, part in enumerate(PARTS)})
    assert math.isclose(sum(parts.values()), 1.0)
    assert parts["rest"] == pytest.approx(9 / 45)
    assert shares(dict.fromkeys(PARTS, 0.0)) == {}


@pytest.mark.parametrize(
    "seconds", [EVEN, {"data": 1.0, "forward": 1.0, "backward": 1.0}, {"data": 1e-9, "forward": 1.0}]
)
def test_percents_add_up_to_a_hundred_largest_first(seconds: Mapping[str, float]) -> None:
    percents = percentages(shares(seconds))
    assert sum(percents.values()) == 100
    assert list(percents.values()) == sorted(percents.values(), reverse=True)
    assert all(abs(percent - 100 * shares(seconds)[part]) < 1 for part, percent in percents.items())


def test_the_whole_line() -> None:
    seconds = {"backward": 61.0, "forward": 20.0, "optimizer": 9.0, "data": 4.0, "evaluation": 6.0, "waiting": 0.0}
    assert line(seconds, Facts(products=0.8)) == (
        "Time: 1 min 40 s, 61 % backward, 20 % forward, 9 % optimizer, 6 % evaluation, 4 % data; "
        "bound by the matrix products: a GPU or a smaller network would help."
    )
    assert line(seconds, Facts(), since=1200).startswith("Time since step 1,200: 1 min 40 s, 61 % backward,")


def mostly(part: str, second: str = "") -> dict[str, float]:
    """Shares of which `part` has most, and `second` nearly as much."""
    return shares({**EVEN, part: 10.0, **({second: 9.0} if second else {})})


ADVICE: dict[str, tuple[dict[str, float], Facts, str, str]] = {
    "products": (mostly("backward"), Facts(products=0.5, step=1.0), "bound by the matrix products", "a GPU or a smaller network"),
    "products, and cores that idle": (
        mostly("forward"), Facts(products=0.9, step=1.0, idle_cores=3), "the matrix products", "OMP_NUM_THREADS",
    ),
    "small operations": (mostly("backward"), Facts(products=0.1, step=1e-3), "starting many small", "a larger batch would"),
    "memory": (mostly("backward"), Facts(products=0.1, step=1.0), "moves memory", "a GPU would"),
    "network": (mostly("backward"), Facts(), "bound by the network", "a GPU or a smaller network would"),
    "device": (mostly("forward"), Facts(host=False, behind=0.5), "by the device, which was never idle", "a faster device"),
    "launches": (mostly("forward"), Facts(host=False, behind=0.4), "by the host, which starts", "a larger batch would"),
    "another device": (mostly("forward"), Facts(host=False), "bound by the network", "a larger batch or"),
    "data": (mostly("data"), Facts(), "making the batches", "fewer augmentations would"),
    "data from a file": (mostly("data"), Facts(backed=True), "reading the data from the file", "a larger data.memory"),
    "optimizer": (mostly("optimizer"), Facts(), "bound by the optimizer", "a larger batch would"),
    "validation": (mostly("evaluation"), Facts(validation=0.7), "after every epoch", "a smaller one would"),
    "test": (mostly("evaluation"), Facts(validation=0.2), "at the end", "fewer evaluation.samples would"),
    "pictures": (mostly("pictures"), Facts(), "drawing pictures", "a longer training"),
    "checkpoints": (mostly("checkpoints"), Facts(), "writing checkpoints", "a larger training.checkpoint_seconds"),
    "waiting for cores": (mostly("waiting"), Facts(), "cores that other programs had", "fewer of them"),
    "waiting for the disk": (mostly("waiting"), Facts(backed=True), "the disk that the data are on", "cores"),
    "waiting for the device": (mostly("waiting"), Facts(host=False, behind=1.0), "the device, for which", "a faster device"),
    "rest": (mostly("rest"), Facts(), "around the steps", "a larger batch"),
    "forward and backward are one": (
        {"forward": 0.3, "backward": 0.3, "data": 0.4}, Facts(products=0.6), "bound by the matrix products", "smaller network",
    ),
    "the largest of two": (mostly("data", "optimizer"), Facts(), "making the batches", "smaller examples"),
    "nothing was timed": ({}, Facts(), "bound by the network", "would help"),
}  # fmt: skip


@pytest.mark.parametrize(("parts", "facts", "bound", "remedy"), ADVICE.values(), ids=ADVICE.keys())
def test_advice_follows_from_the_shares(parts: dict[str, float], facts: Facts, bound: str, remedy: str) -> None:
    said = advice(parts, facts)
    assert said.startswith("bound by ")
    assert bound in said
    assert remedy in said


def test_the_remedies_name_settings_that_there_are() -> None:
    node: Any = compose(["data=array", "data.path=x.npy"])
    named = {
        key for parts, facts, *_ in ADVICE.values() for key in re.findall(r"\b[a-z]+\.[a-z_]+", advice(parts, facts))
    }
    assert {"evaluation.samples", "training.checkpoint_seconds", "data.resolution"} <= named
    cells = compose(["data=cells", "data.path=x.h5ad"])
    for key in named:
        section, name = key.split(".")
        signature = {"evaluation": "samples", "training": "checkpoint_seconds"}
        assert name in {*node[section], *cells[section], signature.get(section)}, key


def test_an_ordinary_training_ends_with_it(train: Callable[..., Path]) -> None:
    path = train("one")
    environment = json.loads((path / "environment.json").read_text())
    assert set(environment["time_shares"]) == set(PARTS)
    assert sum(environment["time_shares"].values()) == pytest.approx(1.0, abs=0.0005 * len(PARTS))
    # what a training cannot be without has taken some time
    assert all(environment["time_shares"][part] > 0 for part in ("forward", "backward", "optimizer", "evaluation"))
    assert environment["bottleneck"] in (path / "train.log").read_text()
    assert re.fullmatch(r"Time: [^,]+, (\d+ % [a-z]+, )*\d+ % [a-z]+; bound by .+\.", environment["bottleneck"])


def test_a_resumed_training_says_that_it_speaks_of_its_own_steps(
    train: Callable[..., Path], resume: Callable[..., bool], after_step: Callable[..., Any], crash: type[BaseException]
) -> None:
    def die() -> None:
        raise crash

    path = train("two", "training.checkpoint_seconds=0", callback=after_step(7, die))
    assert "bottleneck" not in json.loads((path / "environment.json").read_text())
    assert resume(path)
    assert json.loads((path / "environment.json").read_text())["bottleneck"].startswith("Time since step 6: ")


def test_the_clock_changes_no_number(train: Callable[..., Path], results: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_clock = results(train("with"))
    monkeypatch.setattr(Clock, "lap", lambda self, part: None)
    monkeypatch.setattr(Clock, "step", lambda self: None)
    assert results(train("without")) == with_clock


def test_what_a_training_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    class Seconds:
        steps, lag = 10, None

        def seconds(self) -> dict[str, float]:
            return {**dict.fromkeys(PARTS, 0.0), "forward": 1.0, "backward": 3.0, "evaluation": 2.0}

    asked: list[int] = []

    def speed() -> float:
        asked.append(torch.get_num_threads())
        return 1e9

    monkeypatch.setattr(bottleneck, "_products_per_second", speed)
    split = SimpleNamespace(stored=torch.zeros(1))
    session: Any = SimpleNamespace(
        generators=SimpleNamespace(device=torch.device("cpu")), flops=2e8, products=1e8, threads=2,
        stream=SimpleNamespace(split=split),
    )  # fmt: skip
    clock: Any = Seconds()
    # ten steps of 1e8 operations at 1e9 a second take one of the four seconds
    assert bottleneck.facts_of(clock, session, 0.5) == Facts(step=0.4, products=0.25, validation=0.25)
    assert asked == [2]  # the threads that the training had
    assert torch.get_num_threads() == 1
    session.products = 1e10
    assert bottleneck.facts_of(clock, session).products == 1.0
    session.products = 0.0
    assert bottleneck.facts_of(clock, session).products is None


def test_cores_are_idle_that_the_threads_of_large_steps_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(bottleneck, "_cores", lambda: 8)
    session: Any = SimpleNamespace(
        generators=SimpleNamespace(device=torch.device("cpu")), flops=SMALL_STEP, products=0.0, threads=3,
        stream=SimpleNamespace(split=SimpleNamespace(stored=torch.zeros(1))),
    )  # fmt: skip
    assert bottleneck.facts_of(Clock(), session).idle_cores == 5
    session.flops = 0.9 * SMALL_STEP
    assert bottleneck.facts_of(Clock(), session).idle_cores == 0


def test_the_speed_of_products_is_measured() -> None:
    # a processor of this century multiplies more than 10 million numbers a second
    assert 1e7 < bottleneck._products_per_second(64, 2) < 1e15


def test_the_speed_is_that_of_the_products_of_the_layer_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(100))
    monkeypatch.setattr(bottleneck.time, "perf_counter", lambda: float(next(moments)))
    made: list[Layer] = []

    class Layer(Linear):
        def forward(self, x: Tensor) -> Tensor:
            made.append(self)
            return super().forward(x)

    monkeypatch.setattr(bottleneck, "Linear", Layer)
    before = torch.get_rng_state()
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter, torch.no_grad():
        speed = bottleneck._products_per_second(64, 2)
    # by this clock each of the two times took a second
    assert len(made) == 2
    assert speed == counter.get_total_flops() / 2 == 6 * 64**3
    assert torch.equal(torch.get_rng_state(), before)


def prepared(*overrides: str) -> Session:
    composed = compose(["hidden_dim=8", "latent_dim=2", "training.batch_size=100", "device=cpu", "seed=1", *overrides])
    dataset = open_data(composed["data"])
    return make_session(resolved(composed, dataset), dataset, torch.device("cpu"))


# multiplications of a forward of the small model, of one example: 64-8-8-4, and 2-8-8-64
ENCODER, OF_DATA, DECODER = 64 * 8 + 8 * 8 + 8 * 4, 64 * 8, 2 * 8 + 8 * 8 + 8 * 64


@pytest.mark.parametrize("samples", [1, 5])
def test_the_products_of_a_step_are_those_that_it_does(samples: int) -> None:
    session = prepared("model=mlp", f"training.samples={samples}")
    batch = session.stream(0)
    session.model.train()
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        session.objective(session.model(batch.x, samples, batch.context)).total.backward()
    assert len(batch.x) == session.stream.batch_size
    assert session.products == counter.get_total_flops()
    encoder = 2 * 100 * (3 * ENCODER - OF_DATA)
    assert session.products == encoder + 2 * 100 * samples * 3 * DECODER
    # what decides the number of threads stays as it was
    assert session.flops == 6 * 100 * samples * (ENCODER + DECODER)


@pytest.mark.parametrize("model", ["cvae", "rae", "vampprior", "two_layers", "cnn"])
def test_so_they_are_of_other_models(model: str) -> None:
    session = prepared(f"model={model}", "training.batch_size=50")
    batch = session.stream(0)
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        session.objective(session.model.train()(batch.x, 1, batch.context)).total.backward()
    assert session.products == counter.get_total_flops()
