"""Turns after they were accepted: reading, cancelling, retrying."""

from collections.abc import Collection, Sequence
from datetime import datetime
from operator import eq, ge, le, lt
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, or_, select, text, update

from turnmill.domain.content import Message
from turnmill.domain.errors import (
    ContentGone,
    MoveRefused,
    SessionArchived,
    TurnNotFound,
    UnreadableRow,
)
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.json_values import Unreadable
from turnmill.domain.states import (
    BETWEEN_STEPS,
    FINAL,
    WAITS_FOR,
    Lane,
    SessionStatus,
    TurnState,
    sources_of,
)
from turnmill.store.codec import parts_from
from turnmill.store.engine import engine_of
from turnmill.store.line.accept import accept
from turnmill.store.line.content import content_is_gone
from turnmill.store.line.endings import end_turns, queue_again
from turnmill.store.line.head import lock_sessions, move_lines
from turnmill.store.message_records import MessageRecord
from turnmill.store.nouns.answering import (
    answered_because,
    answered_by,
    attempt_columns,
    attempt_of,
)
from turnmill.store.nouns.sessions import history
from turnmill.store.readable import read_one, read_page
from turnmill.store.records import Accepted, Head, NewTurn
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import attempts, messages, sessions, turns
from turnmill.store.turn_records import AttemptRecord, TurnRecord
from turnmill.store.types import db_now
from turnmill.store.vaults import plain
from turnmill.wire import CANCEL_CHANNEL

_SHOWN = {
    **dict(turns.c.items()),
    "answered_by": answered_by(),
    "answered_because": answered_because(),
}
_COLUMNS = tuple(_SHOWN[name] for name in TurnRecord.__dataclass_fields__)

#: Final states that `retry` leads out of.
RETRIED = sources_of(TurnState.QUEUED) & FINAL


def get(conn: Connection, turn_id: TurnId) -> TurnRecord:
    """Return the turn as it stands, or raise TurnNotFound."""
    row = conn.execute(_visible().where(turns.c.id == turn_id)).one_or_none()
    if row is None:
        raise TurnNotFound()
    return read_one(row, _record)


def find(
    conn: Connection,
    *,
    session_id: SessionId | None = None,
    batch_id: BatchId | None = None,
    user_id: str | None = None,
    lane: Lane | None = None,
    states: Sequence[TurnState] = (),
    error_code: str | None = None,
    created_before: datetime | None = None,
    waits_for: Collection[str] = (),
    run_again: bool | None = None,
    ids: tuple[UUID, UUID] | None = None,
    after: TurnId | None = None,
    limit: int = 100,
) -> list[TurnRecord]:
    """Return up to `limit` turns, newest first; `after` is the last id of the page before.

    `ids` are the least and the largest that are wanted; `waits_for` is what they wait for, one of
    these.
    """
    least, largest = ids or (None, None)
    filters = (
        (eq, turns.c.session_id, session_id),
        (eq, turns.c.batch_id, batch_id),
        (eq, sessions.c.user_id, user_id),
        (eq, turns.c.lane, lane),
        (eq, turns.c.error_code, error_code),
        (lt, turns.c.created_at, created_before),
        (ge, turns.c.id, least),
        (le, turns.c.id, largest),
        (lt, turns.c.id, after),
    )
    wanted = [holds(column, value) for holds, column, value in filters if value is not None]
    if states:
        wanted.append(turns.c.state.in_(states))
    if waits_for:
        wanted.append(_waits_for(waits_for))
    if run_again is not None:
        wanted.append(has_run_again() if run_again else ~has_run_again())
    query = _visible().where(*wanted)
    return read_page(conn, query, _record, by=turns.c.id, limit=limit)


def has_run_again() -> ColumnElement[bool]:
    """Return whether a turn was retried as a new one at the end of its session."""
    copy = turns.alias("copy")
    return exists().where(
        copy.c.session_id == turns.c.session_id,
        copy.c.seq > turns.c.seq,  # by the index of the line
        copy.c.retry_of == turns.c.id,
    )


def _waits_for(names: Collection[str]) -> ColumnElement[bool]:
    """Return whether a turn waits for one of these.

    One whose tools run meanwhile may wait for somebody outside as well.
    """
    from turnmill.store.schema.step_tables import (  # noqa: PLC0415  few look for any
        WAITING_CALL_SQL,
        tool_calls,
    )

    calls = [state for state, name in WAITS_FOR.items() if name in names]
    has_call = select(tool_calls.c.turn_id).where(
        tool_calls.c.state.in_(calls), text(WAITING_CALL_SQL)
    )
    asked = and_(turns.c.id.in_(has_call), turns.c.state.not_in(FINAL))
    others = [name for name in names if name not in BETWEEN_STEPS]
    if not others:
        return asked  # by itself, it is looked up among the few that wait
    put_off = and_(
        turns.c.waits_for.in_(others),
        turns.c.state.not_in(FINAL),
        turns.c.state != TurnState.RUNNING,
    )
    return or_(asked, put_off) if calls else put_off


def finished(conn: Connection, turn_ids: Sequence[TurnId]) -> list[TurnId]:
    """Return those of the turns that are final, or that are gone."""
    unfinished = conn.scalars(
        select(turns.c.id).where(turns.c.id.in_(turn_ids), turns.c.state.not_in(FINAL))
    )
    waiting = set(unfinished)
    return [turn_id for turn_id in turn_ids if turn_id not in waiting]


def attempts_of(conn: Connection, turn_id: TurnId) -> list[AttemptRecord]:
    """Return all attempts of the turn, first one first."""
    rows = conn.execute(
        select(*attempt_columns()).where(attempts.c.turn_id == turn_id).order_by(attempts.c.fence)
    )
    return [attempt_of(row) for row in rows]


def messages_of(conn: Connection, turn_id: TurnId) -> list[MessageRecord]:
    """Return the messages of the turn in order, the user's first; raises TurnNotFound.

    What stands before them, of a thread that was adopted, is the session's.
    """
    turn = get(conn, turn_id)
    said = history(conn, turn.session_id, after_seq=turn.seq - 1, limit=1)
    return [one for one in said if one.position >= 0]


def cancel(
    conn: Connection, turn_id: TurnId, *, keep_partial: bool = False
) -> tuple[TurnState, list[Head]]:
    """End the turn, at once where nothing runs; return its state now and the heads due now.

    A running turn keeps the state `running`: its owner is told to close the call, and the verdict
    will be `cancelled` whatever the provider says. With `keep_partial`, what had come of a streamed
    reply goes with that verdict. Work that a vendor does for it in the background is stopped by a
    worker afterwards. A final turn stays as it is.
    """
    state, _ = _lock(conn, turn_id)
    if state in FINAL:
        return state, []
    if state is TurnState.RUNNING:
        asked: dict[str, Any] = {"cancel_requested": True}
        if keep_partial:
            asked["keep_partial"] = turns.c.stream
        conn.execute(update(turns).where(turns.c.id == turn_id).values(asked))
        engine_of(conn).notify(conn, CANCEL_CHANNEL, [turn_id])
        return state, []
    sources = still_in(*sources_of(TurnState.CANCELLED))
    moved = end_turns(conn, TurnState.CANCELLED, turns.c.id == turn_id, sources)
    return TurnState.CANCELLED, moved.heads


def retry(
    conn: Connection, turn_id: TurnId, *, new_id: TurnId, seen: TurnRecord | None = None
) -> Accepted:
    """Run a failed or dead turn again.

    In place, with all its attempts given back, while no later turn of the session has started, nor
    is the second run of an earlier one: the order of the line is that in which things were said.
    Otherwise as a new turn at the end of the session, `new_id`, with `retry_of`. Raises
    MoveRefused for any other state, and where it was run again since it was `seen`, and
    ContentGone where nothing is left to be said again.
    """
    state, session_id = _lock(conn, turn_id)
    if state not in RETRIED:
        raise MoveRefused(
            f"a turn that is {state} cannot be retried", hint="only failed and dead turns can"
        )
    if seen is not None and (
        _ended_at(conn, turn_id) != seen.finished_at or _has_copy(conn, turn_id, session_id)
    ):
        raise MoveRefused("it was run again meanwhile", hint="`turnmill turns show ID` has its end")
    if content_is_gone(conn, turn_id):
        raise ContentGone("what was said in the turn is gone: it cannot be said again")
    if _is_overtaken(conn, turn_id, session_id):
        return _again_at_the_end(conn, turn_id, session_id, new_id)
    status = conn.scalar(select(sessions.c.status).where(sessions.c.id == session_id))
    if status == SessionStatus.ARCHIVED:
        raise SessionArchived()
    heads = queue_again(conn, turns.c.id == turn_id).heads
    announce = any(head.turn_id == turn_id for head in heads)
    return Accepted(turn_id=turn_id, session_id=session_id, created=False, announce=announce)


def _again_at_the_end(
    conn: Connection, turn_id: TurnId, session_id: SessionId, new_id: TurnId
) -> Accepted:
    """Send what was said in the turn once more, as a new one with all that belongs to it."""
    # Few are: whoever imports this module for another reason does not pay for it.
    from turnmill.store.line import shared_log  # noqa: PLC0415
    from turnmill.store.line.attached import use_again  # noqa: PLC0415
    from turnmill.store.nouns.copied_steps import first_step, take_along  # noqa: PLC0415
    from turnmill.store.rules.tallies import count_no_more  # noqa: PLC0415

    copy = _copy(conn, turn_id, new_id)
    if copy.batch_id is not None:
        # The new turn takes the old one's place in the batch, whose results are to show it.
        count_no_more(conn, turns.c.id == turn_id, runs_again=False)
        leave = {"batch_id": None, "batch_line": None}
        conn.execute(update(turns).where(turns.c.id == turn_id).values(**leave))
    accepted = accept(conn, session_id, copy)
    use_again(conn, turn_id, session_id, new_id)
    shared_log.copy_sender(conn, turn_id, new_id)
    if (first := first_step(conn, turn_id)) is not None:
        take_along(conn, turn_id, new_id, first=first)
    return accepted


def retry_once(
    conn: Connection, turn_id: TurnId, *, new_id: TurnId, upto: datetime
) -> Accepted | None:
    """Run a failed or dead turn again; None where that was done, or it ended after `upto`.

    Raises what `retry` raises.
    """
    state, session_id = _lock(conn, turn_id)
    ended_at = _ended_at(conn, turn_id)
    if state not in RETRIED or ended_at is None or ended_at > upto:
        return None
    if _has_copy(conn, turn_id, session_id):
        return None
    return retry(conn, turn_id, new_id=new_id)


def release_held(conn: Connection, turn_id: TurnId) -> list[Head]:
    """Let a turn that is held as ambiguous go on; return the heads due now.

    The provider is asked what became of it, where it can tell, and otherwise it is sent again.
    """
    state, session_id = _lock(conn, turn_id)
    if state is not TurnState.UNKNOWN:
        raise MoveRefused(f"a turn that is {state} is not held", hint="only unknown turns are")
    # The note that a call had left is what holds the turn.
    let_go = {"sent_at": None, "available_at": db_now()}
    conn.execute(update(turns).where(turns.c.id == turn_id).values(let_go))
    return move_lines(conn, [session_id])


def _lock(conn: Connection, turn_id: TurnId) -> tuple[TurnState, SessionId]:
    session_id = conn.scalar(
        select(turns.c.session_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id == turn_id, sessions.c.status != SessionStatus.DELETED)
    )
    if session_id is None:
        raise TurnNotFound()
    lock_sessions(conn, [SessionId(session_id)])
    state = conn.scalar(select(turns.c.state).where(turns.c.id == turn_id))
    if state is None:
        raise TurnNotFound()
    return read_one(state, TurnState), SessionId(session_id)


def _ended_at(conn: Connection, turn_id: TurnId) -> datetime | None:
    return conn.scalar(select(turns.c.finished_at).where(turns.c.id == turn_id))


def _has_copy(conn: Connection, turn_id: TurnId, session_id: SessionId) -> bool:
    copies = select(turns.c.id).where(turns.c.session_id == session_id, turns.c.retry_of == turn_id)
    return conn.execute(copies.limit(1)).first() is not None


def _is_overtaken(conn: Connection, turn_id: TurnId, session_id: SessionId) -> bool:
    seq = select(turns.c.seq).where(turns.c.id == turn_id).scalar_subquery()
    mine = turns.c.session_id == session_id
    earlier = select(turns.c.id).where(mine, turns.c.seq < seq)
    later = select(turns.c.id).where(
        mine,
        turns.c.seq > seq,
        or_(turns.c.started_at.is_not(None), turns.c.retry_of.in_(earlier)),
    )
    return conn.execute(later.limit(1)).first() is not None


def _copy(conn: Connection, turn_id: TurnId, new_id: TurnId) -> NewTurn:
    from turnmill.store.nouns.copied_steps import first_step  # noqa: PLC0415

    old = conn.execute(select(turns).where(turns.c.id == turn_id)).one()
    if isinstance(old.metadata, Unreadable):
        raise UnreadableRow()  # the copy would be without it, and nobody told
    first = first_step(conn, turn_id)
    before = () if first is None else (messages.c.position < first,)
    said = conn.execute(
        select(messages.c.role, messages.c.content)
        .where(messages.c.turn_id == turn_id, messages.c.position >= 0, *before)
        .order_by(messages.c.position)
    ).all()
    return NewTurn(
        id=new_id,
        messages=[Message(one.role, read_one(one.content, parts_from)) for one in said],
        lane=Lane(old.lane),
        metadata=old.metadata,
        max_attempts=old.max_attempts,
        batch_id=old.batch_id,
        batch_line=old.batch_line,
        custom_id=old.custom_id,
        retry_of=turn_id,
        max_cost_usd=old.max_cost_usd,
        reply_as=old.reply_as,
    )


def _visible() -> Select[Any]:
    """Turns of sessions that were not deleted."""
    return (
        select(*_COLUMNS)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(sessions.c.status != SessionStatus.DELETED)
    )


def _record(row: Any) -> TurnRecord:
    values = dict(row._mapping)
    values["state"] = TurnState(values["state"])
    values["lane"] = Lane(values["lane"])
    values["metadata"] = plain(values["metadata"])
    return TurnRecord(**values)
