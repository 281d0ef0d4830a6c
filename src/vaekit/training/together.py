"""Several trainings of models of one shape, as one: the steps are made together, everything else is each model's own.

Each model has its own generator, its own order of the data and its own learning rate, and its numbers are those of a training alone
up to rounding: torch adds up a product of matrices in another order when it makes several at a time. What a step does is
`training.stacked_step`; where the models lie in memory is `training.stacked`.
"""

# N models, B batch, T numbers of a step

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from vaekit.conditionals import Quantized
from vaekit.networks.growing import Growth
from vaekit.schedules import advance, annealed_values
from vaekit.training.callbacks import Checkpoints, Interrupted
from vaekit.training.clock import Clock, clock_for
from vaekit.training.guard import Guard
from vaekit.training.loop import Callback, Progress, _move, _tell, fit
from vaekit.training.passes import Passes, said
from vaekit.training.session import Session
from vaekit.training.stacked import Stack, Update
from vaekit.training.stacked_step import States, Step
from vaekit.training.stacking import CannotStack
from vaekit.training.watch import Watch

# they draw nothing: to lend a model torch's generators after each of its steps takes longer than they do
_DRAWLESS = frozenset({Callback.step, Checkpoints.step, Watch.step})


@dataclass
class Fit:
    """A training that is ready: what `loop.fit` is told.

    Attributes:
        session: What moves.
        steps: At which step to stop.
        callbacks: Called in their order; a `Checkpoints` among them.
        skip_limit: Steps in a row that may be left out.
        clock: Told where the time goes.
    """

    session: Session
    steps: int
    callbacks: Sequence[Callback] = ()
    skip_limit: int = 10
    clock: Clock = field(default_factory=Clock)

    def alone(self) -> None:
        """Train, one step after the other."""
        session = self.session
        with session.generators.borrowed():
            fit(
                session.model,
                session.objective,
                session.players,
                session.stream,
                steps=self.steps,
                steps_per_epoch=session.stream.steps_per_epoch,
                samples=session.samples,
                compiling=session.compiling,
                start=session.step,
                history=session.history,
                callbacks=self.callbacks,
                skip_limit=self.skip_limit,
                clock=self.clock,
            )


class _Member:
    """One of the trainings in a group."""

    def __init__(self, job: Fit, clock: Clock) -> None:
        self.job, self.session = job, job.session
        session = job.session
        self.guard = Guard(session.model, session.objective, session.players, job.skip_limit)
        self.progress = Progress(
            session.step, job.steps, session.stream.steps_per_epoch, session.history, guard=self.guard, clock=clock
        )
        self.clocked = nn.ModuleList([session.model, session.objective])
        self.moving = annealed_values(self.clocked)
        self.player = session.players[0]
        self.passes = Passes(
            session.model,
            session.objective,
            session.players,
            self.guard.telling,
            session.samples,
            session.history.values,
            clock,
        )
        self.draws = any(type(callback).step not in _DRAWLESS for callback in job.callbacks)
        self.error: BaseException | None = None

    def begin(self) -> None:
        advance(self.clocked, max(self.session.step - 1, 0))
        with self.session.generators.borrowed():
            for callback in self.job.callbacks:
                if isinstance(callback, Checkpoints):
                    callback.listens = False
                callback.start(self.progress)
        self.session.model.train()

    def advance(self, step: int) -> None:
        for value in self.moving:
            value.advance(step)
        self.player.advance(step)

    def tell(self, step: int) -> None:
        self.progress.step = step
        draws = self.draws or step % self.progress.steps_per_epoch == 0
        with self.session.generators.borrowed() if draws else nullcontext():
            _tell(self.job.callbacks, self.progress)

    def end(self) -> None:
        with self.session.generators.borrowed():
            for callback in self.job.callbacks:
                callback.end(self.progress)

    def spent(self, clock: Clock, share: float) -> None:
        """Take a share of the time of all to the training's own clock."""
        own = self.job.clock
        own.add({part: taken * share for part, taken in clock.seconds().items()}, clock.steps)
        if own.lag is not None and clock.lag is not None:
            own.lag.looks += clock.lag.looks
            own.lag.behind += clock.lag.behind


class Together:
    """Trainings that are made as one.

    Arguments:
        jobs: Two or more, at one step of their trainings and with one number of steps, of models of one shape on the same data.

    Raises:
        CannotStack: If they cannot be; then nothing has moved.
    """

    def __init__(self, jobs: Sequence[Fit]) -> None:
        _check([job.session for job in jobs])
        self.clock = clock_for(jobs[0].session.generators.device)
        with _stacking():
            self.stack = Stack([job.session for job in jobs])
        self.members = [_Member(job, self.clock) for job in jobs]  # who look at the tensors as they lie in the stack
        self.first = self.members[0]
        self.start, self.steps = self.first.session.step, jobs[0].steps
        self.per_epoch = self.first.session.stream.steps_per_epoch
        self._orders, self._epoch = torch.empty(0), -1
        self._sums: Tensor = torch.empty(0)

    def train(self) -> list[BaseException | None]:
        """Train to the end; gives what each training was left by, if by anything.

        Raises:
            CannotStack: If they cannot be trained as one; then nothing has moved.
            Interrupted: If a signal has come before the first step; then nothing has moved.
        """
        listener, sessions = Checkpoints(lambda step: None, float("inf")), [member.session for member in self.members]
        with ExitStack() as given_back:
            generators = [given_back.enter_context(session.generators.apart()) for session in sessions]
            given_back.callback(listener.end, self.first.progress)
            listener.start(self.first.progress)
            given_back.callback(self._release)
            with _stacking(listener):
                self.step = Step(self.stack, sessions, self.first.guard, generators)
                self._prepare(listener)
            self._train(listener)
        for member in self.members:
            member.spent(self.clock, 1 / len(self.members))
        return [member.error for member in self.members]

    def _prepare(self, listener: Checkpoints) -> None:
        """Make the programs of all sizes of a batch, and try them."""
        for member in self.members:
            member.session.model.train()
            member.advance(self.start)
        for step in range(self.start, min(self.steps, self.start + self.per_epoch)):
            self.step.prove(self._indices(step))
            _heed(listener)
        if any(value.decides and value.schedule.end > self.start for member in self.members for value in member.moving):
            raise CannotStack("a schedule decides which of their layers take part")
        self.update = Update(self.stack, self.step.names)

    def _release(self) -> None:
        for row in range(len(self.members)):
            with suppress(torch.OutOfMemoryError):  # then they stay side by side: the numbers are the same
                self.stack.release(row)

    def _train(self, listener: Checkpoints) -> None:
        try:
            for member in self.members:
                self._guarded(member, member.begin)
            for step in range(self.start, self.steps):
                live = self._live()
                if not live:
                    return
                self._move(step, live)
                if listener.asked is not None:
                    self._ask(listener.asked)
                for row in self._live():
                    self._guarded(self.members[row], partial(self.members[row].tell, step + 1))
        except (Exception, KeyboardInterrupt) as error:  # no memory, or asked twice: it is the end of all of them
            for row in self._live():
                self._leave(self.members[row], error)
        finally:
            for row in self._live():
                self._guarded(self.members[row], self.members[row].end)

    def _move(self, step: int, live: Sequence[int]) -> None:
        for row in live:
            self.members[row].advance(step)
        self.clock.lap("rest")
        index = self._indices(step)
        states, averages = self.step.states(), self.step.averages()
        self.clock.lap("data")
        values, good, *gradients = self.step(index, live)
        self.clock.lap("forward")
        fine = good.tolist()
        if self.clock.waits:
            self.clock.lap("waiting")
        moved = [row for row in live if fine[row]]
        with torch.no_grad():
            self.update(gradients, moved)
            self._observe(step, values, live, moved, index.shape[1])
        self.clock.lap("optimizer")
        for row in live:
            if not fine[row]:
                self._guarded(self.members[row], partial(self._alone, row, step, states, averages))
            elif self.members[row].guard._in_row:
                self.members[row].guard._note(None)
        self.clock.step()

    def _observe(self, step: int, values: Tensor, live: Sequence[int], moved: Sequence[int], examples: int) -> None:
        """Add the numbers of a step to the sums of all models."""
        like = self.first.session.history
        if step == self.start or step % self.per_epoch == 0:
            self._sums = torch.zeros_like(values)
            for row in live:
                self.members[row].session.history.adopt(self._sums[row], like)
        if len(moved) == len(self.members):
            self._sums.add_(values, alpha=examples)
        elif moved:
            rows = torch.tensor(moved, device=values.device)
            self._sums.index_add_(0, rows, values.index_select(0, rows), alpha=examples)
        for row in moved:
            self.members[row].session.history.examples += examples

    def _alone(self, row: int, step: int, states: States, averages: Sequence[Tensor]) -> None:
        """Make the step of a model whose loss or gradient was not finite alone, as if there were no others: its guard decides."""
        member, session = self.members[row], self.members[row].session
        self.step.put_back(row, states, averages)
        with session.generators.borrowed():
            batch = session.stream(step)
            _, values, good = _move(member.passes, session.players, batch, member.guard, step, self.clock)
        session.history.observe(values, len(batch.x), good)

    def _guarded(self, member: _Member, action: Callable[[], object]) -> None:
        """Do something of one model; what it fails by ends its training, and no other."""
        try:
            action()
        except (Exception, Interrupted) as error:  # what else there is stops all of them at once
            self._leave(member, error)

    def _leave(self, member: _Member, error: BaseException) -> None:
        member.error = error
        with suppress(Exception):
            member.end()

    def _ask(self, number: int) -> None:
        for member in self.members:
            for callback in member.job.callbacks:
                if isinstance(callback, Checkpoints):
                    callback.ask(number)

    def _live(self) -> list[int]:
        return [row for row, member in enumerate(self.members) if member.error is None]

    def _indices(self, step: int) -> Tensor:
        """The examples of a step, (N, B): each model has its own order."""
        epoch, place = divmod(step, self.per_epoch)
        streams = [member.session.stream for member in self.members]
        if epoch != self._epoch:
            self._epoch, self._orders = epoch, torch.stack([stream.order(epoch) for stream in streams])
        size = streams[0].batch_size
        return self._orders[:, place * size : (place + 1) * size]


def fit_together(jobs: Sequence[Fit]) -> list[BaseException | None]:
    """Train all of them; gives what each training was left by, if by anything.

    Raises:
        CannotStack: If they cannot be trained as one; then nothing has moved.
    """
    return Together(jobs).train()


@contextmanager
def _stacking(listener: Checkpoints | None = None) -> Iterator[None]:
    """Within this context whatever fails says that models cannot be trained as one: one by one they may have the memory.

    Raises:
        CannotStack: In its place.
        Interrupted: If a signal has come by then: nothing else is to be tried.
    """
    try:
        yield
    except Exception as error:
        _heed(listener)
        if isinstance(error, CannotStack):
            raise
        raise CannotStack(f"their step cannot be prepared ({said(error)})") from error


def _heed(listener: Checkpoints | None) -> None:
    if listener is not None and listener.asked is not None:
        raise Interrupted(listener.asked)


def _check(sessions: Sequence[Session]) -> None:
    """Raise unless these are trainings of one shape on the same data."""
    first = sessions[0]
    stored = first.stream.split.stored
    if not isinstance(stored, Tensor) or stored.layout != torch.strided:
        raise CannotStack("their data are not one dense tensor")
    if any(session.stream.split is not first.stream.split for session in sessions):
        raise CannotStack("they are not trained on the same data")
    if any(session.compiling.wanted for session in sessions):
        raise CannotStack("their steps are compiled")
    if any(isinstance(part, Growth) for part in first.model.modules()):
        raise CannotStack("they grow while they are trained")
    if any(isinstance(part, Quantized) for part in first.model.modules()):
        raise CannotStack("which of their codes is the nearest hangs on the last digit")
    alike = {
        (one.step, one.samples, one.stream.batch_size, one.players[0].gradient_clip, one.history.constant)
        for one in sessions
    }
    if len(alike) > 1:
        raise CannotStack("they stand at different steps, or take different ones")
