"""Who works on which trial: a table beside Optuna's, so that no run is done twice.

Optuna's own ways to share work are no claims: on SQLite two processes can both be handed one waiting trial, and its grid sampler
says that points may be repeated. Here a trial is claimed by inserting a row under a primary key, and taken over by an update that
names the owner it was taken from: each is one statement, which every database makes atomic.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, ColumnElement, Engine, Integer, MetaData, String, Table, Text, UniqueConstraint, select
from sqlalchemy.exc import IntegrityError

# a process that is alive counts up this often; one that has not for so long is taken for dead
BEAT_SECONDS, STALE_SECONDS = 10.0, 120.0

_DATA = MetaData()
_CLAIMS = Table(
    "vaekit_claims",
    _DATA,
    Column("study", String(200), primary_key=True),
    Column("point", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("settings", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("owner", String(40), nullable=False),
    Column("machine", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("beats", Integer, nullable=False),
    UniqueConstraint("study", "digest", "attempt"),
)
_DEFINITION = -1  # the point in whose row the sweep's definition is


@dataclass(frozen=True)
class Claim:
    """One trial in one process's hands.

    Attributes:
        point: Which of the sweep's trials, from 0.
        attempt: 0, or how many times it has failed before.
        settings: As JSON.
        owner: A token of the process; empty when it has let go.
        machine: Where that process is.
        pid: Its number there.
        beats: Counted up while it is alive.
    """

    point: int
    attempt: int
    settings: str
    owner: str
    machine: str
    pid: int
    beats: int


class Claims:
    """The claims on one sweep.

    Arguments:
        engine: Of the storage.
        study: The sweep's name.
    """

    def __init__(self, engine: Engine, study: str) -> None:
        self.engine, self.study = engine, study
        self.owner = uuid.uuid4().hex
        self._seen: dict[tuple[int, int], tuple[str, int, float]] = {}
        self._later: dict[tuple[int, int], float] = {}
        _DATA.create_all(engine)

    def define(self, definition: str) -> str:
        """Put down what the sweep is, if nobody has; gives what it is."""
        self._insert(_DEFINITION, 0, definition)
        return next(claim.settings for claim in self._read(_CLAIMS.c.point == _DEFINITION))

    def all(self) -> list[Claim]:
        """Every claim, in the order of the points."""
        return self._read(_CLAIMS.c.point != _DEFINITION)

    def take(self, point: int, attempt: int, settings: str) -> Claim | None:
        """Claim a trial that nobody has; None if somebody has it, or another one with the same settings."""
        return self._insert(point, attempt, settings)

    def take_over(self, claim: Claim) -> Claim | None:
        """Claim what a process has let go or left behind; None if another was faster."""
        return self._change(claim, owner=self.owner, machine=this_machine(), pid=os.getpid(), beats=claim.beats + 1)

    def let_go(self, claim: Claim) -> None:
        """Leave a trial of ours to whoever wants it."""
        self._change(claim, owner="")

    def beat(self, claim: Claim) -> bool:
        """Say that we are alive; False if the claim is no longer ours."""
        row = self._of(claim, self.owner)
        with self.engine.begin() as connection:
            done = connection.execute(_CLAIMS.update().where(*row).values(beats=_CLAIMS.c.beats + 1))
            return done.rowcount == 1

    def free(self, claim: Claim) -> bool:
        """Whether nobody works on a claimed trial: it was let go, or its process is dead, or has not been heard of for long."""
        key, now = (claim.point, claim.attempt), time.monotonic()
        if now < self._later.get(key, now):
            return False
        if claim.owner in ("", self.owner):
            return True
        if claim.machine == this_machine() and (claim.pid == os.getpid() or gone(claim.pid)):
            return True
        owner, beats, since = self._seen.get(key, ("", -1, now))
        if (owner, beats) != (claim.owner, claim.beats):
            self._seen[key] = (claim.owner, claim.beats, now)  # by our clock: those of two machines need not agree
            return False
        return now - since >= STALE_SECONDS

    def busy(self, claim: Claim) -> None:
        """Somebody is at work where we took over: let go, and look again after a while."""
        self.let_go(claim)
        self._later[claim.point, claim.attempt] = time.monotonic() + STALE_SECONDS

    def _insert(self, point: int, attempt: int, settings: str) -> Claim | None:
        digest = hashlib.sha256(settings.encode()).hexdigest()
        claim = Claim(point, attempt, settings, self.owner, this_machine(), os.getpid(), 0)
        values = {"study": self.study, "digest": digest, **vars(claim)}
        try:
            with self.engine.begin() as connection:
                connection.execute(_CLAIMS.insert().values(**values))
        except IntegrityError:
            return None
        return claim

    def _change(self, claim: Claim, **values: str | int) -> Claim | None:
        with self.engine.begin() as connection:
            done = connection.execute(_CLAIMS.update().where(*self._of(claim, claim.owner)).values(**values))
            if done.rowcount != 1:
                return None
        return Claim(**{**vars(claim), **values})

    def _of(self, claim: Claim, owner: str) -> tuple[ColumnElement[bool], ...]:
        table = _CLAIMS.c
        return (
            table.study == self.study,
            table.point == claim.point,
            table.attempt == claim.attempt,
            table.owner == owner,
        )

    def _read(self, condition: ColumnElement[bool]) -> list[Claim]:
        columns = [_CLAIMS.c[name] for name in Claim.__annotations__]
        query = select(*columns).where(_CLAIMS.c.study == self.study, condition)
        with self.engine.connect() as connection:
            rows = connection.execute(query.order_by(_CLAIMS.c.point, _CLAIMS.c.attempt)).all()
        return [Claim(*row) for row in rows]


def this_machine() -> str:
    """What two processes have in common only if they see each other's process numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    linux = boot.exists()
    where = f"{boot.read_text().strip()}/{os.readlink('/proc/self/ns/pid')}" if linux else f"{uuid.getnode():x}"
    return f"{platform.node()}/{where}"[:200]


def gone(pid: int) -> bool:
    """Whether there is no such process on this machine any more. Where that cannot be asked, False."""
    if os.name == "nt":  # there os.kill ends the process that it asks for
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:  # dead, and its parent has not asked yet
        return status.read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return False
