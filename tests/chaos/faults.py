"""The faults, each with its own recovery: what is hurt, for how long, and whom it concerns."""

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import OperationalError

from tests.chaos.books import Standstill
from tests.chaos.system import System, kill
from turnmill_worker.stack.process import Child

_RUNNING = (
    "SELECT id, lease_fence FROM turnmill.turns WHERE state = 'running' AND lease_owner LIKE %s"
)
_DUE = """
SELECT head_turn_id, fence FROM turnmill.sessions
WHERE status = 'active' AND head_due_at <= clock_timestamp()
"""
_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"


@dataclass(slots=True)
class Blow:
    """One fault that happened."""

    kind: str
    began_at: float  #: seconds since the epoch
    ended_at: float | None = None  #: None: it has not ended yet
    waiting_since: float | None = None  #: from here on the time to recover is counted
    standstill: Standstill | None = None  #: of a worker that was frozen, once it woke
    #: turns that have to get a claim with a higher fence, and the fence they had
    hurt: dict[UUID, int] = field(default_factory=dict)


@dataclass
class Targets:
    """What can be hurt, and the drawn lot."""

    system: System
    draw: random.Random
    workers: list[Child]
    lease: timedelta
    clock: Callable[[], float]
    beats: list[Child] = field(default_factory=list)
    ready: set[int] = field(default_factory=set)  #: workers, by number of the process
    frozen: set[int] = field(default_factory=set)
    redis_hurt: bool = False
    postgres_hurt: bool = False

    def victim(self) -> Child | None:
        """Choose a worker that runs turns; None unless another one does, too."""
        able = [
            one
            for one in self.workers
            if one.poll() is None and one.pid in self.ready and one.pid not in self.frozen
        ]
        return self.draw.choice(able) if len(able) > 1 else None

    def held_by(self, worker: Child) -> dict[UUID, int]:
        return dict(self._ask(_RUNNING, f"%:{worker.pid}"))

    def due(self) -> dict[UUID, int]:
        return dict(self._ask(_DUE))

    def _ask(self, query: str, *parameters: Any) -> list[Any]:
        try:
            return self.system.rows(query, *parameters)
        except OperationalError:
            return []  # the database is down: nothing to measure


#: Brings the fault about; returns how long it lasts and how it is lifted, None if it cannot be now.
Strike = Callable[[Targets, Blow], tuple[float, Callable[[], None]] | None]


def kill_worker(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]] | None:
    worker = at.victim()
    if worker is None:
        return None
    blow.hurt = at.held_by(worker)
    kill(worker)
    blow.waiting_since = at.clock()
    at.workers[at.workers.index(worker)] = at.system.launch_worker()
    return 0.0, lambda: None


def end_worker(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]] | None:
    """TERM, as a rolling restart does."""
    worker = at.victim()
    if worker is None:
        return None
    worker.ask_to_stop()
    at.workers[at.workers.index(worker)] = at.system.launch_worker()
    return 0.0, lambda: None


def freeze_worker(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]] | None:
    worker = at.victim()
    if worker is None:
        return None
    blow.hurt = at.held_by(worker)
    os.kill(worker.pid, signal.SIGSTOP)
    blow.waiting_since = at.clock()
    at.frozen.add(worker.pid)

    def thaw() -> None:
        at.frozen.discard(worker.pid)
        blow.standstill = Standstill(worker.pid, blow.began_at, at.clock())
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGCONT)

    return at.lease.total_seconds() * at.draw.uniform(1.2, 2.0), thaw


def flush_redis(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]] | None:
    if at.redis_hurt:
        return None
    blow.hurt = at.due()
    with at.system.servers.redis() as connection:
        connection.flushall()
    blow.waiting_since = at.clock()
    return 0.0, lambda: None


def restart_redis(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]] | None:
    if at.redis_hurt:
        return None
    at.redis_hurt = True
    at.system.servers.valkey.kill()

    def lift() -> None:
        at.system.servers.valkey.restart()
        at.redis_hurt = False
        blow.hurt, blow.waiting_since = at.due(), at.clock()

    return at.draw.uniform(0.0, 3.0), lift


def freeze_redis(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]] | None:
    if at.redis_hurt:
        return None
    at.redis_hurt = True
    pid = at.system.servers.valkey.pid
    os.kill(pid, signal.SIGSTOP)

    def lift() -> None:
        os.kill(pid, signal.SIGCONT)
        at.redis_hurt = False
        blow.hurt, blow.waiting_since = at.due(), at.clock()

    return at.draw.uniform(1.0, 5.0), lift


def fill_redis(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]] | None:
    """Leave it no memory: reads go on, writes are refused."""
    if at.redis_hurt:
        return None
    at.redis_hurt = True
    with at.system.servers.redis() as connection:
        connection.config_set("maxmemory", "1")

    def lift() -> None:
        with at.system.servers.redis() as connection:
            connection.config_set("maxmemory", "0")
        at.redis_hurt = False
        blow.hurt, blow.waiting_since = at.due(), at.clock()

    return at.draw.uniform(1.0, 4.0), lift


def restart_postgres(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]] | None:
    if at.postgres_hurt:
        return None
    at.postgres_hurt = True
    at.system.servers.crash_postgres()

    def lift() -> None:
        at.system.servers.postgres.restart()
        at.postgres_hurt = False

    return at.draw.uniform(0.0, 3.0), lift


def change_beats(at: Targets, blow: Blow) -> tuple[float, Callable[[], None]]:
    """Let none run, or two at once."""
    if at.beats:
        for beat in at.beats:
            kill(beat)
        at.beats.clear()
    else:
        at.beats += [at.system.launch_beat(), at.system.launch_beat()]
    return 0.0, lambda: None


#: By kind: how often, and how.
FAULTS: dict[str, tuple[int, Strike]] = {
    "worker killed": (8, kill_worker),
    "worker frozen": (4, freeze_worker),
    "worker ended": (2, end_worker),
    "Redis flushed": (3, flush_redis),
    "Redis restarted": (2, restart_redis),
    "Redis frozen": (2, freeze_redis),
    "Redis full": (2, fill_redis),
    "Postgres restarted": (2, restart_postgres),
    "beats changed": (1, change_beats),
}
