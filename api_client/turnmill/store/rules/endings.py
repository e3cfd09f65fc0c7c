"""What is written and told of a turn that becomes final: as a part of SQL, and in Core."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Update, bindparam, func, insert, literal, select, update
from sqlalchemy.sql.dml import ReturningInsert

from turnmill.domain.ids import TurnId
from turnmill.domain.states import EventKind, OnFailure, SessionStatus, TurnState
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_now
from turnmill.wire import SETTLED_CHANNEL

#: A statement names at most so many turns: a line may be longer than a list of parameters.
_AT_ONCE = 5_000
_ENDED = "turn."


class Happening(StrEnum):
    """What else happens to turns, apart from reaching a final state."""

    RETRIED = "turn.retried"  #: a final one runs again, in place
    DELETED = "turn.deleted"  #: it went with its session, unfinished


def write_events(
    conn: Connection,
    turn_ids: Sequence[TurnId],
    happening: Happening | EventKind | None = None,
) -> None:
    """Write an event of each of these turns, with the next numbers of its session.

    Without a `happening` it is what the turn has become. `turn_ids` are in the order of the lines.
    The caller's transaction holds the locks of their sessions until it ends: whoever sees an event
    sees all before it, and no number is left out.
    """
    for some in in_chunks(turn_ids):
        _write_events(conn, some, happening)


def in_chunks(turn_ids: Sequence[TurnId]) -> Iterator[Sequence[TurnId]]:
    """Yield the turns, as many at a time as a statement may name."""
    for start in range(0, len(turn_ids), _AT_ONCE):
        yield turn_ids[start : start + _AT_ONCE]


def _write_events(
    conn: Connection, turn_ids: Sequence[TurnId], happening: Happening | EventKind | None
) -> None:
    insertion, counting = _written(None if happening is None else happening.value)
    of_sessions = set(conn.scalars(insertion, {"turn_ids": turn_ids}))
    conn.execute(counting, {"of_sessions": list(of_sessions)})


@cache
def _written(kind: str | None) -> tuple[ReturningInsert[Any], Update]:
    """Return what writes the events of `turn_ids`, and what counts those of `of_sessions`."""
    from turnmill.store.schema.event_tables import events  # noqa: PLC0415  not at import

    number = func.row_number().over(partition_by=turns.c.session_id, order_by=turns.c.seq)
    kinds = literal(_ENDED) + turns.c.state if kind is None else literal(kind)
    rows = (
        select(turns.c.session_id, sessions.c.events + number, turns.c.id, kinds, db_now())
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id.in_(bindparam("turn_ids", expanding=True)))
    )
    names = ["session_id", "n", "turn_id", "kind", "at"]
    insertion = insert(events).from_select(names, rows).returning(events.c.session_id)
    last = select(func.max(events.c.n)).where(events.c.session_id == sessions.c.id)
    counting = (
        update(sessions)
        .where(sessions.c.id.in_(bindparam("of_sessions", expanding=True)))
        .values(events=last.scalar_subquery())
    )
    return insertion, counting


def telling(statement: str, states: Sequence[str]) -> str:
    """Return the statement with an event of each turn, too, that has come to such a state."""
    if not states:
        return statement
    listed = ", ".join(f"'{one}'" for one in states)
    counted = COUNTED_SQL.replace("turn.is_final", f"turn.is_final OR turn.state IN ({listed})")
    told = _WHICH.replace("is_final", f"is_final OR state IN ({listed})")
    return statement.replace(COUNTED_SQL, counted).replace(_WHICH, told, 1)


def pausing(statement: str) -> str:
    """Return the statement with an event, too, of each session that is paused by a failure in it.

    It comes behind the one of the turn that failed.
    """
    for before, after in _PAUSING:
        assert before in statement, before
        statement = statement.replace(before, after, 1)
    return statement


_WHICH = "FROM session WHERE is_final\n)"
#: The same in one statement that updates `sessions s` for each row of `turn`: what it sets there,
COUNTED_SQL = "events = s.events + CASE WHEN turn.is_final THEN 1 ELSE 0 END"
#: and what follows from its rows `session` (session_id, events, settled_id, state, is_final).
#: Those who wait are told.
ENDED_SQL = f"""event AS (
    INSERT INTO turnmill.events (session_id, n, turn_id, kind, at)
    SELECT session_id, events, settled_id, '{_ENDED}' || state, clock_timestamp()
    {_WHICH}, told AS (
    SELECT pg_notify('{SETTLED_CHANNEL}', string_agg(settled_id::text, ','))
    FROM session WHERE is_final HAVING count(*) > 0
)"""

# What is set sees the row as it was; what is returned, as it has become: so it is read beside.
_PAUSES = f"""CASE WHEN turn.state IN ('{TurnState.DEAD}', '{TurnState.FAILED}')
            AND s.on_failure = '{OnFailure.PAUSE}' AND s.status = '{SessionStatus.ACTIVE}'
            THEN 1 ELSE 0 END"""
_MET = "    WHERE s.id = turn.session_id\n    RETURNING turn.id AS settled_id"
_BESIDE = f"""    JOIN turnmill.sessions was ON was.id = turn.session_id
    WHERE s.id = turn.session_id
    RETURNING was.status = '{SessionStatus.ACTIVE}' AND s.status = '{SessionStatus.PAUSED}'
        AS pauses, turn.id AS settled_id"""
_NUMBERED = "SELECT session_id, events, settled_id, "
_BEFORE_IT = "SELECT session_id, events - CASE WHEN pauses THEN 1 ELSE 0 END, settled_id, "
_ALL_TOLD = "\n), told AS ("
_TOLD_TOO = f"""
    UNION ALL SELECT session_id, events, '{UUID(int=0)}'::uuid, '{EventKind.PAUSED}',
        clock_timestamp() FROM session WHERE pauses{_ALL_TOLD}"""
_PAUSING = (
    ("events = s.events + CASE", f"events = s.events + {_PAUSES} + CASE"),
    (_MET, _BESIDE),
    (_NUMBERED, _BEFORE_IT),
    (_ALL_TOLD, _TOLD_TOO),
)
