"""Claims are atomic, settings are each tried once, and two sweeps of one name are told apart."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("optuna")

from vaekit.errors import ConfigError
from vaekit.sweep import Axis, Choices, Definition, Interval, claims, worker
from vaekit.sweep.claims import gone, this_machine
from vaekit.sweep.metric import Metric
from vaekit.sweep.results import results, tally
from vaekit.sweep.sampling import as_text, count, proposals
from vaekit.sweep.store import StorageError, Store, TrialState, checked_url, shown, sqlite

WIDTHS = Choices("latent_dim", ("2", "4", "8"))
BETAS = Choices("beta", ("1", "2"))
RATES = Interval("optimizer.lr", 1e-4, 1e-2, log=True)
DEPTHS = Interval("depth", 1, 5, whole=True)

Open = Callable[..., Store]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    stores = []

    def make(axes: tuple[Axis, ...] = (WIDTHS, BETAS), name: str = "a", **more: Any) -> Store:
        stores.append(Store(sqlite(tmp_path / "sweep.db"), name, Definition(axes, "grid", 1, **more)))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def done(store: Store, point: int, settings: dict[str, str], value: float | None, state: TrialState) -> None:
    claim = store.claims.take(point, 0, as_text(settings))
    assert claim is not None
    trial = store.trial(claim, settings)
    assert store.trial(claim, settings).number == trial.number
    store.tell(trial, state, value)


def in_processes(number: int, work: Callable[[int], None]) -> None:
    children = []
    for index in range(number):
        process = os.fork()
        if not process:
            code = 1
            try:
                work(index)
                code = 0
            finally:
                os._exit(code)
        children.append(process)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * number


def test_three_processes_take_each_trial_once(tmp_path: Path) -> None:
    """They begin together on a file that is not there yet: tables, study, claims and trials are all raced for."""
    start = time.monotonic() + 1.0

    def work(index: int) -> None:
        time.sleep(max(0.0, start - time.monotonic()))
        store = Store(sqlite(tmp_path / "sweep.db"), "a", Definition((WIDTHS, BETAS), "grid", 1))
        for point in range(12):
            claim = store.claims.take(point, 0, as_text({"latent_dim": "2", "beta": str(point)}))
            if claim is not None:
                trial = store.trial(claim, {"latent_dim": "2", "beta": "1"})
                store.note(trial, process=index)
                store.tell(trial, TrialState.COMPLETE, float(point))
        store.close()

    in_processes(3, work)
    store = Store(sqlite(tmp_path / "sweep.db"), "a", Definition((WIDTHS, BETAS), "grid", 1))
    trials = store.trials()
    assert Counter(trial.user_attrs["point"] for trial in trials) == Counter(range(12))
    assert sorted(trial.number for trial in trials) == list(range(12))
    assert all(trial.value == trial.user_attrs["point"] for trial in trials)
    store.close()


def test_only_one_process_takes_over_what_was_left_behind(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = opened(), opened(), opened()
    claim = first.claims.take(0, 0, "{}")
    assert claim is not None
    assert second.claims.take(0, 0, "{}") is None
    assert second.claims.take(1, 0, "{}") is None  # the same settings under another number
    mine = second.claims.take_over(claim)
    assert mine is not None
    assert third.claims.take_over(claim) is None
    assert not first.claims.beat(claim)
    assert second.claims.beat(mine)
    second.claims.let_go(mine)
    (left,) = third.claims.all()
    assert third.claims.free(left)
    third.claims.busy(left)  # somebody is at work all the same: not asked again at once
    assert not third.claims.free(left)
    monkeypatch.setattr(claims, "STALE_SECONDS", 0.0)
    third.claims.busy(left)
    assert third.claims.free(left)


def test_a_process_that_is_not_heard_of_is_taken_for_dead(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = opened(), opened()
    now = 1000.0
    monkeypatch.setattr(claims.time, "monotonic", lambda: now)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(claims, "this_machine", lambda: "another/machine")
        claim = theirs.claims.take(0, 0, "{}")
    assert claim is not None

    def free() -> bool:
        return ours.claims.free(ours.claims.all()[0])

    assert not free()
    now += claims.STALE_SECONDS - 1
    assert not free()
    assert theirs.claims.beat(claim)
    now += claims.STALE_SECONDS - 1
    assert not free()  # it has been heard of meanwhile
    now += claims.STALE_SECONDS
    assert free()


def test_a_dead_process_of_this_machine_is_known_at_once(opened: Open) -> None:
    here, store = this_machine(), opened()
    assert here == this_machine()
    process = os.fork()
    if not process:
        os._exit(0)
    while not gone(process):  # dead, though nobody has waited for it yet
        time.sleep(0.01)
    os.waitpid(process, 0)
    assert gone(process)
    assert not gone(os.getpid())
    claim = opened().claims.take(0, 0, "{}")
    assert claim is not None
    left = {**vars(claim), "pid": process}
    assert store.claims.free(claims.Claim(**left))
    assert not store.claims.free(claims.Claim(**{**left, "machine": "another"}))


def test_a_process_that_has_lost_its_trial_stops_at_the_next_epoch(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaekit.sweep import watch
    from vaekit.training.history import History
    from vaekit.training.loop import Progress

    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.01)
    store, other = opened(), opened()
    settings = {"latent_dim": "2", "beta": "1"}
    claim = store.claims.take(0, 0, as_text(settings))
    assert claim is not None
    trial, shown = store.trial(claim, settings), list[object]()
    with watch.Pulse(store, claim) as pulse:
        seen = watch.Watch(store, trial, Metric(), pulse, lambda *news: shown.append(news))
        seen.epoch(Progress(2, 4, 2, History()), {"val/elbo": -1.0, "kept": 1.0})
        while other.claims.take_over(other.claims.all()[0]) is None:  # it counts up in between
            pass
        while not pulse.lost:
            time.sleep(0.01)
        with pytest.raises(watch.Lost):
            seen.epoch(Progress(4, 4, 2, History()), {"val/elbo": -0.5, "kept": 1.0})
    assert shown == [(1, 2, -1.0), (2, 2, -0.5)]
    assert store.trials()[0].intermediate_values == {1: -1.0}


def test_a_folder_that_is_trained_in_is_left_alone(tmp_path: Path) -> None:
    from vaekit.files import held
    from vaekit.sweep.worker import _begun, _Busy

    command = ["vaekit", "train", "latent_dim=2", "output_dir=here"]
    run = tmp_path / "2026-01-01"
    run.mkdir()
    (run / "config.yaml").write_text("a: 1\n")
    (run / "environment.json").write_text('{"command": "vaekit train latent_dim=2 output_dir=there"}')
    assert _begun(tmp_path, command) == run
    with held(run / "config.yaml"), pytest.raises(_Busy):
        _begun(tmp_path, command)
    assert _begun(tmp_path, ["vaekit", "train", "latent_dim=3"]) is None  # of another sweep
    (run / "environment.json").unlink()
    assert _begun(tmp_path, command) is None
    assert not run.exists()


def test_telling_again_changes_nothing(opened: Open) -> None:
    store = opened()
    settings = {"latent_dim": "2", "beta": "1"}
    done(store, 0, settings, 1.0, TrialState.COMPLETE)
    (trial,) = store.trials()
    store.tell(trial, TrialState.COMPLETE, 2.0)
    store.tell(trial, TrialState.FAIL)
    assert [trial.value for trial in store.trials()] == [1.0]


def test_another_sweep_of_the_same_name_is_refused_with_the_differences(opened: Open) -> None:
    opened(config={"training": {"epochs": 2}})
    opened(config={"training": {"epochs": 2}})
    with pytest.raises(
        ConfigError, match=r"another one: beta.values is 1,3, was 1,2; training.epochs is 3, was 2\. .*--name"
    ):
        opened((WIDTHS, Choices("beta", ("1", "3"))), config={"training": {"epochs": 3}})
    opened((WIDTHS, Choices("beta", ("1", "3"))), "b")


def test_the_best_comes_first_and_a_failure_last(opened: Open) -> None:
    values = {"2": -3.0, "4": -1.0, "8": None}
    for higher, order in ((True, ["4", "2", "8"]), (False, ["2", "4", "8"])):
        store = opened((WIDTHS,), str(higher), higher=higher)
        for point, (width, value) in enumerate(values.items()):
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            done(store, point, {"latent_dim": width}, value, state)
        found = results(store)
        assert [result.settings["latent_dim"] for result in found] == order
        assert tally(found, 4) == "4 trials: 2 finished, 1 failed, 0 pruned, 1 left"


def test_a_run_is_stopped_where_half_of_the_others_were_better(opened: Open) -> None:
    store = opened((WIDTHS, BETAS), prune="median")
    settings = [{"latent_dim": width, "beta": beta} for width in WIDTHS.values for beta in BETAS.values]
    for point in range(4):
        claim = store.claims.take(point, 0, as_text(settings[point]))
        assert claim is not None
        trial = store.trial(claim, settings[point])
        for epoch in (1, 2, 3):
            store.report(trial, epoch, -float(point))
        assert not store.hopeless(trial, 10)  # too few to compare with
        store.tell(trial, TrialState.COMPLETE, -float(point))
    claim = store.claims.take(4, 0, as_text(settings[4]))
    assert claim is not None
    trial = store.trial(claim, settings[4])
    store.report(trial, 1, -1.6)
    assert not store.hopeless(trial, 10)  # a fifth of the epochs is not over
    store.report(trial, 2, -1.6)
    assert store.hopeless(trial, 10)
    store.report(trial, 3, -1.4)
    assert not store.hopeless(trial, 10)


def test_a_storage_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vaekit.sweep import store

    monkeypatch.setattr(store, "_FIRST_PATIENCE", 0.0)
    with pytest.raises(StorageError, match="cannot be used: unable to open database file") as caught:
        Store(sqlite(tmp_path / "nowhere" / "sweep.db"), "a", Definition((WIDTHS,), "grid", 1))
    assert "\n" not in str(caught.value)
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(StorageError, match="file is not a database"):
        Store(sqlite(tmp_path / "text.db"), "a", Definition((WIDTHS,), "grid", 1))
    with pytest.raises(ConfigError, match="SQLAlchemy knows no such database"):
        Store("nosuch://host/name", "a", Definition((WIDTHS,), "grid", 1))
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(ConfigError, match=r"driver .* is not installed; write pip install psycopg2-binary "):
        Store("postgresql://host/name", "a", Definition((WIDTHS,), "grid", 1))
    with pytest.raises(ConfigError, match="expected the URL of a database"):
        checked_url("sweep.db")
    assert shown("postgresql://me:secret@host/x") == "postgresql://me:***@host/x"


def test_a_grid_is_every_combination_in_order() -> None:
    propose = proposals("grid", (WIDTHS, BETAS), 1)
    found = [propose(point, set(), unseen) for point in range(7)]
    pairs = [(width, beta) for width in WIDTHS.values for beta in BETAS.values]
    assert found == [*({"latent_dim": width, "beta": beta} for width, beta in pairs), None]
    assert count("grid", (WIDTHS, BETAS), None) == 6
    assert count("grid", (WIDTHS, BETAS), 4) == 4
    assert count("random", (WIDTHS, BETAS), 40) == 6


def unseen() -> Any:
    raise AssertionError("a grid learns nothing")


def test_random_draws_of_lists_are_each_combination_once_and_follow_the_seed() -> None:
    def drawn(seed: int) -> list[str]:
        return [as_text(proposals("random", (WIDTHS, BETAS), seed)(point, set(), unseen) or {}) for point in range(6)]

    assert len(set(drawn(1))) == 6
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1) != [
        as_text(proposals("grid", (WIDTHS, BETAS), 1)(point, set(), unseen) or {}) for point in range(6)
    ]


def test_random_draws_of_intervals_fill_them_whatever_the_number_of_processes(opened: Open) -> None:
    from scipy import stats

    axes = (RATES, DEPTHS, BETAS)
    store = opened(axes)
    study = store.sampled()
    propose = proposals("random", axes, 1)
    found = [propose(point, set(), lambda: study) for point in range(300)]
    assert [propose(point, set(), lambda: study) for point in (7, 3)] == [found[7], found[3]]
    settings = [one for one in found if one is not None]
    logs = [math.log(float(one["optimizer.lr"]), 100) + 2 for one in settings]
    assert stats.kstest(logs, "uniform").pvalue > 1e-4
    depths = Counter(one["depth"] for one in settings)
    assert set(depths) == {"1", "2", "3", "4", "5"}
    assert stats.chisquare(list(depths.values())).pvalue > 1e-4
    assert {one["beta"] for one in settings} == {"1", "2"}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_whole_numbers_come_to_an_end(sampler: str, opened: Open) -> None:
    axes = (DEPTHS, BETAS)
    store, propose, taken = opened(axes), proposals(sampler, axes, 4), set[str]()
    assert count(sampler, axes, 50) == 10
    assert count("grid", axes, None) == 10
    study = store.sampled()
    for point in range(10):
        settings = propose(point, taken, lambda: study)
        assert settings is not None
        assert as_text(settings) not in taken
        taken.add(as_text(settings))
    assert propose(10, taken, lambda: study) is None
    listed = {as_text(proposals("grid", axes, 4)(point, set(), unseen) or {}) for point in range(10)}
    assert listed == taken


def test_tpe_comes_closer_than_random_and_tries_nothing_twice(opened: Open) -> None:
    store = opened((RATES, BETAS))
    propose = proposals("tpe", (RATES, BETAS), 3)
    for point in range(30):
        settings = propose(point, {claim.settings for claim in store.claims.all()}, store.sampled)
        assert settings is not None
        done(store, point, dict(settings), -abs(float(settings["optimizer.lr"]) - 2e-4), TrialState.COMPLETE)
    rates = [float(trial.user_attrs["settings"]["optimizer.lr"]) for trial in store.trials()]
    # log-uniform, 0.7 decades of 2 are within a factor 2.24 of 2e-4: 35 %; twenty draws with 15 of them there: 1 in 3,000
    assert sum(2e-4 / 2.24 < rate < 2e-4 * 2.24 for rate in rates[10:]) >= 15


def test_tpe_ends_where_all_combinations_have_been_tried(opened: Open) -> None:
    store, axes = opened((BETAS, WIDTHS)), (BETAS, WIDTHS)
    propose = proposals("tpe", axes, 3)
    for point in range(6):
        settings = propose(point, {claim.settings for claim in store.claims.all()}, store.sampled)
        assert settings is not None
        done(store, point, dict(settings), float(point), TrialState.COMPLETE)
    assert propose(6, {claim.settings for claim in store.claims.all()}, store.sampled) is None


@pytest.mark.parametrize(
    ("sampler", "axes", "trials", "words"),
    [
        ("grid", (RATES,), None, "optimizer.lr=log(0.0001,0.01) has no end of values"),
        ("tpe", (WIDTHS,), None, "write --trials N"),
        ("random", (RATES,), None, "write --trials N"),
        ("grid", (WIDTHS,), 0, "--trials 0: expected 1 or more"),
        ("grid", tuple(Choices(str(k), tuple("abcdefghij")) for k in range(6)), None, "1,000,000 trials are more than"),
    ],
)
def test_a_number_of_trials_that_cannot_be(
    sampler: str, axes: tuple[Axis, ...], trials: int | None, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        count(sampler, axes, trials)
    assert words in str(caught.value)


def test_what_somebody_else_claims_while_we_look_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is open, the last trial is claimed by another process, and then nothing is left to claim: it is not over yet."""
    found = iter([[], ["the last trial"], [], []])  # open before and after the claim, twice
    waited: list[int] = []
    monkeypatch.setattr(worker, "_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(worker.results, "results", lambda store: [])
    monkeypatch.setattr(worker.results, "write", lambda *given: ["all of them"])
    monkeypatch.setattr(worker.Worker, "_open", lambda self: next(found))
    monkeypatch.setattr(worker.Worker, "_claimed", lambda self, open_trials: [])
    board = SimpleNamespace(waits=waited.append, changed=lambda found: None)
    plan = SimpleNamespace(retry=False, folder=None, count=1)
    assert worker.Worker(None, plan, board).work() == ["all of them"]  # type: ignore[arg-type]
    assert waited == [1]
