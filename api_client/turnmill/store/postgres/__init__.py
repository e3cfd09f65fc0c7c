"""The engine for a server: one fast statement for each move of a group."""

from __future__ import annotations  # what passes through is imported by those who make it

from typing import TYPE_CHECKING

from turnmill.store.postgres.accepting import (
    accept,
    accept_many,
    accept_new,
    require_fresh_reads,
    start_many,
)
from turnmill.store.postgres.claiming import (
    claim,
    claim_due,
    claim_suspects,
    due_suspicions,
    extend,
    still_due,
)
from turnmill.store.postgres.feeding import (
    announce_due,
    count_due,
    late_heartbeats,
    note_announced,
)
from turnmill.store.postgres.looking import (
    backlogs,
    has_been_up,
    history,
    identity,
    longest_waits,
    notify,
    vitals,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection, Row

    from turnmill.domain.ids import BatchId, TurnId
    from turnmill.domain.states import Lane
    from turnmill.store.batch_records import StagedLine
    from turnmill.store.budget_records import Ask, Reserved
    from turnmill.store.records import Fenced, Locked, Settled, Settlement
    from turnmill.store.step_records import Advanced, CallEnd, Step, ToBegin

__all__ = [
    "accept",
    "accept_many",
    "accept_new",
    "advance",
    "ahead_of",
    "announce_due",
    "backlogs",
    "begin_calls",
    "claim",
    "claim_due",
    "claim_suspects",
    "count_due",
    "due_by_user",
    "due_suspicions",
    "end_calls",
    "extend",
    "has_been_up",
    "history",
    "identity",
    "late_heartbeats",
    "longest_waits",
    "note_announced",
    "notify",
    "require_fresh_reads",
    "reserve",
    "settle",
    "stage_lines",
    "start_many",
    "still_due",
    "vitals",
]


def settle(conn: Connection, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
    """Write verdicts, at most one for each session, in one statement."""
    # Its statements take 10 ms to build, and whoever imports us to send a message never settles;
    # workers have them from the start, by `line.settle`.
    from turnmill.store.postgres import settling  # noqa: PLC0415

    return settling.settle(conn, settlements)


def reserve(conn: Connection, asks: Sequence[Ask], *, tags: Sequence[str]) -> list[Reserved]:
    """Reserve what calls may cost at the most, in one statement."""
    from turnmill.store.postgres import charging  # noqa: PLC0415

    return charging.reserve(conn, asks, tags=tags)


def stage_lines(conn: Connection, batch_id: BatchId, lines: Sequence[StagedLine]) -> None:
    """Write lines of a batch that do not stand yet, in one statement."""
    from turnmill.store.postgres import staging  # noqa: PLC0415  of those who submit batches

    staging.stage_lines(conn, batch_id, lines)


# The same of those who take turns: a worker's dispatcher, and who asks how long a turn waits.


def due_by_user(
    conn: Connection, lane: Lane, *, after: str, served: Collection[str], users: int, heads: int
) -> Sequence[Row[str, UUID]]:
    """Return rows of (user, turn id): the oldest due heads of the next users of a lane."""
    from turnmill.store.postgres import sharing  # noqa: PLC0415

    return sharing.due_by_user(conn, lane, after=after, served=served, users=users, heads=heads)


def ahead_of(
    conn: Connection, lane: Lane, *, user: str, due_at: datetime, users: int, most: int
) -> tuple[int, int, int]:
    """Return how many due heads come first of the user's own, and of how many others how many."""
    from turnmill.store.postgres import sharing  # noqa: PLC0415

    return sharing.ahead_of(conn, lane, user=user, due_at=due_at, users=users, most=most)


# The same of steps: only turns that call tools take any.


def advance(conn: Connection, steps: Sequence[Step]) -> list[Advanced | Fenced | Locked]:
    """Write steps, at most one for each session, in one statement."""
    from turnmill.store.postgres import stepping  # noqa: PLC0415

    return stepping.advance(conn, steps)


def begin_calls(conn: Connection, calls: Sequence[ToBegin]) -> set[tuple[TurnId, int]]:
    """Note that calls are about to be run; return (turn, position) of those that may be."""
    from turnmill.store.postgres import stepping  # noqa: PLC0415

    return stepping.begin_calls(conn, calls)


def end_calls(conn: Connection, ends: Sequence[CallEnd]) -> set[tuple[TurnId, int]]:
    """Write what became of calls; return (turn, position) of those that stand."""
    from turnmill.store.postgres import stepping  # noqa: PLC0415

    return stepping.end_calls(conn, ends)
