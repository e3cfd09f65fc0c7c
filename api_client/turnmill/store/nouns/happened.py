"""What happened in a session that several people follow, with what was said."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, or_, select

from turnmill.domain.content import Part, without_sender
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import STATES, EventKind
from turnmill.store.codec import shown_parts
from turnmill.store.line import shared_log as log
from turnmill.store.people_records import Happened
from turnmill.store.schema.people_tables import notes, shared_log
from turnmill.store.schema.tables import messages

#: Of a turn, what a message and what a reply is.
_SAID = {EventKind.ACCEPTED: False, EventKind.SUCCEEDED: True}


def page(conn: Connection, session_id: SessionId, *, after: int, limit: int) -> list[Happened]:
    """Return up to `limit` of what happened after a place, in the order of all, as it is put down.

    What turns have come to since is put down by `look`.
    """
    rows = conn.execute(
        select(shared_log)
        .where(shared_log.c.session_id == session_id, shared_log.c.n > after)
        .order_by(shared_log.c.n)
        .limit(limit)
    ).all()
    said = {**_of_turns(conn, rows), **_of_notes(conn, session_id, rows)}
    return [_happened(row, said.get(row.n, ())) for row in rows]


def look(conn: Connection, session_id: SessionId, *, wait: bool = True) -> None:
    """Put down what turns have come to, if they have come to anything.

    Without `wait`, whoever has the log in his hands just now is left to do it.
    """
    if log.is_behind(conn, session_id):
        log.catch_up(conn, session_id, wait=wait)


def _of_turns(conn: Connection, rows: Sequence[Any]) -> dict[int, Sequence[Part]]:
    """Return what was said of these, by their places: the message of a turn, or its reply."""
    wanted = {(row.turn_id, _SAID[row.kind]): row.n for row in rows if row.kind in _SAID}
    if not wanted:
        return {}
    first = (messages.c.role == "user") & (messages.c.position >= 0)
    found = conn.execute(
        select(messages.c.turn_id, messages.c.final, messages.c.content)
        .where(messages.c.turn_id.in_({turn_id for turn_id, _ in wanted}))
        .where(or_(messages.c.final, first))
        .order_by(messages.c.turn_id, messages.c.position)
    )
    said: dict[int, Sequence[Part]] = {}
    for turn_id, final, content in found:
        n = wanted.get((turn_id, final))
        if n is not None:
            said[n] = (*said.get(n, ()), *without_sender(shown_parts(content)))
    return said


def _of_notes(
    conn: Connection, session_id: SessionId, rows: Sequence[Any]
) -> Mapping[int, Sequence[Part]]:
    places = [row.n for row in rows if row.kind == EventKind.NOTE_POSTED]
    if not places:
        return {}
    found = conn.execute(
        select(notes.c.n, notes.c.content).where(
            notes.c.session_id == session_id, notes.c.n.in_(places)
        )
    )
    return {n: shown_parts(content) for n, content in found}


def _happened(row: Any, parts: Sequence[Part]) -> Happened:
    turn_id: UUID | None = row.turn_id
    return Happened(
        cursor=row.n,
        kind=row.kind,
        session_id=SessionId(row.session_id),
        at=row.at,
        turn_id=None if turn_id is None else TurnId(turn_id),
        sender=row.name,
        state=STATES.get(row.kind),
        parts=parts,
    )
