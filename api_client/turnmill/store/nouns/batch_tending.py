"""What is to be done about batches from time to time, by whoever looks: each step for itself."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, true, update

from turnmill.domain.batches import BatchState
from turnmill.domain.ids import BatchId, TurnId
from turnmill.domain.states import FOR_ACCOUNT, FOR_BUDGET, TurnState, sources_of
from turnmill.store.line.endings import end_turns
from turnmill.store.line.head import skipping_busy
from turnmill.store.nouns.awaited_budgets import awaited
from turnmill.store.nouns.batch_counts import is_open
from turnmill.store.nouns.batch_ends import end_if_over
from turnmill.store.nouns.batch_pauses import (
    UNPRICED,
    batches_of,
    failed_unpriced,
    failing_code,
    hold,
    let_go,
    names_trial,
    pause,
    refusal_for_good,
    stands_still,
)
from turnmill.store.nouns.batch_waves import fail_rest
from turnmill.store.records import Moved
from turnmill.store.schema.batch_tables import to_be_tended
from turnmill.store.schema.tables import IN_BATCH, batches, sessions, turns
from turnmill.store.types import db_asof, db_asof_after, db_now

#: Why a batch has stopped itself, where it is not the code of what it failed with.
BEYOND_ITS_COST = "max_cost_usd"

#: What ends with a batch that is cut short: what runs, or is at its vendor, comes to its own end.
_ENDS: Mapping[BatchState, TurnState] = {
    BatchState.CANCELLED: TurnState.CANCELLED,
    BatchState.EXPIRED: TurnState.EXPIRED,
}
_NOTHING = Moved(0, [])


def due(conn: Connection, *, every: timedelta = timedelta(0)) -> list[BatchId]:
    """Return the batches that have begun, and of which nobody has noted that they have ended.

    But for those that somebody has looked at since `every` ago: however many look, one is enough.
    """
    lately = batches.c.tended_at > db_asof_after(-every.total_seconds())
    query = select(batches.c.id).where(to_be_tended(), func.coalesce(~lately, true()))
    return [BatchId(one) for one in conn.scalars(query.order_by(batches.c.id))]


def failing(conn: Connection, turn_ids: Collection[TurnId]) -> list[BatchId]:
    """Return those of the turns' batches that are to be stopped, or that were just now."""
    return [one for one in batches_of(conn, turn_ids) if failing_code(conn, one) is not None]


def tend(conn: Connection, batch_id: BatchId, *, limit: int = 500) -> Moved:
    """Do the next that is to be done about a batch; nothing where somebody else is at it.

    Up to `limit` turns are moved: call it again while as many are. The caller's transaction.
    """
    mine = select(batches).where(batches.c.id == batch_id, to_be_tended())
    row = conn.execute(mine.with_for_update(skip_locked=True, key_share=True)).one_or_none()
    if row is None:
        return _NOTHING
    conn.execute(update(batches).where(batches.c.id == batch_id).values(tended_at=db_now()))
    state = _now(conn, row)
    moved = _NOTHING
    if state in _ENDS:
        moved = _end(conn, batch_id, _ENDS[state], limit=limit)
    elif state is BatchState.PAUSED:
        moved = hold(conn, batch_id, limit=limit)
    elif state is BatchState.RUNNING:
        if row.resumed_at is not None:
            moved = let_go(conn, batch_id, limit=limit)
        if not moved.turns:
            moved = fail_rest(conn, batch_id, limit=limit)
    if not moved.turns:
        end_if_over(conn, batch_id)
    return moved


def _now(conn: Connection, row: Any) -> BatchState:
    """Return where the batch stands from now on."""
    state, batch_id = BatchState(row.state), BatchId(row.id)
    if state in (BatchState.RUNNING, BatchState.PAUSED) and _is_late(conn, batch_id):
        return _become(conn, batch_id, BatchState.EXPIRED)
    if state is BatchState.RUNNING and (because := _reason_to_stop(conn, row)) is not None:
        pause(conn, batch_id, because)
        return BatchState.PAUSED
    return state


def _reason_to_stop(conn: Connection, row: Any) -> str | None:
    batch_id = BatchId(row.id)
    waits_for = stands_still(conn, batch_id)
    if waits_for == FOR_BUDGET and row.max_cost_usd is not None and _is_its_own(conn, batch_id):
        return BEYOND_ITS_COST
    if waits_for == FOR_ACCOUNT and (code := refusal_for_good(conn, batch_id)) is not None:
        return code
    if not _goes_on(conn, row):
        return None
    # Of a trial they fail one by one, and count among what could not be compared.
    is_limited = row.max_cost_usd is not None and not names_trial(row.metadata)
    if is_limited and failed_unpriced(conn, batch_id):
        return UNPRICED
    return failing_code(conn, batch_id)


def _is_its_own(conn: Connection, batch_id: BatchId) -> bool:
    """Tell whether it is the batch's own budget that its turns wait for: the others begin anew."""
    waiting = select(turns.c.id).where(is_open(batch_id), turns.c.waits_for == FOR_BUDGET)
    turn_id = conn.scalar(waiting.limit(1))
    found = None if turn_id is None else awaited(conn, [turn_id]).get(turn_id)
    return found is not None and found.is_of_batch


def _goes_on(conn: Connection, row: Any) -> bool:
    """Tell whether there is anything left that could be stopped."""
    left = select(turns.c.id).where(is_open(row.id)).limit(1)
    return bool(row.fed_line < row.last_line) or conn.execute(left).first() is not None


def _is_late(conn: Connection, batch_id: BatchId) -> bool:
    late = select(batches.c.id).where(batches.c.id == batch_id, batches.c.deadline <= db_asof())
    return conn.execute(late).first() is not None


def _become(conn: Connection, batch_id: BatchId, state: BatchState) -> BatchState:
    values = {"state": state, "paused_because": None}
    conn.execute(update(batches).where(batches.c.id == batch_id).values(**values))
    return state


def _end(conn: Connection, batch_id: BatchId, state: TurnState, *, limit: int) -> Moved:
    which = and_(is_open(batch_id), waits(state))
    found = (
        select(turns.c.id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(which)
        .limit(limit)
    )
    ids = conn.scalars(skipping_busy(found)).all()
    return end_turns(conn, state, turns.c.id.in_(ids), waits(state)) if ids else _NOTHING


def waits(state: TurnState) -> ColumnElement[bool]:
    """Return which turns are ended at once, as this, with their batch.

    Not what runs, nor what is in a batch of its vendor's: that may have been answered.
    """
    sources = sorted(sources_of(state) - {TurnState.RUNNING})
    for_batch = and_(turns.c.state == TurnState.WAITING, turns.c.waits_for == IN_BATCH)
    at_vendor = and_(for_batch, turns.c.native_ref != "")
    return and_(turns.c.state.in_(sources), or_(turns.c.waits_for.is_(None), ~at_vendor))
