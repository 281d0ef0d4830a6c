"""Trainings that hand their steps to whoever makes them: alone, or together with others of the same shape."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from vaekit.training.device import threads
from vaekit.training.session import Session
from vaekit.training.stacking import CannotStack
from vaekit.training.together import Fit, fit_together

T = TypeVar("T")
# gives its steps once, unless nothing is left to be done, goes on when they are made, and ends with a result
Training = Generator[Fit, None, T]
# settings that are numbers of a training and change neither the shape of a model nor what it computes
_NUMBERS = (
    "seed", "beta", "kld_weight", "objective.weights", "objective.terms.*.target", "optimizer", "schedule", "evaluation", "name",
    "output_dir", "sweep", "tracking", "training.checkpoint_seconds", "training.keep_checkpoints", "training.skip_limit",
)  # fmt: skip
_NUMBER = re.compile("|".join(re.escape(key).replace(r"\*", "[^.]+") + r"(\..*)?" for key in _NUMBERS))


def alone(training: Training[T]) -> T:
    """Make a training's steps, one after the other, and let it end."""
    try:
        job = next(training)
    except StopIteration as ended:  # nothing was left to do
        result: T = ended.value
        return result
    with threads(job.session.threads):
        return _made(training, job)


def several(
    trainings: Sequence[Training[T]], note: Callable[[str], None], names: Sequence[str] = ()
) -> Iterator[tuple[int, T | BaseException]]:
    """Make the steps of trainings, together where they are of one shape, and let each end; gives how each ended, when it has.

    Arguments:
        trainings: None of them begun.
        note: Told in a line what could not be done together, and why.
        names: Of the trainings, in such a line.

    Yields:
        Which of the trainings has ended, and what came of it; nothing of those that had not begun when a signal came.
    """
    jobs: dict[int, Fit] = {}
    stop: BaseException | None = None
    for number, training in enumerate(trainings):
        try:
            jobs[number] = next(training)
        except StopIteration as ended:
            yield number, ended.value
        except BaseException as error:
            yield number, error
            if isinstance(error, KeyboardInterrupt):
                stop = error
                break
    groups = _groups(jobs)
    if stop is None and len(groups) > 1 and all(job.session.step == 0 for job in jobs.values()):
        sizes = ", ".join(str(len(group)) for group in groups)
        note(
            f"{len(jobs)} trainings of {len(groups)} shapes: those of one shape are trained together, {sizes} at a time"
        )
    for group in groups:
        members = [jobs[number] for number in group]
        with threads(members[0].session.threads):
            errors: Sequence[BaseException | None] | None = [stop] * len(group)
            if stop is None:
                called = ", ".join(names[number] for number in group if number < len(names))
                errors = _together(members, note, called)
            for place, number in enumerate(group):
                left = errors[place] if errors is not None else stop
                made = errors is not None or stop is not None
                outcome = _outcome(trainings[number], jobs.pop(number), left, made=made)
                stop = outcome if isinstance(outcome, KeyboardInterrupt) and stop is None else stop
                yield number, outcome
    for training in trainings:
        training.close()  # those that a signal has kept from beginning; the others have ended


def likeness(session: Session) -> str:
    """The same for trainings that may be made together: all but the numbers of the configuration, and where they stand."""
    config = {key: value for key, value in _leaves(session.config) if not is_number(key)}
    stands = [session.step, session.threads, str(session.generators.device)]
    return json.dumps([config, stands], sort_keys=True, default=str)


def is_number(key: str) -> bool:
    """Whether a key of the configuration changes neither the shape of a model nor what it computes."""
    return _NUMBER.fullmatch(key) is not None


def _groups(jobs: Mapping[int, Fit]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for number, job in jobs.items():
        left = job.session.step < job.steps  # else there is no step that could be made together
        groups.setdefault(likeness(job.session) if left else f"trained {number}", []).append(number)
    return list(groups.values())


def _together(jobs: Sequence[Fit], note: Callable[[str], None], called: str) -> Sequence[BaseException | None] | None:
    """Make the steps of all of them, and give what each was left by; None if that cannot be."""
    if len(jobs) == 1:
        return None
    try:
        return fit_together(jobs)
    except CannotStack as reason:
        note(f"{called or 'These trainings'}: trained one after another, because {reason}")
        return None
    except (Exception, KeyboardInterrupt) as error:  # each of them is to know, and to end
        return [error] * len(jobs)


def _outcome(training: Training[T], job: Fit, error: BaseException | None, *, made: bool) -> T | BaseException:
    try:
        return _ended(training, error) if made else _made(training, job)
    except BaseException as failed:
        return failed


def _made(training: Training[T], job: Fit) -> T:
    try:
        job.alone()
    except BaseException as error:
        return _ended(training, error)
    return _ended(training, None)


def _ended(training: Training[T], error: BaseException | None) -> T:
    """Let a training go on after its steps, or after what they were left by."""
    try:
        if error is None:
            next(training)
        else:
            training.throw(error)
    except StopIteration as ended:
        result: T = ended.value
        return result
    raise AssertionError("a training gives its steps once")


def _leaves(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, child in node.items():
            yield from _leaves(child, f"{where}.{name}" if where else str(name))
    else:
        yield where, node
