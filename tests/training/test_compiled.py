"""Compiled steps: the numbers up to rounding, the same bits after a resume, and without a word lost where it cannot be."""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from vaekit.compose import compose
from vaekit.data.batch import Dataset, Split
from vaekit.data.transforms import Scale
from vaekit.errors import RunError
from vaekit.networks.linear import UNCOUNTED
from vaekit.recipe import make_session, resolved
from vaekit.training import Callback, compiled, fit, passes, program
from vaekit.training.loop import Progress
from vaekit.training.watch import Watch

TINY = ("training.batch_size=4", "training.epochs=9", "latent_dim=3", "hidden_dim=16")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++) is installed")


def dataset() -> Dataset:
    stored = torch.randint(0, 256, (22, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(stored, (Scale(255),), torch.arange(22) % 3)
    return Dataset("made up", split, split, split, "", False, 0.0, 1.0, class_names=("a", "b", "c"), levels=256)


class Kept(Callback):
    """What a training told of its steps."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.refusals: set[str] = set()
        self.watch = Watch(self.lines.append, None)  # type: ignore[arg-type]

    def start(self, progress: Progress) -> None:
        self.watch.start(progress)

    def step(self, progress: Progress) -> None:
        self.watch.step(progress)
        self.refusals.add(progress.uncompiled)

    def end(self, progress: Progress) -> None:
        self.seconds = progress.clock.seconds()


def trained(*overrides: str, steps: int = 12, begun: Any = None, at: int = 0) -> tuple[Any, list[Any], Kept]:
    """A training of `steps` steps, or one that goes on at a step with the state of another."""
    data, kept = dataset(), Kept()
    session = make_session(resolved(compose([*overrides, *TINY]), data), data, torch.device("cpu"))
    if begun is not None:
        session.restore(begun, lambda count: [])
    with session.generators.borrowed():
        history = fit(
            session.model, session.objective, session.players, session.stream, start=at, steps=steps,
            steps_per_epoch=6, samples=session.samples, compiling=session.compiling, history=session.history,
            callbacks=[kept],
        )  # fmt: skip
        captured = session.capture(steps)
    return captured, history.rows, kept


def tensors(checkpoint: Any) -> dict[str, Tensor]:
    return {f"{group}.{name}": value for group, found in checkpoint.tensors.items() for name, value in found.items()}


def replaced(monkeypatch: pytest.MonkeyPatch, by: Callable[[fx.GraphModule], Callable[..., Any]]) -> list[int]:
    """In the place of the compiler; filled with an entry for each time that it was asked."""
    asked: list[int] = []

    def compiles(module: fx.GraphModule) -> Callable[..., Any]:
        asked.append(1)
        return by(module)

    monkeypatch.setattr(program, "compiled", compiles)
    return asked


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("default")  # what torch's compiler warns of is not ours
@pytest.mark.parametrize("overrides", [(), ("model=iwae", "training.samples=3")], ids=" ".join)
def test_a_compiled_training_has_the_numbers_of_one_by_hand_and_resumes_to_the_bit(overrides: tuple[str, ...]) -> None:
    by_hand, rows, _ = trained(*overrides)
    whole, compiled_rows, kept = trained(*overrides, "training.compile=true")
    assert kept.refusals == {""}
    for row, other in zip(rows, compiled_rows, strict=True):
        assert other == pytest.approx(row, rel=1e-4)
    one, two = tensors(by_hand), tensors(whole)
    assert any(not torch.equal(one[name], two[name]) for name in one)  # otherwise nothing was compiled
    for at in (1, 7):
        begun, _, _ = trained(*overrides, "training.compile=true", steps=at)
        again, _, _ = trained(*overrides, "training.compile=true", begun=begun, at=at)
        found = tensors(again)
        assert [name for name in found if not torch.equal(found[name], two[name])] == []


def test_it_is_asked_for_once_for_each_size_of_batch_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it makes is what is played: here torch's own operations, so that the bits are those by hand."""
    asked = replaced(monkeypatch, lambda module: module.forward)
    found, rows, kept = trained("training.compile=true")
    assert len(asked) == 2
    assert kept.refusals == {""}
    expected, other_rows, _ = trained()
    assert rows == other_rows
    one, two = tensors(found), tensors(expected)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def fails(module: fx.GraphModule) -> Callable[..., Any]:
    raise RuntimeError("no C++ compiler")


def a_tenth_more(module: fx.GraphModule) -> Callable[..., Any]:
    def play(*given: Any) -> list[Any]:
        return [v * 1.1 if isinstance(v, Tensor) and v.is_floating_point() else v for v in module.forward(*given)]

    return play


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (fails, "RuntimeError: no C++ compiler"),
        (a_tenth_more, "its numbers differ by more than rounding from those of the step that is not compiled"),
    ],
)
def test_what_fails_or_is_wrong_is_not_used_and_told(
    by: Callable[[fx.GraphModule], Callable[..., Any]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "_WORTHWHILE", 3)
    replaced(monkeypatch, by)
    found, rows, kept = trained("training.compile=true")
    expected, other_rows, _ = trained()
    assert rows == other_rows
    one, two = tensors(found), tensors(expected)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert kept.lines[0] == f"A step could not be compiled ({said}), so all are made as without training.compile."


def test_from_a_step_that_cannot_be_compiled_on_none_is_also_after_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second size of batch comes with the sixth step; the steps after it are by hand, whatever the machine that goes on has."""
    calls: list[int] = []

    def once(module: fx.GraphModule) -> Callable[..., Any]:
        calls.append(1)
        return module.forward if len(calls) == 1 else fails(module)

    replaced(monkeypatch, once)
    begun, _, kept = trained("training.compile=true", steps=8)
    assert calls == [1, 1]
    assert len(kept.lines) == 1
    asked = replaced(monkeypatch, lambda module: module.forward)
    _, _, kept = trained("training.compile=true", begun=begun, at=8)
    assert not asked
    assert "Where those before the resume were, the last digits differ from now on." in kept.lines[0]


def test_to_compile_is_a_part_of_the_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(module: fx.GraphModule) -> Callable[..., Any]:
        time.sleep(0.3)
        return module.forward

    replaced(monkeypatch, slow)
    _, _, kept = trained("training.compile=true", steps=3)
    assert kept.seconds["recording"] > 0.3
    assert kept.seconds["forward"] + kept.seconds["backward"] + kept.seconds["waiting"] < 0.3


def test_a_checkpoint_from_before_there_was_a_compiler_is_gone_on_with() -> None:
    begun, _, _ = trained(steps=3)
    config = copy.deepcopy(begun.state["config"])
    assert config["training"].pop("compile") is False
    state = {name: value for name, value in begun.state.items() if name != "uncompiled"} | {"config": config}
    found, _, _ = trained(begun=replace(begun, state=state), at=3)
    expected, _, _ = trained()
    one, two = tensors(found), tensors(expected)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    with pytest.raises(RunError, match=r"training\.compile is true"):
        trained("training.compile=true", begun=replace(begun, state=state), at=3)


def test_a_model_that_grows_is_not_compiled_anew_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replaced(monkeypatch, lambda module: module.forward)
    _, _, kept = trained("model=progressive", "epochs_per_stage=1", "final_res=8", "training.compile=true")
    assert not asked
    assert kept.refusals == {"a schedule decides at each step which layers take part"}


def test_steps_by_hand_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replaced(monkeypatch, lambda module: module.forward)
    monkeypatch.setattr(passes, "LARGE", 100)
    _, _, kept = trained("training.compile=true", steps=2)
    assert not asked
    assert "layers are so large" in kept.refusals.pop()


@pytest.mark.skipif(not UNCOUNTED, reason="this torch has no oneDNN")
def test_the_product_by_another_name_is_the_product() -> None:
    x, weight, bias = torch.randn(5, 7), torch.randn(3, 7), torch.randn(3)
    for given in (bias, None):
        found = compiled._product()(x, weight, given)
        torch.testing.assert_close(found, torch.nn.functional.linear(x, weight, given), rtol=1e-5, atol=1e-6)
    meta = compiled._product()(x.to("meta"), weight.to("meta"), None)
    assert meta.shape == (5, 3)


def test_alike_up_to_rounding() -> None:
    expected = [torch.tensor([1.0, -2.0]), None, torch.tensor([1e-9]), torch.tensor(True)]
    near = [torch.tensor([1.001, -2.001]), None, torch.tensor([-1e-7]), torch.tensor(True)]
    assert compiled.alike(near, expected)
    for place, other in enumerate(
        (torch.tensor([1.01, -2.0]), torch.zeros(1), torch.tensor([1e-4]), torch.tensor(False))
    ):
        assert not compiled.alike([*near[:place], other, *near[place + 1 :]], expected)
    assert not compiled.alike([torch.tensor([float("nan"), -2.0]), *near[1:]], expected)
    assert not compiled.alike([torch.tensor([1.0]), *near[1:]], expected)
    infinite = torch.tensor([float("inf"), 1.0])
    assert compiled.alike([infinite], [infinite.clone()])
    assert not compiled.alike([torch.tensor([1.0, 1.0])], [infinite])
    assert not compiled.alike([torch.ones(2, 3)], [torch.ones(3, 2).t()])  # they lie differently


@pytest.mark.parametrize("before", [None, f"{gettempdir()}/torchinductor_somebody"])
def test_the_cache_is_the_users_own(before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compiler reads from there it executes: never from a folder that others may write to, where torch would have it."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before or "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    compiled.compiled(fx.GraphModule({}, graph))
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder == tmp_path / "vaekit" / "compiled"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_headers_are_kept_only_where_nobody_else_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "torchinductor_me"
    monkeypatch.setattr("torch._inductor.runtime.cache_dir_utils.default_cache_dir", lambda: str(folder))
    assert compiled._headers_are_safe()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert not compiled._headers_are_safe()
    folder.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert not compiled._headers_are_safe()


def test_a_cache_that_somebody_has_chosen_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "chosen"))
    compiled._keep_to_the_user()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "chosen")
