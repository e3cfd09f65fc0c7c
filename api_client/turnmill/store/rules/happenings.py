"""Events of sessions, and those of turns that are no endings: written where somebody wants them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select, update

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.session_settings import OBSERVERS
from turnmill.domain.states import EventKind, TurnState
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.records import NewSession
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.tables import sessions
from turnmill.store.schema_name import execute

#: What a turn may come to that is no ending, and that somebody may want to hear of.
UNENDED = {TurnState.WAITING: EventKind.WAITING, TurnState.RETRYING: EventKind.RETRYING}

#: Stands for the turn in an event that is of none.
NOBODY = UUID(int=0)

# One statement: the number and what it is given to come together, in a transaction or out of one.
_WRITE = """
WITH numbered AS (
    UPDATE turnmill.sessions s SET events = s.events + 1
    FROM unnest(%(session_ids)s::uuid[], %(turn_ids)s::uuid[]) AS told (session_id, turn_id)
    WHERE s.id = told.session_id
    RETURNING s.id, s.events, told.turn_id
)
INSERT INTO turnmill.events (session_id, n, turn_id, kind, at)
SELECT id, events, turn_id, %(kind)s, clock_timestamp() FROM numbered
"""


def write_session_events(
    conn: Connection, session_ids: Collection[SessionId], kind: EventKind
) -> None:
    """Write an event of each of these sessions, if anybody wants this kind: else nothing is done.

    The caller's transaction locks the sessions, or has just made them, and holds them until it
    ends. Who removes a session writes its last event first.
    """
    if session_ids and is_wanted(conn, kind):
        ids = sorted(set(session_ids))
        _write(conn, [(session_id, NOBODY) for session_id in ids], kind)


def write_turn_events(
    conn: Connection, of: Collection[tuple[SessionId, TurnId]], kind: EventKind
) -> None:
    """Do the same of turns that are no endings, at most one of each session."""
    if of and is_wanted(conn, kind):
        _write(conn, sorted(of), kind)


def observe(conn: Connection, named: Mapping[SessionId, Collection[str]]) -> None:
    """Have these observers, and no others by name, told of each of these sessions, or batches."""
    from turnmill.store.schema.hook_tables import observed  # noqa: PLC0415  few name any

    conn.execute(delete(observed).where(observed.c.session_id.in_(list(named))))
    rows = [
        {"session_id": session_id, "observer": name}
        for session_id, names in named.items()
        for name in dict.fromkeys(names)
    ]
    if rows:
        conn.execute(insert(observed), rows)


def observe_new(conn: Connection, made: Sequence[NewSession]) -> None:
    """Do so for sessions that were just made, those of them that name an observer."""
    named = {one.id: one.settings[OBSERVERS] for one in made if one.settings.get(OBSERVERS)}
    if named:
        observe(conn, named)


def _write(conn: Connection, of: Collection[tuple[SessionId, UUID]], kind: EventKind) -> None:
    if Capability.ROW_LOCKS in capabilities_of(conn):
        ids = {"session_ids": [one for one, _ in of], "turn_ids": [turn for _, turn in of]}
        execute(conn, _WRITE, {**ids, "kind": kind.value})
        return
    for session_id, turn_id in of:
        _write_one(conn, session_id, turn_id, kind)


def _write_one(conn: Connection, session_id: SessionId, turn_id: UUID, kind: EventKind) -> None:
    mine = sessions.c.id == session_id
    last = select(sessions.c.events).where(mine)
    conn.execute(update(sessions).where(mine).values(events=sessions.c.events + 1))
    n = conn.scalar(last)
    if n is None:
        return
    row: dict[str, Any] = {"session_id": session_id, "n": n, "turn_id": turn_id}
    conn.execute(insert(events).values(**row, kind=kind.value))
