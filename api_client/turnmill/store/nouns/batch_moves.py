"""Cancelling a batch and running its failed turns again, a page of lines at a time."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, select, update

from turnmill.domain.errors import UnreadableRow
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import FINAL, Lane, SessionStatus, TurnState, sources_of
from turnmill.store.engine import engine_of
from turnmill.store.line.content import is_gone
from turnmill.store.line.endings import end_turns, queue_again
from turnmill.store.line.head import lock_sessions
from turnmill.store.nouns.batches import locked
from turnmill.store.nouns.turns import retry
from turnmill.store.records import Head, Moved
from turnmill.store.schema.tables import batches, sessions, turns
from turnmill.store.types import db_now
from turnmill.wire import CANCEL_CHANNEL

_RETRYABLE = sources_of(TurnState.QUEUED) & FINAL
_NOT_RUNNING = sources_of(TurnState.CANCELLED) - {TurnState.RUNNING}
_OPEN = (SessionStatus.ACTIVE, SessionStatus.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was done to one page of a batch."""

    last_line: int  #: go on after this one
    moved: int  #: turns that were cancelled, or asked to stop, or that will run again
    heads: Sequence[Head]  #: due now: announce them


def mark_cancelled(conn: Connection, batch_id: BatchId) -> None:
    """Accept no further line. Raises BatchNotFound."""
    if locked(conn, batch_id).cancelled_at is None:
        conn.execute(update(batches).where(batches.c.id == batch_id).values(cancelled_at=db_now()))


def cancel_page(
    conn: Connection, batch_id: BatchId, *, after_line: int = 0, limit: int = 500
) -> Page | None:
    """End unfinished turns after that line, each as `turns.cancel` would; None: there is none."""
    found = _page(conn, batch_id, turns.c.state.not_in(FINAL), after_line=after_line, limit=limit)
    if not found:
        return None
    ids = [row.id for row in found]
    ended = end_turns(
        conn, TurnState.CANCELLED, turns.c.id.in_(ids), turns.c.state.in_(_NOT_RUNNING)
    )
    running = conn.scalars(
        update(turns)
        .where(turns.c.id.in_(ids), turns.c.state == TurnState.RUNNING)
        .values(cancel_requested=True)
        .returning(turns.c.id)
    ).all()
    if running:
        engine_of(conn).notify(conn, CANCEL_CHANNEL, running)
    return Page(
        last_line=found[-1].batch_line,
        moved=ended.turns + len(running),
        heads=ended.heads,
    )


def retry_page(
    conn: Connection,
    batch_id: BatchId,
    *,
    new_id: Callable[[], UUID],
    after_line: int = 0,
    limit: int = 200,
) -> Page | None:
    """Run failed and dead turns after that line again, each as `turns.retry` would.

    Those of archived sessions, and those of which no content is left, stay as they are. None means
    that there is none left.
    """
    failed = turns.c.state.in_(_RETRYABLE) & sessions.c.status.in_(_OPEN) & ~is_gone()
    found = _page(conn, batch_id, failed, after_line=after_line, limit=limit)
    if not found:
        return None
    ids = [row.id for row in found]
    conn.execute(update(batches).where(batches.c.id == batch_id).values(told_at=None))
    again = _queue_again(conn, ids)
    heads = [*again.heads]
    # A later turn of their session has started: these go to its end, the earlier one first.
    rest = conn.scalars(
        select(turns.c.id)
        .where(turns.c.id.in_(ids), turns.c.state.in_(_RETRYABLE))
        .order_by(turns.c.batch_line)
    ).all()
    for turn_id in rest:
        with suppress(UnreadableRow):  # it stays as it is; the others run
            heads += _retry(conn, TurnId(turn_id), new_id=new_id)
    return Page(last_line=found[-1].batch_line, moved=again.turns + len(rest), heads=heads)


def _page(
    conn: Connection,
    batch_id: BatchId,
    condition: ColumnElement[bool],
    *,
    after_line: int,
    limit: int,
) -> Sequence[Any]:
    """Find turns, and lock their sessions: what is asked next is newer than the locks."""
    found = conn.execute(
        select(turns.c.id, turns.c.session_id, turns.c.batch_line)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.batch_id == batch_id, turns.c.batch_line > after_line, condition)
        .order_by(turns.c.batch_line)
        .limit(limit)
    ).all()
    if found:
        lock_sessions(conn, {SessionId(row.session_id) for row in found})
    return found


def _queue_again(conn: Connection, ids: Sequence[UUID]) -> Moved:
    """Queue those turns in place that no later turn of their session forbids."""
    later = turns.alias("later")
    later_started = (
        select(later.c.id)
        .where(
            later.c.session_id == turns.c.session_id,
            later.c.seq > turns.c.seq,
            later.c.started_at.is_not(None),
        )
        .exists()
    )
    return queue_again(conn, turns.c.id.in_(ids), turns.c.state.in_(_RETRYABLE), ~later_started)


def _retry(conn: Connection, turn_id: TurnId, *, new_id: Callable[[], UUID]) -> list[Head]:
    accepted = retry(conn, turn_id, new_id=TurnId(new_id()))
    if not accepted.announce:
        return []
    return [Head(turn_id=accepted.turn_id, session_id=accepted.session_id, lane=Lane.BULK)]
