"""Cancelling a batch and running its failed turns again, a page of lines at a time."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from turnmill.domain.batches import OVER, BatchMode, BatchState
from turnmill.domain.errors import BatchPurged, MoveRefused, UnreadableRow
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import FINAL, Lane, SessionStatus, TurnState, sources_of
from turnmill.store.engine import engine_of
from turnmill.store.line.content import is_gone
from turnmill.store.line.endings import end_turns, queue_again
from turnmill.store.line.head import lock_sessions
from turnmill.store.nouns import batch_pauses
from turnmill.store.nouns.batch_counts import is_open
from turnmill.store.nouns.batch_tending import waits
from turnmill.store.nouns.batch_waves import failed_before
from turnmill.store.nouns.batches import locked
from turnmill.store.nouns.budgets import bound_batch
from turnmill.store.nouns.turns import retry
from turnmill.store.postgres.batching import park
from turnmill.store.records import Accepted, Head, Moved
from turnmill.store.schema.tables import batches, sessions, turns
from turnmill.store.types import db_now
from turnmill.wire import CANCEL_CHANNEL

_RETRYABLE = sources_of(TurnState.QUEUED) & FINAL
_ENDS_AT_ONCE = waits(TurnState.CANCELLED)
_OPEN = (SessionStatus.ACTIVE, SessionStatus.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was done to one page of a batch."""

    last_line: int  #: go on after this one
    moved: int  #: turns that were cancelled, or asked to stop, or that will run again
    heads: Sequence[Head]  #: due now: announce them


def mark_cancelled(conn: Connection, batch_id: BatchId) -> bool:
    """Make no further turn of it; one that has ended stays, and False. Raises BatchNotFound."""
    locked(conn, batch_id)
    goes_on = (batches.c.id == batch_id, batches.c.state.not_in(sorted(OVER)))
    values = {"state": BatchState.CANCELLED, "paused_because": None, "cancelled_at": db_now()}
    return conn.execute(update(batches).where(*goes_on).values(**values)).rowcount > 0


def pause(conn: Connection, batch_id: BatchId) -> bool:
    """Let no further turn of it begin; False where it is paused.

    Raises BatchNotFound, and MoveRefused where it does not run.
    """
    locked(conn, batch_id)
    if batch_pauses.pause(conn, batch_id, None):
        return True
    state = _state(conn, batch_id)
    if state is not BatchState.PAUSED:
        raise MoveRefused(f"a batch that is {state} cannot be paused", hint="it does not run")
    return False


def resume(conn: Connection, batch_id: BatchId) -> bool:
    """Let it go on; False where it runs. Raises BatchNotFound, and MoveRefused for any other."""
    locked(conn, batch_id)
    if batch_pauses.resume(conn, batch_id):
        return True
    state = _state(conn, batch_id)
    if state is not BatchState.RUNNING:
        raise MoveRefused(
            f"a batch that is {state} cannot be resumed", hint="only a paused one can"
        )
    return False


def hold_page(conn: Connection, batch_id: BatchId) -> Page | None:
    """Hold turns of a batch that is paused, or let those go of one that runs; None: all are."""
    state = _state(conn, batch_id)
    move = batch_pauses.hold if state is BatchState.PAUSED else batch_pauses.let_go
    moved = move(conn, batch_id)
    return Page(last_line=0, moved=moved.turns, heads=moved.heads) if moved.turns else None


def bound(
    conn: Connection,
    batch_id: BatchId,
    *,
    max_cost_usd: Decimal | None,
    deadline: datetime | None,
    budget_id: UUID,
) -> None:
    """Bound what a batch costs, and how long it runs; None: as before. Its row is locked."""
    given = {"max_cost_usd": max_cost_usd, "deadline": deadline}
    values = {name: value for name, value in given.items() if value is not None}
    if values:
        conn.execute(update(batches).where(batches.c.id == batch_id).values(**values))
    if max_cost_usd is not None:
        bound_batch(conn, batch_id, max_cost_usd, budget_id=budget_id)


def _state(conn: Connection, batch_id: BatchId) -> BatchState:
    query = select(batches.c.state).where(batches.c.id == batch_id)
    return BatchState(conn.scalars(query).one())


def mark_running_again(conn: Connection, batch_id: BatchId) -> bool:
    """Let the batch come to its end once more, before its failed turns run again; False: none has.

    Then one that has ended stays so, and nobody is told of its end again. Raises BatchNotFound,
    MoveRefused where it was cut short: what it lacks is no failure; and BatchPurged where its lines
    went.
    """
    if locked(conn, batch_id).purged_at is not None:
        raise BatchPurged("the lines of the batch are gone: its time was over")
    state = _state(conn, batch_id)
    if state in (BatchState.CANCELLED, BatchState.EXPIRED):
        raise MoveRefused(
            f"the batch is {state}: its failed turns do not run again by it",
            hint="retry its turns one by one, or submit the file under another name",
        )
    if not _any_again(conn, batch_id):
        return False
    if state in OVER:
        again = {"state": BatchState.RUNNING, "ended_at": None, "told_at": None}
        conn.execute(update(batches).where(batches.c.id == batch_id).values(**again))
    return True


def cancel_page(conn: Connection, batch_id: BatchId, *, limit: int = 500) -> Page | None:
    """End unfinished turns, each as `turns.cancel` would; None: there is none left."""
    running = and_(turns.c.state == TurnState.RUNNING, ~turns.c.cancel_requested)
    found = conn.execute(
        select(turns.c.id, turns.c.session_id)
        .where(is_open(batch_id), or_(running, _ENDS_AT_ONCE))
        .limit(limit)
    ).all()
    if not found:
        return None
    lock_sessions(conn, {SessionId(row.session_id) for row in found})
    ids = [row.id for row in found]
    ended = end_turns(conn, TurnState.CANCELLED, turns.c.id.in_(ids), _ENDS_AT_ONCE)
    asked = update(turns).where(turns.c.id.in_(ids), running).values(cancel_requested=True)
    stopped = conn.scalars(asked.returning(turns.c.id)).all()
    if stopped:
        engine_of(conn).notify(conn, CANCEL_CHANNEL, stopped)
    return Page(last_line=0, moved=ended.turns + len(stopped), heads=ended.heads)


def retry_page(
    conn: Connection,
    batch_id: BatchId,
    *,
    new_id: Callable[[], UUID],
    after_line: int = 0,
    limit: int = 200,
) -> Page | None:
    """Run failed and dead turns after that line again, each as `turns.retry` would.

    Where that is how lines go on that were not run, in the next batch of their vendor's. Those of
    archived sessions, and those of which no content is left, stay as they are. None means that
    there is none left.
    """
    found = _page(conn, batch_id, _again(), after_line=after_line, limit=limit)
    if not found:
        return None
    of_sessions = {SessionId(row.session_id) for row in found}
    ids = [*failed_before(conn, batch_id, of_sessions), *(row.id for row in found)]
    again = _queue_again(conn, ids)
    heads = [*again.heads]
    # A later turn of their session has started: these go to its end, the earlier one first. Those
    # that somebody else has sent there since they were found are of the batch no more.
    mine = (turns.c.id.in_(ids), turns.c.batch_id == batch_id)
    rest = conn.scalars(
        select(turns.c.id)
        .where(*mine, turns.c.state.in_(_RETRYABLE))
        .order_by(turns.c.session_id, turns.c.seq)
    ).all()
    for turn_id in rest:
        with suppress(UnreadableRow):  # it stays as it is; the others run
            accepted = retry(conn, TurnId(turn_id), new_id=TurnId(new_id()))
            ids.append(accepted.turn_id)
            if accepted.announce:
                heads.append(_head(accepted))
    if _asks_its_vendor(conn, batch_id):
        park(conn, [TurnId(one) for one in ids])
        heads = []
    return Page(last_line=found[-1].batch_line, moved=again.turns + len(rest), heads=heads)


def _any_again(conn: Connection, batch_id: BatchId) -> bool:
    mine = turns.c.batch_id == batch_id, turns.c.batch_line > 0
    found = select(turns.c.id).join(sessions, sessions.c.id == turns.c.session_id)
    return conn.execute(found.where(*mine, _again()).limit(1)).first() is not None


def _again() -> ColumnElement[bool]:
    """Return which turns run again."""
    return turns.c.state.in_(_RETRYABLE) & sessions.c.status.in_(_OPEN) & ~is_gone()


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


def _asks_its_vendor(conn: Connection, batch_id: BatchId) -> bool:
    """Tell whether what is asked again goes into the next batch of the vendor's."""
    native = (batches.c.mode == BatchMode.NATIVE, batches.c.on_leftover == "next")
    found = select(batches.c.id).where(batches.c.id == batch_id, *native)
    return conn.execute(found).first() is not None


def _head(accepted: Accepted) -> Head:
    return Head(turn_id=accepted.turn_id, session_id=accepted.session_id, lane=Lane.BULK)
