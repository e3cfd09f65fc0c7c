"""A chaos run: traffic, faults drawn at random from a seed, a drain, and then the books."""

import heapq
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from statistics import median
from typing import Self
from uuid import UUID

from psycopg import OperationalError

from tests.chaos.books import Books
from tests.chaos.faults import FAULTS, Blow, Targets
from tests.chaos.system import Servers, System
from tests.chaos.traffic import Traffic
from turnmill import TurnmillError
from turnmill.domain.errors import StoreError
from turnmill_worker.stack.process import Child, wait_until

LEASE = timedelta(seconds=3)
DRAIN_WITHIN = timedelta(minutes=3)
_BREATH_SECONDS = 0.05
_ALLOWED_AFTER_LEASE = 3.0

_VARIABLES = {"TURNMILL_TURN_TIMEOUT": "3", "TURNMILL_MOCK_LATENCY": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to be; the same plan draws the same faults."""

    duration: timedelta
    seed: str
    workers: int = 3
    fault_every: float = 5.0  #: seconds, on average
    keep: Path | None = None  #: where logs and the provider's ledger are copied to


@dataclass(kw_only=True)
class Outcome:
    """What a run came to."""

    plan: Plan
    blows: list[Blow]
    books: Books
    traffic: Traffic
    refused: int  #: verdicts of workers that had been given up
    unsound: int  #: statements that a sound database refused
    broken: list[str]  #: promises to the clients, in words
    most_hints: int
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    lost: list[UUID] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  #: workers that ended of their own accord

    @classmethod
    def of(cls, chaos: "Chaos") -> Self:
        standstills = [blow.standstill for blow in chaos.blows if blow.standstill is not None]
        books = Books.of(chaos.system, standstills=standstills)
        known = {turn.id for turn in books.turns}
        missing = [one for one in chaos.traffic.accepted if one not in known]
        outcome = cls(
            plan=chaos.plan,
            blows=chaos.blows,
            books=books,
            traffic=chaos.traffic,
            refused=chaos.system.logs().count("nothing was changed"),
            unsound=chaos.system.logs().count(StoreError.code),
            broken=chaos.traffic.broken(books),
            most_hints=chaos.most_hints,
            lost=missing + books.unfinished,
            gone=chaos.gone,
        )
        for blow in chaos.blows:
            outcome.recoveries.setdefault(blow.kind, []).extend(outcome.seconds_to_recover(blow))
        return outcome

    def complaints(self) -> list[str]:
        """Return every promise that was broken; the run has failed unless it is empty."""
        return [
            *(f"lost: {one}" for one in self.lost),
            *(
                f"died in good health: {turn.id}"
                for turn in self.books.turns
                if turn.state == "dead"
            ),
            *(f"{name} ended though nobody had ended it" for name in self.gone),
            *(["the database refused a statement"] * self.unsound),
            *self.traffic.complaints,
            *self.broken,
        ]

    def seconds_to_recover(self, blow: Blow) -> list[float]:
        """Return when the last of those whom it hurt was taken up again; empty if nobody was.

        Counted for blows only that no outage of a server overlapped: those have their own.
        """
        since = blow.waiting_since
        if since is None or not blow.hurt or self._overlapped(blow, since):
            return []
        return [max(self._taken_up(turn, fence, since) for turn, fence in blow.hurt.items())]

    def _taken_up(self, turn: UUID, fence: int, since: float) -> float:
        later = [
            one.started_at.timestamp() - since
            for one in self.books.attempts_of(turn)
            if one.fence > fence
        ]
        return max(min(later, default=0.0), 0.0)

    def _overlapped(self, blow: Blow, since: float) -> bool:
        horizon = since + LEASE.total_seconds() + _ALLOWED_AFTER_LEASE
        return any(
            other is not blow
            and other.kind.startswith(("Redis", "Postgres"))
            and other.began_at < horizon
            and (other.ended_at or horizon) > since - 1.0
            for other in self.blows
        )


class Chaos:
    """One run on servers of its own."""

    def __init__(self, plan: Plan, servers: Servers, *, traffic: type[Traffic] = Traffic) -> None:
        self.plan = plan
        self.system = System(servers, lease=LEASE, environment=dict(_VARIABLES))
        self.system.environment |= traffic.variables(self.system)
        self.traffic = traffic(self.system, plan.seed)
        self.blows: list[Blow] = []
        self.most_hints = 0
        self.gone: list[str] = []
        self._ready: set[int] = set()
        self._draw = random.Random(f"{plan.seed}:faults")
        self._liftings: list[tuple[float, int, Blow, Callable[[], None]]] = []
        self._numbers = count()

    def run(self) -> Outcome:
        """Run it. Call it from the main thread."""
        with self.system:
            workers = [self.system.launch_worker() for _ in range(self.plan.workers)]
            self.system.await_ready(*workers)
            self._ready |= {worker.pid for worker in workers}
            self.traffic.start()
            self._hurt(
                Targets(
                    self.system,
                    self._draw,
                    workers,
                    lease=LEASE,
                    clock=time.time,
                    ready=self._ready,
                )
            )
            self.traffic.stop()
            wait_until(lambda: self._drained(workers), timeout=DRAIN_WITHIN)
            if self.plan.keep is not None:
                shutil.copytree(self.system.folder, self.plan.keep, dirs_exist_ok=True)
            return Outcome.of(self)

    def _hurt(self, targets: Targets) -> None:
        end = time.monotonic() + self.plan.duration.total_seconds()
        next_at = time.monotonic() + self._pause()
        while (now := time.monotonic()) < end:
            if now >= next_at:
                self._strike(targets)
                next_at = time.monotonic() + self._pause()
            self._lift(until=now)
            self._look_after(targets.workers)
            self._look_at_redis(targets)
            time.sleep(_BREATH_SECONDS)
        self._lift(until=float("inf"))

    def _pause(self) -> float:
        return self._draw.uniform(0.4, 1.6) * self.plan.fault_every

    def _strike(self, targets: Targets) -> None:
        kinds = list(FAULTS)
        kind = self._draw.choices(kinds, [FAULTS[one][0] for one in kinds])[0]
        blow = Blow(kind, began_at=time.time())
        found = FAULTS[kind][1](targets, blow)
        if found is None:
            return
        seconds, lift = found
        self.blows.append(blow)
        entry = (time.monotonic() + seconds, next(self._numbers), blow, lift)
        heapq.heappush(self._liftings, entry)

    def _lift(self, *, until: float) -> None:
        while self._liftings and self._liftings[0][0] <= until:
            _, _, blow, lift = heapq.heappop(self._liftings)
            lift()
            blow.ended_at = time.time()

    def _look_at_redis(self, targets: Targets) -> None:
        if not targets.redis_hurt:
            with self.system.servers.redis() as redis:
                queues = ("turnmill.interactive", "turnmill.bulk", "turnmill.quarantine")
                self.most_hints = max(self.most_hints, *(int(redis.llen(one)) for one in queues))

    def _look_after(self, workers: list[Child]) -> None:
        """Start workers anew that ended: allowed only to those that were not ready yet."""
        for place, worker in enumerate(workers):
            if worker.told_ready():
                self._ready.add(worker.pid)
            if worker.poll() is not None:
                if worker.pid in self._ready:
                    self.gone.append(worker.program.name)
                workers[place] = self.system.launch_worker()

    def _drained(self, workers: list[Child]) -> bool:
        self._look_after(workers)
        try:
            self.traffic.let_end()
            [(unfinished,)] = self.system.rows(
                "SELECT count(*) FROM turnmill.turns WHERE finished_at IS NULL"
            )
        except (OperationalError, TurnmillError):
            return False
        return bool(unfinished == 0)


def p50_and_max(seconds: list[float]) -> str:
    """Return both for a table, or nothing."""
    return f"{median(seconds):.1f} / {max(seconds):.1f}" if seconds else ""


def summary(outcome: Outcome) -> Counter[str]:
    """Return the figures of a run by name."""
    books = outcome.books
    return Counter(
        {
            "turns": len(books.turns),
            "succeeded": books.count("succeeded"),
            "failed (rejected, unreadable)": books.count("failed"),
            "cancelled": books.count("cancelled"),
            "dead": books.count("dead"),
            "repeated keys": outcome.traffic.repeats,
            "attempts": len(books.attempts),
            "calls to the provider": len(books.calls),
            "rescued": sum(turn.lost > 0 for turn in books.turns),
            "refused zombie writes": outcome.refused,
            "most hints in a queue": outcome.most_hints,
        }
    )
