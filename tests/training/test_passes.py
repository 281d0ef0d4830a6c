"""A recorded step against the one by hand: the same to the last bit, for every model that has a name, and refused where it must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

import vaekit
from vaekit.compose import compose
from vaekit.data.batch import Dataset, Split
from vaekit.data.stream import Stream
from vaekit.data.transforms import Scale
from vaekit.errors import ConfigError
from vaekit.objectives import KL
from vaekit.recipe import make_session, resolved
from vaekit.schedules import Annealed, Linear
from vaekit.training import Callback, fit, passes, sole_player
from vaekit.training.guard import Guard
from vaekit.training.program import Program, State

MODELS = sorted(path.stem for path in (Path(vaekit.__file__).parent / "conf" / "model").glob("*.yaml"))
# with a layer so large that its gradient has memory of its own, or parameters that are written to; and those for other data
BY_HAND = {"vae_beta", "ae_stage1_beta_vae", "vqvae_gradient", "table_vae", "scvi", "scvi_latent_library"}
# one of each sort of network, latent and objective
QUICK = {"vae", "cnn", "cvae", "categorical", "iwae", "progressive", "rae_gp", "two_layers", "vampprior", "vqvae"}
SMALL = ("training.batch_size=4", "training.epochs=9")


def dataset(side: int = 8) -> Dataset:
    stored = torch.randint(0, 256, (22, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(22) % 3
    split = Split(stored, (Scale(255),), labels)
    return Dataset("made up", split, split, split, "", False, 0.0, 1.0, class_names=("a", "b", "c"), levels=256)


def trained(monkeypatch: pytest.MonkeyPatch, *overrides: str, worthwhile: int, side: int = 8, steps: int = 26) -> Any:
    """A training of a few epochs of six steps, the last of them smaller, in which passes are recorded after so many."""
    monkeypatch.setattr(passes, "_WORTHWHILE", worthwhile)
    made: list[passes.Passes] = []
    begin = passes.Passes.__init__

    def noted(self: passes.Passes, *given: Any) -> None:
        begin(self, *given)
        made.append(self)

    with monkeypatch.context() as patched:
        patched.setattr(passes.Passes, "__init__", noted)
        data = dataset(side)
        session = make_session(resolved(compose([*overrides, *SMALL]), data), data, torch.device("cpu"))
        with session.generators.borrowed():
            history = fit(
                session.model, session.objective, session.players, session.stream, steps=steps, steps_per_epoch=6,
                samples=session.samples, history=session.history,
            )  # fmt: skip
    return session, history, made[0]


def state(session: Any) -> dict[str, Tensor]:
    checkpoint = session.capture(0).tensors
    return {f"{group}.{name}": value for group, tensors in checkpoint.items() for name, value in tensors.items()}


def overrides_of(model: str) -> tuple[str, ...]:
    grows = ("epochs_per_stage=1", "final_res=8", "latent_dim=4") if "progressive" in model else ()
    return (f"model={model}", *grows)


def assert_alike(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> passes.Passes:
    """Trained by hand and recorded: rows and all that a checkpoint holds are the same bits. Gives what was recorded."""
    ours, history, recorded = trained(monkeypatch, *overrides, worthwhile=3)
    other, expected, by_hand = trained(monkeypatch, *overrides, worthwhile=10**9)
    assert [kind for kind in recorded._kinds.values() if kind.program is not None], recorded.refusal
    assert not recorded.refusal
    assert not any(kind.program for kind in by_hand._kinds.values())
    assert history.rows == expected.rows
    one, two = state(ours), state(other)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    return recorded


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, marks=() if m in QUICK else pytest.mark.slow) for m in MODELS if m not in BY_HAND],
)
def test_a_recorded_training_is_the_one_by_hand_to_the_last_bit(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_alike(monkeypatch, *overrides_of(model))


@pytest.mark.parametrize(
    "overrides",
    [
        ("network.encoder.norm=batch", "network.decoder.dropout=0.2"),
        ("network.encoder.norm=layer", "network.decoder.activation=swiglu"),
        ("beta={kind: schedules.Linear, start: 0.0, stop: 1.0, steps: 20}", "training.gradient_clip=0.5"),
        ("likelihood=normal_optimal", "prior=mixture"),
        ("likelihood=discretized_logistic", "network=gated"),
        ("network=resnet", "network.encoder.norm=batch"),
    ],
    ids=" ".join,
)
def test_and_so_with_other_parts(overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert_alike(monkeypatch, *overrides)


def test_both_sizes_of_batch_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last batch of an epoch of 22 examples by 4 has 2."""
    recorded = assert_alike(monkeypatch)
    assert sorted(key[0][0] for key, kind in recorded._kinds.items() if kind.program is not None) == [2, 4]


def test_a_schedule_that_decides_is_asked_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a stage fades in each step is of a kind of its own; the stages before and after are recorded."""
    recorded = assert_alike(monkeypatch, *overrides_of("progressive"))
    assert len({key[-1] for key, kind in recorded._kinds.items() if kind.program is not None}) >= 1
    assert any(kind.program is None for kind in recorded._kinds.values())


def test_a_step_that_is_not_finite_is_left_out_and_explained_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt: dict[int, int] = {}
    stream_call = Stream.__call__

    def spoil(self: Stream, step: int) -> Any:
        batch = stream_call(self, step)
        if step in (14, 20):
            x = batch.x.clone()
            x[1] = float("nan")
            spoilt[step] = int(batch.index[1])
            return replace(batch, x=x)
        return batch

    monkeypatch.setattr(Stream, "__call__", spoil)
    found: dict[int, list[Guard]] = {}
    begin = Guard.__post_init__
    for worthwhile in (3, 10**9):

        def noted(self: Guard, kept: list[Guard] = found.setdefault(worthwhile, [])) -> None:  # noqa: B008
            begin(self)
            kept.append(self)

        monkeypatch.setattr(Guard, "__post_init__", noted)
        trained(monkeypatch, worthwhile=worthwhile)
    (ours,), (other,) = found[3], found[10**9]
    assert ours.skipped == other.skipped == 2
    assert ours.last == other.last
    assert ours.last is not None
    assert ours.last.rows == (spoilt[20],)


def test_what_decides_by_a_value_is_done_by_hand_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    term = KL.forward

    def decides(self: KL, trace: Any) -> Tensor:
        nats = term(self, trace)
        return nats if bool(nats.mean() > 1e-3) else 2.0 * nats

    monkeypatch.setattr(KL, "forward", decides)
    session, _, recorded = trained(monkeypatch, worthwhile=3)
    assert all(kind.program is None and kind.refused for kind in recorded._kinds.values() if kind.seen >= 3)
    assert "data-dependent" in recorded.refusal or "DataDependent" in recorded.refusal
    assert all(bool(tensor.isfinite().all()) for tensor in session.model.state_dict().values())


def test_what_changes_behind_the_recording_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of Python's that moves with each call is in no recording: the step made both ways tells it."""
    calls = iter(range(10**6))
    term = KL.forward
    monkeypatch.setattr(KL, "forward", lambda self, trace: term(self, trace) * (1.0 + 0.1 * next(calls)))
    recorded = trained(monkeypatch, worthwhile=3)[2]
    assert recorded.refusal == "the recorded step differs in the last bit"
    assert not any(kind.program for kind in recorded._kinds.values())


def test_parameters_that_are_put_elsewhere_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = nn.Parameter(torch.ones(3))
    program = Program(lambda p, b, i: [p[0] * i[0]], State([weight], []), [torch.ones(3)])
    assert program.bound
    weight.data = torch.zeros(3)
    assert not program.bound


def test_a_program_reads_parameters_and_annealed_values_as_they_are_now() -> None:
    weight, value = nn.Parameter(torch.tensor([1.0, 2.0])), Annealed(Linear(0.0, 1.0, 10))
    moving = value.value

    def function(parameters: list[Tensor], buffers: list[Tensor], inputs: list[Tensor]) -> list[Any]:
        return [parameters[0].t() * inputs[0] * (buffers[0] * 2.0 + 1.0)]

    program = Program(function, State([weight], [moving]), [torch.ones(2)])
    for step in (0, 3, 3, 7):
        value.advance(step)
        with torch.no_grad():
            weight.add_(1.0)
        x = torch.tensor([3.0, float(step)])
        (found,) = program([x])
        assert torch.equal(found, weight.detach() * x * (moving * 2.0 + 1.0))


def test_a_program_writes_to_nothing_that_it_was_given() -> None:
    """Results go to the memory of operands that nobody reads any more, and never to that of inputs, weights or results."""

    def function(parameters: list[Tensor], buffers: list[Tensor], inputs: list[Tensor]) -> list[Any]:
        (x,), (weight,) = inputs, parameters
        product = x * weight
        kept = product.relu()  # x * weight is read again below
        sums = (product + kept).exp()
        turned = x.relu() * weight.neg()
        return [kept, sums, turned.neg() + sums, x.neg().neg()]

    x, weight = torch.randn(5, 3), nn.Parameter(torch.randn(3))
    before = x.clone(), weight.detach().clone()
    program = Program(function, State([weight], []), [x])
    for _ in range(2):
        for one, other in zip(program([x]), function([weight.detach()], [], [x]), strict=True):
            assert torch.equal(one, other)
        assert torch.equal(x, before[0])
        assert torch.equal(weight, before[1])


def test_random_numbers_that_nobody_reads_are_drawn_all_the_same() -> None:
    def function(parameters: list[Tensor], buffers: list[Tensor], inputs: list[Tensor]) -> list[Any]:
        torch.randn(3)
        return [torch.randn(2) + inputs[0] + 0.0 * torch.rand(2)]

    program = Program(function, State([], []), [torch.ones(2)])
    torch.manual_seed(0)
    (found,) = program([torch.ones(2)])
    after = torch.get_rng_state()
    torch.manual_seed(0)
    (expected,) = function([], [], [torch.ones(2)])
    assert torch.equal(found, expected)
    assert torch.equal(after, torch.get_rng_state())


def test_running_averages_move_with_every_call() -> None:
    norm = nn.BatchNorm1d(3)
    mean, var, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None
    assert var is not None
    assert count is not None

    def function(parameters: list[Tensor], buffers: list[Tensor], inputs: list[Tensor]) -> list[Any]:
        buffers[2].add_(1)
        return [batch_norm(inputs[0], buffers[0], buffers[1], training=True)]

    program = Program(function, State([], [mean, var, count]), [torch.randn(4, 3)])
    other = nn.BatchNorm1d(3, affine=False)
    other.load_state_dict(
        {name: value.clone() for name, value in norm.state_dict().items() if "running" in name or "num" in name}
    )
    for _ in range(3):
        x = torch.randn(4, 3)
        torch.testing.assert_close(program([x])[0], other(x))
    torch.testing.assert_close(mean, other.running_mean)
    torch.testing.assert_close(var, other.running_var)
    assert int(count) == 3


class Summed(nn.Module):
    """Two layers side by side, whose biases have one and the same gradient."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


def altered(monkeypatch: pytest.MonkeyPatch, change: Any, *overrides: str, callbacks: Any = (), steps: int = 26) -> Any:
    """Trained by hand and recorded with a model that `change` has altered; gives both and the passes of the second."""
    found = []
    for worthwhile in (10**9, 3):
        monkeypatch.setattr(passes, "_WORTHWHILE", worthwhile)
        data = dataset()
        session = make_session(resolved(compose([*overrides, *SMALL]), data), data, torch.device("cpu"))
        change(session.model)
        session.players = [
            sole_player(
                nn.ModuleList([session.model, session.objective]),
                lambda p: torch.optim.SGD(p, lr=1e-2),
                gradient_clip=0.1,
            )
        ]
        made: list[passes.Passes] = []
        begin = passes.Passes.__init__

        def noted(self: passes.Passes, *given: Any, begin: Any = begin, made: Any = made) -> None:
            begin(self, *given)
            made.append(self)

        with monkeypatch.context() as patched, session.generators.borrowed():
            patched.setattr(passes.Passes, "__init__", noted)
            fit(
                session.model, session.objective, session.players, session.stream, steps=steps, steps_per_epoch=6,
                samples=session.samples, history=session.history, callbacks=[make(session) for make in callbacks],
            )  # fmt: skip
        found.append((session, made[0]))
    (by_hand, _), (ours, recorded) = found
    return by_hand, ours, recorded


def assert_same_weights(one: Any, other: Any) -> None:
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_two_parameters_with_one_gradient_are_clipped_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(model: Any) -> None:
        torch.manual_seed(0)
        last = model.decoder.layers[-1]
        model.decoder.layers[-1] = Summed(last.in_features, last.out_features)

    by_hand, ours, recorded = altered(monkeypatch, change, "likelihood=normal")
    assert any(kind.program for kind in recorded._kinds.values()), recorded.refusal
    assert_same_weights(by_hand, ours)


def test_a_module_that_no_longer_trains_makes_a_step_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Freeze(Callback):
        def __init__(self, session: Any) -> None:
            self.session = session

        def step(self, progress: Any) -> None:
            if progress.step == 12:
                self.session.model.eval()

    by_hand, ours, recorded = altered(
        monkeypatch, lambda model: None, "network.encoder.dropout=0.3", callbacks=[Freeze]
    )
    assert sum(kind.program is not None for kind in recorded._kinds.values()) >= 2
    assert_same_weights(by_hand, ours)


@pytest.mark.parametrize("what", ["hook", "keeps", "writes"])
def test_modules_that_do_more_than_compute_are_left_to_their_own_python(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    class Odd(nn.Module):
        last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if what == "keeps":
                self.last = x.detach()
            return x

    def change(model: Any) -> None:
        model.encoder.layers.insert(0, odd := Odd())
        if what == "hook":
            odd.register_forward_hook(lambda module, given, out: seen.append(out.detach()))
        if what == "writes":
            first = model.encoder.layers[1]
            odd.forward = lambda x: (first.weight.data.clamp_(-0.02, 0.02), x)[1]  # type: ignore[method-assign]
            first.weight.register_hook(lambda gradient: gradient)

    by_hand, ours, recorded = altered(monkeypatch, change)
    if what != "writes":  # what writes to `.data` leaves no trace, and is recorded with the rest
        assert not any(kind.program for kind in recorded._kinds.values())
        assert recorded.refusal
    assert_same_weights(by_hand, ours)
    assert all(type(value) is Tensor for value in seen)
    assert type(getattr(ours.model.encoder.layers[0], "last", None)) in (Tensor, type(None))


def test_a_program_gives_each_result_memory_of_its_own() -> None:
    def function(parameters: list[Tensor], buffers: list[Tensor], inputs: list[Tensor]) -> list[Any]:
        (x,), (scale,) = inputs, buffers
        return [x.sum(0), x.sum(0), x.t(), scale * 2.0, x.exp(), x.exp()[0]]

    x = torch.randn(3, 4)
    program = Program(function, State([], [torch.ones(2)]), [x])
    first = [value.clone() for value in program([x])]
    for _ in range(2):
        found = program([x])
        assert len({value.untyped_storage().data_ptr() for value in (*found, x)}) == len(found) + 1
        for value, expected in zip(found, first, strict=True):
            assert torch.equal(value, expected)
            value.zero_()  # whoever receives it may write to it


def test_a_program_without_buffers() -> None:
    weight = nn.Parameter(torch.ones(2, 3))
    program = Program(lambda p, b, i: [i[0] @ p[0].t()], State([weight], []), [torch.ones(4, 3)])
    assert torch.equal(program([torch.ones(4, 3)])[0], torch.full((4, 2), 3.0))


def test_labels_of_no_class_are_refused_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded step does not look at them."""
    whole = dataset()
    labels = whole.train.labels
    assert labels is not None
    part = replace(whole.train, labels=torch.where(labels == 2, 3, labels))
    data = replace(whole, train=part)
    with pytest.raises(ConfigError, match="classes 0 to 2, and labels from 0 to 3"):
        make_session(resolved(compose(["model=cvae", *SMALL]), data), data, torch.device("cpu"))
