"""The books: what the store says, what the provider says, and whether the two agree."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, Self
from uuid import UUID

from tests.chaos.system import System
from turnmill.store.database import Database
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.providers.mock.executions import Call
from turnmill_worker.providers.mock.provider import messages_seen

_TURNS = """
SELECT t.id, t.session_id, t.seq, t.state, t.lost, t.finished_at,
    (SELECT array_agg(m.content->0->>'text') FROM turnmill.messages m
    WHERE m.turn_id = t.id AND m.final)
FROM turnmill.turns t ORDER BY t.session_id, t.seq
"""
_ATTEMPTS = """
SELECT turn_id, fence, kind, worker, started_at, ended_at, outcome, polls FROM turnmill.attempts
"""
_FINAL = frozenset({"succeeded", "failed", "dead", "cancelled", "expired"})
_AWAKE_SECONDS = 1.0  # within which a worker that wakes goes on with what it was about to do


@dataclass(frozen=True, slots=True)
class TurnLine:
    """A turn as the store has it."""

    id: UUID
    session_id: UUID
    seq: int
    state: str
    lost: int
    finished_at: datetime | None
    replies: list[str] | None


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """An attempt as the store has it."""

    turn_id: UUID
    fence: int
    kind: str
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    polls: int = 0

    @property
    def fences(self) -> range:
        """Return under which fences it may have called: it was put off before, or polled behind."""
        return range(self.fence - self.polls, self.fence + 1)


@dataclass(frozen=True, slots=True)
class Standstill:
    """A worker that was frozen for a while."""

    pid: int
    began_at: float  #: seconds since the epoch, as the end is
    ended_at: float


@dataclass(frozen=True)
class Books:
    """Everything that both sides wrote down."""

    turns: list[TurnLine]
    attempts: list[AttemptLine]
    calls: list[Call]
    violations: list[Any]  #: of the package's own invariants
    standstills: Sequence[Standstill] = ()

    @classmethod
    def of(cls, system: System, *, standstills: Sequence[Standstill] = ()) -> Self:
        database = Database(system.database_url, pool_size=1, overflow=0)
        try:
            with database.begin() as conn:
                found = list(violations(conn))
        finally:
            database.close()
        return cls(
            turns=[TurnLine(*row) for row in system.rows(_TURNS)],
            attempts=[AttemptLine(*row) for row in system.rows(_ATTEMPTS)],
            calls=system.ledger.calls(),
            violations=found,
            standstills=standstills,
        )

    def complaints(self) -> list[str]:
        """Return every promise that was broken, in words; empty when all is well."""
        return [
            *(f"invariant: {one}" for one in self.violations),
            *(f"doubled: {one}" for one in self.doubled()),
            *(f"out of order: {one}" for one in self.out_of_order()),
            *(f"overlap: {one}" for one in self.overlaps()),
            *(f"called after it was final: {one}" for one in self.called_after_final()),
        ]

    @property
    def unfinished(self) -> list[UUID]:
        return [turn.id for turn in self.turns if turn.state not in _FINAL]

    def count(self, state: str) -> int:
        return sum(turn.state == state for turn in self.turns)

    @cached_property
    def calls_by_turn(self) -> Counter[UUID]:
        return Counter(call.turn_id for call in self.calls)

    def attempts_of(self, turn_id: UUID) -> list[AttemptLine]:
        return self._attempts_by_turn.get(turn_id, [])

    @cached_property
    def _attempts_by_turn(self) -> dict[UUID, list[AttemptLine]]:
        found: defaultdict[UUID, list[AttemptLine]] = defaultdict(list)
        for attempt in self.attempts:
            found[attempt.turn_id].append(attempt)
        return found

    def doubled(self) -> list[str]:
        """Return turns with two replies, and calls that no claim of their own stands for."""
        sends = {
            (one.turn_id, fence)
            for one in self.attempts
            if one.kind == "send"
            for fence in one.fences
        }
        called = Counter((call.turn_id, call.fence) for call in self.calls)
        return [
            *(f"{turn.id} has two replies" for turn in self.turns if len(turn.replies or ()) > 1),
            *(f"{key} was called {number} times" for key, number in called.items() if number > 1),
            *(f"{key} was called unclaimed" for key in called.keys() - sends),
        ]

    def out_of_order(self) -> Iterator[str]:
        """Yield turns whose call did not see exactly the turns before them, or ended too early."""
        for line in self._lines().values():
            answered = [turn for turn in line if turn.state == "succeeded" and turn.replies]
            for number, turn in enumerate(answered):
                assert turn.replies is not None
                if messages_seen(turn.replies[0]) != 2 * number:
                    yield f"{turn.id} did not see its history"
            finished = [turn.finished_at for turn in answered if turn.finished_at]
            if any(earlier > later for earlier, later in pairwise(finished)):
                yield f"replies of session {line[0].session_id} crossed"

    def overlaps(self) -> Iterator[str]:
        """Yield calls of a session that began while the one before was in flight and ours.

        The call of a lost worker counts until its loss was noticed.
        """
        ended = {
            (one.turn_id, fence): one.ended_at for one in self.attempts for fence in one.fences
        }
        by_session: defaultdict[UUID, list[Call]] = defaultdict(list)
        for call in self.calls:
            by_session[call.session_id].append(call)
        for calls in by_session.values():
            for earlier, later in pairwise(sorted(calls, key=lambda call: call.fence)):
                noticed = ended.get((earlier.turn_id, earlier.fence))
                ends = [earlier.ended_at, noticed.timestamp() if noticed else None]
                if later.started_at < min((end for end in ends if end), default=float("inf")):
                    yield f"{later.turn_id} began during {earlier.turn_id}"

    def called_after_final(self) -> Iterator[str]:
        """Yield calls that began after their turn had ended.

        A worker looks at its lease right before it calls. If it is frozen between the two, it makes
        that one call when it wakes, which nothing within a process can help; the next one it makes
        is behind another look.
        """
        finished = {turn.id: turn.finished_at for turn in self.turns}
        excused: set[Standstill] = set()
        for call in self.calls:
            end = finished.get(call.turn_id)
            if end is None or call.started_at <= end.timestamp():
                continue
            still = self._frozen_before(call, end.timestamp())
            if still is None or still in excused:
                yield f"{call.turn_id} under fence {call.fence}"
            else:
                excused.add(still)

    def _frozen_before(self, call: Call, end: float) -> Standstill | None:
        """Return how its worker was frozen over the end of the turn and woke for this call."""
        holders = {
            one.worker.partition("/")[0]
            for one in self.attempts_of(call.turn_id)
            if call.fence in one.fences
        }
        for one in self.standstills:
            woke = one.ended_at <= call.started_at <= one.ended_at + _AWAKE_SECONDS
            if woke and one.began_at < end and any(who.endswith(f":{one.pid}") for who in holders):
                return one
        return None

    def refused_zombies(self) -> int:
        """Return how many calls were answered after their worker had been given up."""
        lost = {
            (one.turn_id, fence): one.ended_at
            for one in self.attempts
            if one.outcome == "lost" and one.ended_at
            for fence in one.fences
        }
        return sum(
            call.ended_at is not None
            and (call.turn_id, call.fence) in lost
            and call.ended_at > lost[call.turn_id, call.fence].timestamp()
            for call in self.calls
        )

    def _lines(self) -> dict[UUID, list[TurnLine]]:
        lines: defaultdict[UUID, list[TurnLine]] = defaultdict(list)
        for turn in self.turns:
            lines[turn.session_id].append(turn)
        return lines
