"""Trainings that are made as one are those that are made one after another, up to rounding, and each stays what it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.compose import compose, data_node
from vaekit.data import Dataset
from vaekit.errors import TrainingError
from vaekit.recipe import make_session, open_data, resolved
from vaekit.training import together
from vaekit.training.callbacks import Interrupted
from vaekit.training.clock import Clock, Lag
from vaekit.training.loop import Callback
from vaekit.training.session import Session
from vaekit.training.several import Training, is_number, likeness, several
from vaekit.training.stacked_step import Step
from vaekit.training.stacking import CannotStack
from vaekit.training.together import Fit, Together, fit_together

# four steps an epoch, the last of them smaller; seven make one epoch and most of another
TINY = ("hidden_dim=8", "latent_dim=2", "training.batch_size=400", "training.epochs=5", "device=cpu")
STEPS = 7
WARM_UP = "beta={kind: schedules.Linear, start: 0.0, stop: 1.0, steps: 6}"
SETTINGS = (
    ("seed=1",),
    ("seed=2", "beta=0.5"),
    ("seed=3", "optimizer.lr=0.01"),
    ("seed=4", WARM_UP, "schedule=cosine"),
)
SEEDS = (("seed=1",), ("seed=2", "optimizer.lr=0.01"), ("seed=3",))
KINDS: dict[str, tuple[tuple[str, ...], Sequence[tuple[str, ...]]]] = {
    "vae": ((), SETTINGS),
    "dropout and clipping": (("network.encoder.dropout=0.2", "training.gradient_clip=1"), SETTINGS),
    "iwae": (("model=iwae", "training.samples=5"), SEEDS),
    "vampprior": (("model=vampprior", "prior.components=10"), SEEDS),
    "mixture": (("prior=mixture",), SETTINGS),
    "convolutions": (("model=cnn", "network.encoder.channels=[2,4]", "network.decoder.channels=[4,2]"), SETTINGS),
    "conditional": (("model=cvae",), SETTINGS),
    "learned scale": (("likelihood=normal_learned", "data.binarisation=none"), SETTINGS),
    "optimal scale": (("likelihood=normal_optimal", "data.binarisation=none"), SETTINGS),
    "categorical": (("model=categorical",), SETTINGS),
    "large layers": (("hidden_dim=400",), (("seed=1",), ("seed=2",))),
    "two layers": (("model=two_layers",), SETTINGS),
    "doubly reparameterised": (("model=dreg", "training.samples=3"), SEEDS),
    "constrained": (("objective=geco", "objective.terms.recon.tolerance=20"), SEEDS),
    "momentum": (("optimizer=sgd", "optimizer.lr=1e-4"), (("seed=1",), ("seed=2",))),
    "decay": (("optimizer=adamw",), (("seed=1",), ("seed=2", "optimizer.weight_decay=0.1"))),
}
QUICK = ("vae", "dropout and clipping", "iwae", "convolutions", "optimal scale", "momentum")

_DATA: dict[str, Dataset] = {}


@cache
def _prepared(*overrides: str) -> tuple[dict[str, Any], Dataset]:
    composed = compose(TINY + overrides)
    key = str(data_node(composed))
    if key not in _DATA:
        _DATA[key] = open_data(data_node(composed))
    return resolved(composed, _DATA[key]), _DATA[key]


def session_of(*overrides: str) -> Session:
    return make_session(*_prepared(*overrides), torch.device("cpu"))


def weights(session: Session) -> dict[str, Tensor]:
    """All that a training moves, and what it has said."""
    moved = {**session.model.state_dict(), **{f"o.{k}": v for k, v in session.objective.state_dict().items()}}
    return {name: tensor.detach().double().clone() for name, tensor in moved.items()}


def check_same(one: Session, other: Session, tolerance: float = 1e-5) -> None:
    for (name, a), b in zip(weights(one).items(), weights(other).values(), strict=True):
        assert float((a - b).norm()) <= tolerance * (float(a.norm()) + 1e-30), name
    assert len(one.history.rows) == len(other.history.rows) > 0
    for a, b in zip(one.history.rows, other.history.rows, strict=True):
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance / 10)  # a KL of nearly nothing is a small difference
    assert one.history.means() == pytest.approx(other.history.means(), rel=tolerance, abs=tolerance / 10)
    with one.generators.borrowed():
        first = one.generators.current()["cpu"]
    with other.generators.borrowed():
        assert torch.equal(other.generators.current()["cpu"], first)


def trained_alone(*overrides: str, steps: int = STEPS) -> Session:
    session = session_of(*overrides)
    Fit(session, steps).alone()
    return session


def trained_together(
    settings: Sequence[tuple[str, ...]], base: tuple[str, ...] = (), steps: int = STEPS
) -> list[Session]:
    sessions = [session_of(*base, *each) for each in settings]
    assert fit_together([Fit(session, steps) for session in sessions]) == [None] * len(sessions)
    return sessions


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_each_is_what_it_is_alone(kind: str) -> None:
    base, settings = KINDS[kind]
    began = weights(session_of(*base, *settings[0]))
    trained = trained_together(settings, base)
    for each, session in zip(settings, trained, strict=True):
        check_same(trained_alone(*base, *each), session)
    moved = weights(trained[0])
    assert any(float((moved[name] - tensor).norm()) > 1e-3 for name, tensor in began.items())


def test_in_double_precision_to_ten_digits() -> None:
    def double(seed: int) -> Session:
        session = session_of(f"seed={seed}")
        session.model.double()
        session.objective.double()
        session.stream.split = _double
        return session

    _double = session_of().stream.split.double()
    jobs = [Fit(double(seed), STEPS) for seed in (1, 2)]
    assert fit_together(jobs) == [None, None]
    for seed, job in zip((1, 2), jobs, strict=True):
        alone = double(seed)
        Fit(alone, STEPS).alone()
        check_same(alone, job.session, 1e-10)


def test_one_seed_gives_one_model_whoever_else_is_there() -> None:
    first, again, other = trained_together((("seed=5",), ("seed=5",), ("seed=6",)))
    assert all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(again).values(), strict=True))
    assert not torch.equal(weights(first)["encoder.layers.0.weight"], weights(other)["encoder.layers.0.weight"])
    check_same(first, trained_together((("seed=9",), ("seed=5",)))[1])
    check_same(first, trained_together([(f"seed={seed}",) for seed in (7, 8, 5, 9, 10)])[2])


def test_a_training_alone_goes_on_from_the_checkpoint_of_a_group_and_a_group_from_those_of_trainings_alone() -> None:
    def stopped(make: Any) -> list[Session]:
        saved = []
        for session in make:
            with session.generators.borrowed():
                saved.append(session.capture(3))
        fresh = [session_of(*each) for each in SETTINGS]
        for session, checkpoint in zip(fresh, saved, strict=True):
            session.restore(checkpoint, lambda count, session=session: [{"step": 4.0, "epoch": 1.0}] * count)
        return fresh

    whole = [trained_alone(*each) for each in SETTINGS]
    of_group = stopped(trained_together(SETTINGS, steps=3))
    for session in of_group:
        Fit(session, STEPS).alone()
    of_alone = stopped([trained_alone(*each, steps=3) for each in SETTINGS])
    assert fit_together([Fit(session, STEPS) for session in of_alone]) == [None] * 4
    for wanted, *found in zip(whole, of_group, of_alone, strict=True):
        for session in found:
            session.history.rows = list(wanted.history.rows)
            check_same(wanted, session)


class Spoiler(Callback):
    """Makes a weight infinite after a step, and puts it back after another."""

    def __init__(self, session: Session, first: int, last: int) -> None:
        self.weight, self.first, self.last = next(session.model.parameters()), first, last

    def step(self, progress: Any) -> None:
        if progress.step == self.first:
            self.before = float(self.weight.detach()[0, 3])
            self._put(float("inf"))
        if progress.step == self.last:
            self._put(self.before)

    def _put(self, value: float) -> None:
        with torch.no_grad():
            self.weight[:, 3] = value


def test_a_step_that_is_not_finite_is_left_out_of_its_own_training_alone() -> None:
    sessions = [session_of(*each) for each in SETTINGS]
    jobs = [Fit(session, STEPS) for session in sessions]
    jobs[1].callbacks = [Spoiler(sessions[1], 2, 4)]
    assert fit_together(jobs) == [None] * 4
    alone = session_of(*SETTINGS[1])
    Fit(alone, STEPS, [Spoiler(alone, 2, 4)]).alone()
    assert alone.history.rows[0]["train/skipped_steps"] == 2
    check_same(alone, sessions[1])
    for number in (0, 2, 3):
        check_same(trained_alone(*SETTINGS[number]), sessions[number])


def test_a_training_that_fails_leaves_the_others() -> None:
    sessions = [session_of(*each) for each in SETTINGS]
    jobs = [Fit(session, STEPS, skip_limit=2) for session in sessions]
    jobs[0].callbacks = [Spoiler(sessions[0], 1, 99)]
    errors = fit_together(jobs)
    assert isinstance(errors[0], TrainingError)
    assert str(errors[0]).startswith("2 steps in a row had to be left out. Step 3 was left out: ")
    assert errors[1:] == [None] * 3
    for number in (1, 2, 3):
        check_same(trained_alone(*SETTINGS[number]), sessions[number])


def test_the_models_own_their_tensors_afterwards() -> None:
    one, other = trained_together(SETTINGS[:2])
    before = weights(other)
    for session in (one,):
        for tensor in (*session.model.parameters(), *session.model.buffers()):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes
            tensor.data.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), weights(other).values(), strict=True))


CANNOT = {
    "shapes": ((("latent_dim=2",), ("latent_dim=3",)), "not of one shape"),
    "compiled": (
        (("training.compile=true", "seed=1"), ("training.compile=true", "seed=2")),
        "their steps are compiled",
    ),
    "codes": ((("model=vqvae", "seed=1"), ("model=vqvae", "seed=2")), "which of their codes is the nearest"),
    "batches": ((("seed=1",), ("training.batch_size=300",)), "take different ones"),
    "data": ((("seed=1",), ("data.binarisation=none",)), "not trained on the same data"),
}


@pytest.mark.parametrize(("settings", "words"), CANNOT.values(), ids=CANNOT.keys())
def test_what_cannot_be_trained_together_says_why_and_has_not_moved(settings: Any, words: str) -> None:
    sessions = [session_of(*each) for each in settings]
    before = [weights(session) for session in sessions]
    with pytest.raises(CannotStack, match=words):
        fit_together([Fit(session, STEPS) for session in sessions])
    for session, was in zip(sessions, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(was.values(), weights(session).values(), strict=True))


def test_a_number_that_is_no_tensor_is_found_before_anything_moves() -> None:
    """The scale of a normal likelihood is a number of the program, which would be that of the first model for all."""
    base = ("likelihood=normal", "data.binarisation=none")
    sessions = [session_of(*base, "sigma=1"), session_of(*base, "sigma=0.5")]
    sessions[1].history.constant = sessions[0].history.constant
    with pytest.raises(CannotStack, match="is not the step of each of them"):
        fit_together([Fit(session, STEPS) for session in sessions])
    again = session_of(*base, "sigma=0.5")
    again.history.constant = sessions[1].history.constant
    for session in (sessions[1], again):
        Fit(session, STEPS).alone()
    check_same(again, sessions[1], 1e-12)


def test_what_makes_trainings_alike() -> None:
    assert len({likeness(session_of(*each)) for each in SETTINGS}) == 1
    for other in ("latent_dim=3", "training.batch_size=300", "training.epochs=6", "network.encoder.activation=silu"):
        assert likeness(session_of(other)) != likeness(session_of())
    for key in ("seed", "beta", "optimizer.lr", "schedule.kind", "objective.weights.kl", "objective.terms.kl.target"):
        assert is_number(key)
    for key in (
        "latent_dim",
        "betas",
        "sigma",
        "data.seed",
        "objective.terms.kl.kind",
        "training.samples",
        "likelihood",
    ):
        assert not is_number(key)


def test_the_draws_of_a_model_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One generator for all would be found before the first step."""
    settings = SETTINGS[:2]
    sessions = [session_of(*each) for each in settings]
    group = Together([Fit(session, STEPS) for session in sessions])

    class OneForAll(Step):
        def __init__(self, stack: Any, sessions: Any, guard: Any, generators: Any) -> None:
            super().__init__(stack, sessions, guard, [generators[0]] * len(generators))

    monkeypatch.setattr(together, "Step", OneForAll)
    with pytest.raises(CannotStack, match="is not the step of each of them"):
        group.train()


class Drawing(Callback):
    """Draws where a training tells of itself."""

    def start(self, progress: Any) -> None:
        torch.rand(3)

    def epoch(self, progress: Any, row: Any) -> None:
        torch.rand(5)

    def end(self, progress: Any) -> None:
        torch.rand(2)


class DrawingEachStep(Drawing):
    def step(self, progress: Any) -> None:
        torch.rand(4)


@pytest.mark.parametrize("kind", [Drawing, DrawingEachStep])
def test_who_watches_draws_from_the_training(kind: type[Callback]) -> None:
    sessions = [session_of(*each) for each in SETTINGS[:2]]
    users = torch.get_rng_state()
    assert fit_together([Fit(session, STEPS, [kind()]) for session in sessions]) == [None] * 2
    assert torch.equal(torch.get_rng_state(), users)
    for each, session in zip(SETTINGS, sessions, strict=False):
        alone = session_of(*each)
        Fit(alone, STEPS, [kind()]).alone()
        check_same(alone, session)


class Seen(Callback):
    """Keeps the states that a checkpoint would have, behind one that draws."""

    def __init__(self, session: Session) -> None:
        self.session, self.states = session, list[Tensor]()

    def step(self, progress: Any) -> None:
        self.states.append(self.session.generators.current()["cpu"].clone())


def test_a_checkpoint_has_the_draws_of_those_before_it() -> None:
    sessions = [session_of(*each) for each in SETTINGS[:2]]
    seen = [Seen(session) for session in sessions]
    fit_together([Fit(s, STEPS, [DrawingEachStep(), one]) for s, one in zip(sessions, seen, strict=True)])
    alone = session_of(*SETTINGS[0])
    wanted = Seen(alone)
    Fit(alone, STEPS, [DrawingEachStep(), wanted]).alone()
    assert len(wanted.states) == STEPS
    assert all(torch.equal(a, b) for a, b in zip(wanted.states, seen[0].states, strict=True))


def test_decay_where_torch_has_no_setting_that_says_which() -> None:
    """Before torch 2.7 AdamW is told by its class alone."""
    each = ("optimizer=adamw", "optimizer.weight_decay=0.5")
    sessions = [session_of(*each, f"seed={seed}") for seed in (1, 2)]
    for session in sessions:
        session.players[0].optimizer.param_groups[0].pop("decoupled_weight_decay", None)
    assert fit_together([Fit(session, STEPS) for session in sessions]) == [None] * 2
    check_same(trained_alone(*each, "seed=1"), sessions[0])


def test_what_fails_while_the_step_is_prepared_leaves_each_to_be_trained_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Step):
        def _agrees(self, row: int, *more: Any) -> bool:
            super()._agrees(row, *more)  # whose draws are put back
            raise torch.OutOfMemoryError("no memory  left")

    monkeypatch.setattr(together, "Step", Full)
    sessions = [session_of(*each) for each in SETTINGS[:2]]
    with pytest.raises(CannotStack, match=r"their step cannot be prepared \(OutOfMemoryError: no memory left\)"):
        fit_together([Fit(session, STEPS) for session in sessions])
    for each, session in zip(SETTINGS, sessions, strict=False):
        Fit(session, STEPS).alone()
        check_same(trained_alone(*each), session, 1e-12)


class Ended(Callback):
    ended = 0

    def end(self, progress: Any) -> None:
        self.ended += 1


def failing_update(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(together.Update):
        calls = 0

        def __call__(self, *arguments: Any) -> None:
            self.calls += 1
            if self.calls == 3:
                raise torch.OutOfMemoryError("no memory left")
            super().__call__(*arguments)

    monkeypatch.setattr(together, "Update", Full)


def test_what_fails_in_a_step_of_all_ends_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_update(monkeypatch)
    sessions = [session_of(*each) for each in SETTINGS[:2]]
    watching = [Ended(), Ended()]
    errors = fit_together([Fit(s, STEPS, [one]) for s, one in zip(sessions, watching, strict=True)])
    assert [str(error) for error in errors] == ["no memory left"] * 2
    assert [one.ended for one in watching] == [1, 1]


class Trial:
    """A training that says how it was begun and left."""

    def __init__(self, *settings: str, fails: BaseException | None = None) -> None:
        self.settings, self.fails = settings, fails
        self.begun, self.left = False, "not"

    def steps(self) -> Training[str]:
        self.begun = True
        if self.fails is not None:
            raise self.fails
        try:
            yield Fit(session_of(*self.settings), STEPS)
        except BaseException as error:
            self.left = type(error).__name__
            raise
        self.left = "trained"
        return self.left


def ended(*trials: Trial) -> tuple[dict[int, Any], list[str]]:
    """What came of them, and what was said."""
    lines: list[str] = []
    found: Iterator[tuple[int, Any]] = several([trial.steps() for trial in trials], lines.append)
    return dict(found), lines


def test_trainings_of_a_group_that_fails_are_told_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_update(monkeypatch)
    trials = Trial("seed=1"), Trial("latent_dim=3"), Trial("seed=2")
    outcomes, _ = ended(*trials)
    assert [trial.left for trial in trials] == ["OutOfMemoryError", "trained", "OutOfMemoryError"]
    assert outcomes[1] == "trained"
    assert isinstance(outcomes[0], torch.OutOfMemoryError)
    assert isinstance(outcomes[2], torch.OutOfMemoryError)


def test_a_signal_while_trainings_are_prepared_stops_them_all() -> None:
    trials = Trial("seed=1"), Trial("latent_dim=3"), Trial(fails=KeyboardInterrupt(15)), Trial("seed=2")
    outcomes, lines = ended(*trials)
    assert outcomes.keys() == {0, 1, 2}
    assert all(isinstance(outcome, KeyboardInterrupt) for outcome in outcomes.values())
    assert [trial.left for trial in trials] == ["KeyboardInterrupt", "KeyboardInterrupt", "not", "not"]
    assert not trials[3].begun
    assert lines == []


@pytest.mark.parametrize("then", ["", "it cannot be"])
def test_a_signal_while_the_step_is_prepared_stops_before_anything_moves(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Struck(Step):
        def prove(self, index: Tensor) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            if then:
                raise CannotStack(then)
            super().prove(index)

    monkeypatch.setattr(together, "Step", Struck)
    before = signal.getsignal(signal.SIGTERM)
    trials = Trial("seed=1"), Trial("seed=2")
    outcomes, lines = ended(*trials)
    assert [trial.left for trial in trials] == ["Interrupted", "Interrupted"]
    assert all(isinstance(one, Interrupted) and one.signal == signal.SIGTERM for one in outcomes.values())
    assert lines == []
    assert signal.getsignal(signal.SIGTERM) is before


class Mark:
    """An event that a device passes late."""

    def record(self) -> None:
        """Put it."""

    def query(self) -> bool:
        return False


def test_the_time_of_a_group_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for the verdicts counts as such, and each training knows how often the device was behind."""
    laps: list[str] = []

    class Laps(Clock):
        def lap(self, part: str) -> None:
            laps.append(part)
            super().lap(part)

    monkeypatch.setattr(together, "clock_for", lambda device: Laps(Lag(Mark, every=1), waits=True))
    jobs = [Fit(session_of(*each), STEPS, clock=Clock(Lag(Mark))) for each in SETTINGS[:2]]
    assert fit_together(jobs) == [None, None]
    where = [place for place, part in enumerate(laps) if part == "optimizer"]
    assert len(where) == STEPS
    assert all(laps[place - 2 : place] == ["forward", "waiting"] for place in where)
    for job in jobs:
        assert job.clock.steps == STEPS
        assert job.clock.lag is not None
        assert (job.clock.lag.looks, job.clock.lag.behind) == (3, 3)
