"""Scripted turns: history that was not had here. They have succeeded, and were sent to nobody."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from turnmill.domain.content import Message
from turnmill.domain.errors import InvalidInput, MoveRefused, SessionNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.scripts import has_reply, reply_in
from turnmill.domain.states import EventKind, TurnState
from turnmill.store.codec import rows_of
from turnmill.store.line.head import lock_sessions
from turnmill.store.records import NewSession
from turnmill.store.rules.accepting import sealer_of_new, session_values
from turnmill.store.rules.happenings import observe_new, write_session_events
from turnmill.store.rules.sealing import Sealer, sealer_for
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.types import ZERO, db_now

#: What ended a scripted turn, as `finish_reason` says it.
SCRIPTED = "scripted"

#: Turns whose rows are made and written together.
_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedTurn:
    """A turn as it is to stand in the history; its last message of the assistant is its reply."""

    id: TurnId
    messages: Sequence[Message] = field(repr=False)
    at: datetime | None = None  #: when it was had; None: now
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)


def insert_scripted(conn: Connection, session_id: SessionId, script: Iterable[ScriptedTurn]) -> int:
    """Put turns behind all that the session has, and return how many. The caller's transaction.

    They are read, and shown to models, as any other turn that has succeeded. Nothing was asked for
    them: no attempt, no tokens, no cost, no event, and no line in the usage of a day.

    Raises SessionNotFound; MoveRefused where a turn is unfinished, or a vendor holds the thread,
    who would not be told; InvalidInput for a turn without a reply.
    """
    session = _quiet(conn, session_id)
    remaining, seq = iter(script), session.next_seq
    while chunk := list(islice(remaining, _CHUNK)):
        _insert(conn, session, chunk, first=seq)
        seq += len(chunk)
    count: int = seq - session.next_seq
    if count:
        conn.execute(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(
                next_seq=seq,
                turns_succeeded=sessions.c.turns_succeeded + count,
                last_active_at=db_now(),
            )
        )
    return count


def start_scripted(
    conn: Connection, talks: Sequence[tuple[NewSession, Sequence[ScriptedTurn]]]
) -> None:
    """Create sessions that do not exist yet, each with the turns that it begins with."""
    if not talks:
        return
    now = conn.scalars(select(db_now())).one()
    sealer = sealer_of_new(conn, [new for new, _ in talks])
    made = [
        {"id": new.id, **session_values(new, sealer), "next_seq": len(script) + 1}
        | {"turns_succeeded": len(script)}
        for new, script in talks
    ]
    conn.execute(insert(sessions), made)
    _write(conn, [(new, 1, script) for new, script in talks], now=now)
    observe_new(conn, [new for new, _ in talks])
    write_session_events(conn, [new.id for new, _ in talks], EventKind.OPENED)


def _quiet(conn: Connection, session_id: SessionId) -> Any:
    """Lock the session, and return what is needed of it."""
    lock_sessions(conn, [session_id])
    wanted = (sessions.c.id, sessions.c.next_seq, sessions.c.max_attempts)
    at_work = or_(sessions.c.unfinished > ZERO, sessions.c.provider_ref != "")
    row = conn.execute(
        select(*wanted, or_(at_work, sessions.c.adopted.is_not(None)).label("busy")).where(
            sessions.c.id == session_id
        )
    ).one_or_none()
    if row is None:
        raise SessionNotFound()
    if row.busy:
        raise MoveRefused(
            "history goes into a session before anything else happens in it",
            hint="create a session of its own for it",
        )
    return row


def _insert(conn: Connection, session: Any, chunk: Sequence[ScriptedTurn], *, first: int) -> None:
    now = conn.scalars(select(db_now())).one()
    _write(conn, [(session, first, chunk)], now=now)


def _write(
    conn: Connection, scripts: Sequence[tuple[Any, int, Sequence[ScriptedTurn]]], *, now: datetime
) -> None:
    """Write the turns of sessions, each with the number of the first of them."""
    listed = [
        (session, seq, one)
        for session, first, script in scripts
        for seq, one in enumerate(script, first)
    ]
    sealer = sealer_for(conn, {session.id for session, _, _ in scripts})
    said = [
        row
        for session, _, one in listed
        for row in _said(session.id, one, sealer, at=one.at or now)
    ]
    rows = [
        {
            "id": one.id,
            "session_id": session.id,
            "seq": seq,
            "state": TurnState.SUCCEEDED.value,
            "max_attempts": session.max_attempts,
            "metadata": _metadata(session.id, one, sealer),
            "finish_reason": SCRIPTED,
            "cost_usd": 0,
            "available_at": one.at or now,
            "created_at": one.at or now,
            "finished_at": one.at or now,
        }
        for session, seq, one in listed
    ]
    conn.execute(insert(turns), rows)
    conn.execute(insert(messages), said)


def _metadata(session_id: SessionId, turn: ScriptedTurn, sealer: Sealer | None) -> dict[str, Any]:
    if sealer is None:
        return dict(turn.metadata)
    place = f"{session_id.hex}/{turn.id.hex}"
    return sealer.object(session_id, turns.c.metadata, place, turn.metadata)


def _said(
    session_id: SessionId, turn: ScriptedTurn, sealer: Sealer | None, *, at: datetime
) -> list[dict[str, Any]]:
    if not has_reply(turn.messages):
        raise InvalidInput(
            "a turn of the history has no reply", hint="it ends with the assistant's"
        )
    reply = reply_in(turn.messages)
    theirs = {"session_id": session_id, "turn_id": turn.id, "created_at": at}
    rows = rows_of(turn.messages)
    if sealer is not None:
        sealer.messages(session_id, turn.id, rows)
    return [row | theirs | {"final": n == reply} for n, row in enumerate(rows)]
