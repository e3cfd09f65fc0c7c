"""Turns whose sender is erased, in sessions of others: what he said is emptied, replies stay."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, and_, func, null, or_, select, update

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.kept import give_up_all
from turnmill.store.line.attached import release_turns
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.topics import forget_topic
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.people_tables import shared_sessions
from turnmill.store.schema.tables import attempts, messages, sessions, turns

#: States of a head that hold nothing at a vendor which giving up its thread would take from it.
_AT_REST = (TurnState.QUEUED, TurnState.RETRYING)


def redact_turns(conn: Connection, turn_ids: Collection[TurnId]) -> set[SessionId]:
    """Empty what was said in these turns, and whatever was made of it but for replies.

    A thread at a vendor holds it, too: the next turn begins another one with what is left. Returns
    the sessions that are done with. In others work goes on that has read what was said: it may
    write of it yet, and holds the thread; come again when it has ended.
    """
    ids = list(turn_ids)
    rows = conn.execute(
        select(turns.c.session_id, func.min(turns.c.seq))
        .where(turns.c.id.in_(ids))
        .group_by(turns.c.session_id)
    ).all()
    first = {SessionId(session_id): seq for session_id, seq in rows}
    lock_sessions(conn, first)
    _hold_logs(conn, first)
    said = and_(messages.c.turn_id.in_(ids), messages.c.role == "user")
    conn.execute(update(messages).where(said).values(content=[]))
    nothing: dict[str, Any] = {"metadata": {}, "custom_id": None}
    nothing |= {"idempotency_key": None, "idempotency_hash": None}
    conn.execute(update(turns).where(turns.c.id.in_(ids)).values(nothing))
    # Vendors quote in their errors what they were sent.
    told = attempts.c.turn_id.in_(ids)
    conn.execute(update(attempts).where(told).values(error_detail=null()))
    release_turns(conn, ids)
    forget_topic(conn, first)
    for session_id, seq in sorted(first.items()):
        of = and_(compactions.c.session_id == session_id, compactions.c.up_to_seq >= seq)
        conn.execute(update(compactions).where(of).values(summary=null()))
    rest = _at_rest(conn, first)
    give_up_all(conn, rest)
    return set(rest)


def _hold_logs(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Wait for whoever puts down who has said what: he has read the names that are to go."""
    logs = select(shared_sessions.c.session_id).where(
        shared_sessions.c.session_id.in_(list(session_ids))
    )
    conn.execute(logs.order_by(shared_sessions.c.session_id).with_for_update()).all()


def _at_rest(conn: Connection, session_ids: Collection[SessionId]) -> list[SessionId]:
    """Return those whose head waits for nothing at a vendor; of others the thread stays for now."""
    found = (
        select(sessions.c.id)
        .outerjoin(turns, turns.c.id == sessions.c.head_turn_id)
        .where(
            sessions.c.id.in_(list(session_ids)),
            or_(turns.c.id.is_(None), turns.c.state.in_(_AT_REST)),
        )
    )
    return [SessionId(one) for one in conn.scalars(found)]
