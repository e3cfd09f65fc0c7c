"""The engine of a connection: how the moves of the hot path are made there."""

from __future__ import annotations  # what passes through is imported by those who make it

from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from turnmill.store import postgres

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from sqlalchemy import Connection, Row

    from turnmill.domain.ids import BatchId, SessionId, TurnId
    from turnmill.domain.states import Lane
    from turnmill.store.batch_records import StagedLine
    from turnmill.store.budget_records import Ask, Reserved
    from turnmill.store.capabilities import Vitals
    from turnmill.store.codec import StoredHistory
    from turnmill.store.records import (
        Accepted,
        Fenced,
        Item,
        Locked,
        NewTurn,
        Settled,
        Settlement,
        Start,
        Taken,
        Waits,
        Written,
    )
    from turnmill.store.step_records import Advanced, CallEnd, Step, ToBegin


class Engine(Protocol):
    """Everything that is not one statement of SQLAlchemy's for all stores. See `store.line`."""

    def accept(self, conn: Connection, session_id: SessionId, turn: NewTurn, /) -> Written:
        """Write a turn and its message, unless its key is known or its session is closed."""
        ...

    def accept_many(self, conn: Connection, items: Sequence[Item], /) -> list[Accepted]:
        """Accept messages that may have keys, in the order given; all of them, or none."""
        ...

    def accept_new(
        self,
        conn: Connection,
        session_ids: Sequence[SessionId],
        new_turns: Iterator[NewTurn],
        /,
    ) -> list[Accepted]:
        """Accept messages without keys, made while those before them are written."""
        ...

    def start_many(self, conn: Connection, starts: Sequence[Start], /) -> list[Accepted]:
        """Create sessions that do not exist yet, each with its first message."""
        ...

    def stage_lines(
        self, conn: Connection, batch_id: BatchId, lines: Sequence[StagedLine], /
    ) -> None:
        """Write lines of a batch that do not stand yet."""
        ...

    def claim(
        self,
        conn: Connection,
        turn_ids: Sequence[TurnId],
        /,
        *,
        owner: str,
        lease: timedelta,
        lanes: Collection[Lane],
        limit: int | None,
    ) -> list[Taken]:
        """Take those of the turns that are due heads in these lanes, the first ones of them."""
        ...

    def claim_due(
        self, conn: Connection, lane: Lane, /, *, limit: int, owner: str, lease: timedelta
    ) -> list[Taken]:
        """Take due heads of a lane; those of one provider oldest first."""
        ...

    def claim_suspects(
        self, conn: Connection, /, *, lost: int, limit: int, owner: str, lease: timedelta
    ) -> list[Taken]:
        """Take due heads in quarantine that were lost so often."""
        ...

    def still_due(
        self, conn: Connection, turn_ids: Sequence[TurnId], /, *, lanes: Collection[Lane]
    ) -> list[TurnId]:
        """Return those that are due and were passed over, because somebody had locked them."""
        ...

    def due_by_user(
        self,
        conn: Connection,
        lane: Lane,
        /,
        *,
        after: str,
        served: Collection[str],
        users: int,
        heads: int,
    ) -> Sequence[Row[str, UUID]]:
        """Return rows of (user, turn id): the oldest due heads of the next users of a lane."""
        ...

    def ahead_of(
        self, conn: Connection, lane: Lane, /, *, user: str, due_at: datetime, users: int, most: int
    ) -> tuple[int, int, int]:
        """Return how many due heads come first of the user's own, and of how many others how many.

        Others are served as often as this one, and once more.
        """
        ...

    def settle(
        self,
        conn: Connection,
        settlements: Sequence[Settlement],
        /,
    ) -> list[Settled | Fenced | Locked]:
        """Write verdicts, at most one for each session, and tell what came of each, in order."""
        ...

    def advance(
        self, conn: Connection, steps: Sequence[Step], /
    ) -> list[Advanced | Fenced | Locked]:
        """Write steps, at most one for each session, and take each turn for its next one."""
        ...

    def begin_calls(self, conn: Connection, calls: Sequence[ToBegin], /) -> set[tuple[TurnId, int]]:
        """Note that calls are about to be run; return (turn, position) of those that may be."""
        ...

    def end_calls(self, conn: Connection, ends: Sequence[CallEnd], /) -> set[tuple[TurnId, int]]:
        """Write what became of calls; return (turn, position) of those that stand."""
        ...

    def reserve(
        self, conn: Connection, asks: Sequence[Ask], /, *, tags: Sequence[str]
    ) -> list[Reserved]:
        """Reserve what calls may cost at the most, at most one of each turn; tell of each."""
        ...

    def extend(
        self, conn: Connection, held: Sequence[tuple[TurnId, int]], /, *, lease: timedelta
    ) -> list[tuple[TurnId, bool]]:
        """Extend the leases of these (turn, fence) pairs; of each, whether to cancel it."""
        ...

    def history(self, conn: Connection, session_id: SessionId, /) -> StoredHistory:
        """Return all messages of succeeded turns, in order."""
        ...

    def backlogs(self, conn: Connection, /) -> Sequence[Row[str, str, bool]]:
        """Return rows of (lane, provider, due) for what has a head waiting."""
        ...

    # What is asked where processes share a store. Any other raises UnsupportedByStore.

    def due_suspicions(self, conn: Connection, /) -> set[int]:
        """Return how often the turns due in quarantine were lost."""
        ...

    def announce_due(
        self,
        conn: Connection,
        lane: Lane,
        /,
        *,
        providers: Collection[str],
        limit: int,
        hints: int,
        waits: Waits,
        drained: Waits,
        among: int,
    ) -> Sequence[Row[UUID, UUID]]:
        """Note that heads are announced, and return them as rows of (session id, turn id)."""
        ...

    def note_announced(self, conn: Connection, turn_ids: Sequence[TurnId], /) -> set[UUID]:
        """Return the sessions whose heads, of these, nobody else has announced just now."""
        ...

    def count_due(
        self, conn: Connection, lane: Lane, /, *, providers: Collection[str], limit: int
    ) -> int:
        """Count due heads of a lane, up to a limit."""
        ...

    def late_heartbeats(self, conn: Connection, /, *, lease: timedelta) -> bool:
        """Tell whether leases run out, and note that the caller knows."""
        ...

    def longest_waits(self, conn: Connection, /) -> Sequence[Row[str, timedelta]]:
        """Return rows of (lane, how long its first has been due)."""
        ...

    # What only a server has something to say to.

    def notify(self, conn: Connection, channel: str, ids: Collection[Any], /) -> None:
        """Tell those who listen, once this transaction commits."""
        ...

    def require_fresh_reads(self, conn: Connection, /) -> None:
        """Raise WrongIsolation where the caller's transaction reads an old snapshot."""
        ...

    def has_been_up(self, conn: Connection, span: timedelta, /) -> bool:
        """Tell whether owners of turns could reach the store for so long."""
        ...

    def vitals(self, conn: Connection, /) -> Vitals:
        """Ask the store about itself."""
        ...

    def identity(self, conn: Connection, /) -> Sequence[object]:
        """Return what tells this store from all others; nothing where it cannot be told."""
        ...


def engine_of(conn: Connection) -> Engine:
    """Return the engine for the store behind the connection: the one place that asks."""
    return postgres if conn.dialect.name == "postgresql" else _lite()


@cache
def _lite() -> Engine:
    """Import the engine that seldom anybody needs: building its statements takes its time."""
    from turnmill.store import lite  # noqa: PLC0415

    return lite
