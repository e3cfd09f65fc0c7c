"""What else becomes of sessions: restored, moved, and what turns that have begun mean for it."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select

from turnmill.domain.errors import Conflict, MoveRefused
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import UNFINISHED, EventKind, Running, SessionStatus, TurnState
from turnmill.store.kept import give_up_all
from turnmill.store.line.head import lock_sessions, move_lines
from turnmill.store.nouns.sessions import HINT, cancel_open, change, get, put
from turnmill.store.records import Head, SessionRecord
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_now

_OPEN = (SessionStatus.ACTIVE, SessionStatus.PAUSED)


def restore(conn: Connection, session_id: SessionId) -> SessionRecord:
    """Let an archived session take messages again; its next turn begins a thread from the history.

    One that is active stays so. Raises MoveRefused for one that is paused, and Conflict where
    another session has adopted its thread meanwhile.
    """
    lock_sessions(conn, [session_id])
    found = get(conn, session_id)
    if found.status is SessionStatus.ACTIVE:
        return found
    if found.status is not SessionStatus.ARCHIVED:
        raise MoveRefused(f"a session that is {found.status} is not archived", hint="resume it")
    if found.adopted is not None and _is_adopted_elsewhere(conn, found):
        raise Conflict(
            "another session goes on with the thread of this one", hint="fork it instead"
        )
    # As if something had happened in it: or the next look for idle sessions would find it.
    back = {"status": SessionStatus.ACTIVE, "archived_at": None, "last_active_at": db_now()}
    return put(conn, session_id, back, EventKind.RESTORED)


def _is_adopted_elsewhere(conn: Connection, session: SessionRecord) -> bool:
    others = select(sessions.c.id).where(
        sessions.c.provider == session.provider,
        sessions.c.adopted == session.adopted,
        sessions.c.adopted.startswith("conv_"),
        sessions.c.id != session.id,
        sessions.c.status.in_(_OPEN),
    )
    return conn.execute(others).first() is not None


def settle_open(conn: Connection, session_id: SessionId, running: Running) -> TurnId | None:
    """See to the turns that are unfinished, and return the last that is to be waited for, if any.

    Raises MoveRefused where that is what is to be done.
    """
    lock_sessions(conn, [session_id])
    found = get(conn, session_id)
    if not found.unfinished or found.status is SessionStatus.ARCHIVED:
        return None
    if running is Running.REFUSE:
        raise MoveRefused(f"{found.unfinished} turns of the session are unfinished", hint=HINT)
    mine = turns.c.session_id == session_id
    if running is Running.CANCEL:
        cancel_open(conn, mine)
    last = select(turns.c.id).where(mine, turns.c.state.in_(UNFINISHED))
    open_now = conn.scalar(last.order_by(turns.c.seq.desc()).limit(1))
    return None if open_now is None else TurnId(open_now)


def settle_begun(conn: Connection, session_id: SessionId, running: Running) -> TurnId | None:
    """Do the same for the one turn that may have begun: its call was for whom it was begun with."""
    lock_sessions(conn, [session_id])
    get(conn, session_id)
    begun = (turns.c.session_id == session_id, *_begun())
    found = conn.scalar(select(turns.c.id).where(*begun).limit(1))
    if found is None:
        return None
    if running is Running.REFUSE:
        raise MoveRefused("a turn of the session has begun and not ended", hint=HINT)
    if running is Running.CANCEL:
        cancel_open(conn, turns.c.id == found)
    found = conn.scalar(select(turns.c.id).where(*begun).limit(1))
    return None if found is None else TurnId(found)


def _begun() -> tuple[ColumnElement[bool], ...]:
    waits_for_its_first_call = and_(turns.c.state == TurnState.QUEUED, turns.c.step == 1)
    return turns.c.state.in_(UNFINISHED), ~waits_for_its_first_call


def move(
    conn: Connection,
    session_id: SessionId,
    values: dict[str, Any],
    *,
    if_version: int | None = None,
) -> tuple[SessionRecord, list[Head]]:
    """Let another provider, or model, answer from now on; return the session, and its due head.

    The history goes along; the vendor's thread does not, and is deleted there. The caller has seen
    to turns that have begun.
    """
    lock_sessions(conn, [session_id])
    found = get(conn, session_id)
    if found.status is SessionStatus.ARCHIVED:
        raise MoveRefused("the session is archived", hint="restore it first")
    leaves = values.get("provider", found.provider) != found.provider
    if leaves and found.adopted is not None and not found.turns_succeeded:
        raise MoveRefused(
            "the thread that the session adopted has not been read yet",
            hint="its first turn reads it; move the session after that",
        )
    if leaves:
        give_up_all(conn, [session_id])
        values = values | {"adopted": None}
    change(conn, session_id, values, if_version=if_version)
    heads = move_lines(conn, [session_id])
    return get(conn, session_id), heads
