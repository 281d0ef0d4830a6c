"""Where the time went: what the clock adds up, with a time that the test moves by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vaekit.training.clock import PARTS, Clock, Lag, clock_for
from vaekit.training.history import History, Row
from vaekit.training.loop import Progress, _tell


class Hands:
    """A wall clock and a processor clock that move when they are told to."""

    def __init__(self) -> None:
        self.wall = self.processor = 100.0

    def work(self, seconds: float, share: float = 1.0) -> None:
        """Go on, a share of it on a processor core."""
        self.wall, self.processor = self.wall + seconds, self.processor + share * seconds

    def clock(self, lag: Lag | None = None) -> Clock:
        return Clock(lag, lambda: self.wall, lambda: self.processor)


def gone(seconds: dict[str, float]) -> dict[str, float]:
    return {part: value for part, value in seconds.items() if value}


def test_each_lap_goes_to_its_part_and_they_add_up_to_the_wall() -> None:
    hands = Hands()
    clock = hands.clock()
    for _ in range(3):
        for part, seconds in {"data": 1.0, "forward": 2.0, "backward": 4.0, "optimizer": 8.0}.items():
            hands.work(seconds)
            clock.lap(part)
        hands.work(16.0)
        clock.step()
    hands.work(32.0)
    assert gone(clock.seconds()) == {"data": 3.0, "forward": 6.0, "backward": 12.0, "optimizer": 24.0, "rest": 80.0}
    assert clock.steps == 3
    assert sum(clock.seconds().values()) == hands.wall - 100.0


def test_time_off_the_processor_is_waiting_and_taken_from_the_parts_by_their_length() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.work(6.0, 0.5)
    clock.lap("forward")
    hands.work(2.0, 1.0)
    clock.lap("data")
    # 3 of 8 seconds were waited
    assert gone(clock.seconds()) == pytest.approx({"forward": 3.75, "data": 1.25, "waiting": 3.0})


def test_threads_that_work_at_once_are_not_less_than_no_waiting() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.work(6.0, 2.0)
    clock.lap("forward")
    assert gone(clock.seconds()) == {"forward": 6.0}


def test_an_interval_of_its_own_keeps_its_waiting_from_the_others() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.work(5.0)
    with clock.of("pictures"):
        hands.work(4.0, 0.25)
    hands.work(1.0)
    clock.lap("forward")
    assert gone(clock.seconds()) == pytest.approx({"rest": 5.0, "pictures": 1.0, "waiting": 3.0, "forward": 1.0})


def test_a_checkpoint_waits_for_its_disk_and_a_device_is_waited_for_once() -> None:
    hands = Hands()
    clock = hands.clock()
    with clock.of("checkpoints"):
        hands.work(4.0, 0.25)
    hands.work(3.0, 0.0)
    clock.lap("waiting")
    hands.work(1.0)
    clock.lap("forward")
    assert gone(clock.seconds()) == {"checkpoints": 4.0, "waiting": 3.0, "forward": 1.0}


def test_an_interval_that_an_error_ends_is_counted() -> None:
    hands = Hands()
    clock = hands.clock()

    def fails() -> None:
        with clock.of("evaluation"):
            hands.work(2.0)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert gone(clock.seconds()) == {"evaluation": 2.0}


def test_reading_twice_changes_nothing_and_what_comes_later_is_added() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.work(2.0, 0.5)
    clock.lap("data")
    assert clock.seconds() == clock.seconds()
    hands.work(2.0)
    clock.lap("data")
    assert gone(clock.seconds()) == pytest.approx({"data": 3.0, "waiting": 1.0})


def test_a_name_that_is_no_part_is_an_error() -> None:
    with pytest.raises(KeyError):
        Hands().clock().lap("coffee")
    assert set(Hands().clock().seconds()) == set(PARTS)


def test_what_is_done_at_once_is_shared_as_it_was_before_or_alike() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.work(4.0)
    clock.shared_lap("forward", "backward")
    assert gone(clock.seconds()) == {"forward": 2.0, "backward": 2.0}
    hands.work(2.0)
    clock.lap("backward")
    hands.work(6.0)
    clock.shared_lap("forward", "backward")
    assert gone(clock.seconds()) == {"forward": 4.0, "backward": 8.0}


def test_what_another_clock_has_measured_takes_the_place_of_the_time_since_the_last_lap() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.work(2.0, 0.5)
    clock.lap("data")
    hands.work(100.0)
    clock.add({"forward": 5.0, "waiting": 1.0}, 3)
    hands.work(1.0)
    clock.lap("evaluation")
    seconds = clock.seconds()
    assert seconds["forward"] == 5.0
    assert seconds["evaluation"] == 1.0
    assert seconds["data"] + seconds["waiting"] == 3.0
    assert sum(seconds.values()) == 9.0
    assert clock.steps == 3


class Device:
    """Marks are passed, or not, as the test says."""

    def __init__(self, *passed: bool) -> None:
        self.passed, self.put = list(passed), 0

    def __call__(self) -> Any:
        return self

    def record(self) -> None:
        self.put += 1

    def query(self) -> bool:
        return self.passed.pop(0)


def test_the_lag_looks_a_step_after_each_mark() -> None:
    device = Device(True, False, False, False)
    lag = Lag(device, every=4)
    hands = Hands()
    clock = hands.clock(lag)
    assert lag.share is None
    for _ in range(4):
        clock.step()
    assert (device.put, lag.looks) == (1, 0)
    clock.step()
    assert (lag.looks, lag.share) == (1, 0.0)
    for _ in range(12):
        clock.step()
    assert (device.put, lag.looks, lag.share) == (4, 4, 0.75)


def test_only_a_gpu_has_a_lag() -> None:
    assert clock_for(torch.device("cpu")).lag is None
    assert clock_for(torch.device("mps")).lag is None
    assert clock_for(torch.device("cuda")).lag is not None


def test_numbers_are_waited_for_on_any_device_but_the_host() -> None:
    assert [clock_for(torch.device(device)).waits for device in ("cpu", "mps", "cuda")] == [False, True, True]
    assert not Clock().waits


@pytest.mark.parametrize(("device", "part"), [("cpu", "rest"), ("mps", "waiting")])
def test_the_numbers_of_an_epoch_are_waited_for_where_they_come_from_another_device(device: str, part: str) -> None:
    hands = Hands()
    clock = Clock(None, lambda: hands.wall, lambda: hands.processor, clock_for(torch.device(device)).waits)

    class Slow(History):
        def close(self, *_: Any) -> Row:
            hands.work(3.0)
            return {}

    guard: Any = SimpleNamespace(look=lambda: hands.work(1.0), last=None)
    _tell([], Progress(2, 4, 2, Slow(), guard=guard, clock=clock))
    assert gone(clock.seconds()) == {part: 4.0}
