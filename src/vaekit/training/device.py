"""Devices and their random generators: the only file that knows what hardware is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from vaekit.errors import ConfigError, closest

DEVICES = ("auto", "cuda", "mps", "cpu")


def select(name: str) -> torch.device:
    """The device called `name`; `auto` takes the best that is there.

    Raises:
        ConfigError: For an unknown name, or a device that this machine or this build of torch lacks.
    """
    kind, _, number = name.partition(":")
    if kind not in DEVICES or name.endswith(":") or (number and not (kind == "cuda" and number.isdecimal())):
        raise ConfigError(f"device is {name!r}, expected one of {', '.join(DEVICES)}{closest(kind, DEVICES)}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        return torch.device(next(device for device, present in there.items() if present))
    if not there[kind]:
        raise ConfigError(f"device is {name!r}, but torch finds none here; write device=cpu or device=auto.")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name!r}, but there are {torch.cuda.device_count()} CUDA devices, counted from 0."
        )
    return torch.device(name)


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """The present states of torch's generators: the CPU's, and that of `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_generator_states(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what `generator_states` gave, as far as `device` has it."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    if "mps" in state and device.type == "mps":
        torch.mps.set_rng_state(state["mps"])


class Generators:
    """torch's random generators, borrowed: a run draws from its own state and gives the user's back untouched.

    Arguments:
        device: Where the run computes; its generator is borrowed beside the CPU's.
        seed: Where the run's state starts.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self.device = device
        self._apart: dict[str, torch.Generator] = {}
        with self._restored():
            self._seed(seed)
            self._own = self._present()

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Within this context all of torch's random draws come from the run's state, and move it on."""
        with self._restored():
            self._set(self.current() if self._apart else self._own)
            apart, self._apart = self._apart, {}  # who draws now draws from torch's, and these are behind
            try:
                yield
            finally:
                self._own, self._apart = self._present(), apart
                for name, generator in apart.items():
                    generator.set_state(self._own[name])

    @contextmanager
    def apart(self) -> Iterator[Mapping[str, torch.Generator]]:
        """Within this context the run has generators to itself, by device: for runs that take turns within one step."""
        self._apart = {
            name: torch.Generator("cpu" if name == "cpu" else self.device).set_state(state)
            for name, state in self._own.items()
            if name in ("cpu", self.device.type)  # a run may go on elsewhere than it began
        }
        try:
            yield self._apart
        finally:
            self._own, self._apart = self.current(), {}

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Within this context draws leave no trace: the state in force, whosever it is, is put back."""
        with self._restored():
            yield

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `current` gave.

        Raises:
            RuntimeError: If it is the state of no generator.
        """
        with self._restored():
            self._set(state)
        self._own = dict(state)

    def current(self) -> dict[str, Tensor]:
        """The present state of torch's generators, by device: within `borrowed`, the run's; or of those that it has `apart`."""
        if self._apart:
            return {name: generator.get_state() for name, generator in self._apart.items()}
        return self._present()

    def _present(self) -> dict[str, Tensor]:
        return generator_states(self.device)

    def _seed(self, seed: int) -> None:
        # not torch.manual_seed, which seeds every accelerator of the process, the user's included
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)
        if self.device.type == "mps":
            torch.mps.manual_seed(seed)

    def _set(self, state: Mapping[str, Tensor]) -> None:
        set_generator_states(state, self.device)

    @contextmanager
    def _restored(self) -> Iterator[None]:
        users = self._present()
        try:
            yield
        finally:
            self._set(users)


# a step of less work is over before a second thread has paid for waking it; and on a busy machine, where threads that wait for
# each other are taken off their cores, steps this small were measured at a tenth of the speed
SMALL_STEP = 5e8


def thread_count(flops: float) -> int:
    """How many CPU threads suit steps of so many floating point operations: one for small steps, else torch's own number."""
    return 1 if flops < SMALL_STEP else torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within this context torch computes with `count` threads: sums on a CPU depend on it in the last bit."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


def on_host(tensor: Tensor) -> bool:
    """Whether the host can read the tensor at once; from any other device it would have to wait for the number."""
    return tensor.device.type == "cpu"
