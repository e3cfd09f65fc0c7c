"""Batches that are stopped: by somebody, or by themselves where going on makes no sense."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from turnmill.domain.batches import BatchState
from turnmill.domain.bounds import LONGEST_DELAY
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import FOR_ACCOUNT, FOR_BATCH, EventKind, TurnState
from turnmill.store.line.head import move_lines, skipping_busy
from turnmill.store.nouns.batch_counts import is_open
from turnmill.store.nouns.batch_ends import write_event
from turnmill.store.records import Moved
from turnmill.store.schema.batch_tables import batch_tallies
from turnmill.store.schema.limit_tables import accounts
from turnmill.store.schema.tables import IN_BATCH, batches, sessions, turns
from turnmill.store.types import Timestamp, db_after, db_now

#: So many endings of the same permanent code in a row stop a batch.
IN_A_ROW = 20

#: Of a model that nobody knows the price of, where a limit is to be kept to.
UNPRICED = "price_unknown"

_FAILED = (TurnState.DEAD.value, TurnState.FAILED.value)
_TO_BEGIN = turns.c.state.in_((TurnState.QUEUED, TurnState.RETRYING))
_HELD = and_(_TO_BEGIN, turns.c.waits_for == IN_BATCH)
_FREE = and_(_TO_BEGIN, or_(turns.c.waits_for.is_(None), turns.c.waits_for != IN_BATCH))


def pause(conn: Connection, batch_id: BatchId, because: str | None) -> bool:
    """Let no further turn of the batch begin; False where it does not run.

    `because` is a code; None: somebody wants it so. The caller's transaction.
    """
    runs = (batches.c.id == batch_id, batches.c.state == BatchState.RUNNING)
    values = {"state": BatchState.PAUSED, "paused_because": because}
    if conn.execute(update(batches).where(*runs).values(**values)).rowcount != 1:
        return False
    write_event(conn, batch_id, EventKind.BATCH_PAUSED)
    return True


def pause_for_account(conn: Connection, batch_id: BatchId, account: UUID, code: str) -> bool:
    """Pause the batch for an account that is closed for good; False where it does not run.

    Not if somebody has resumed it since: he knows, and it waits for the account alone.
    """
    closed_at = select(accounts.c.closed_at).where(accounts.c.id == account).scalar_subquery()
    known = select(batches.c.id).where(batches.c.id == batch_id, batches.c.resumed_at > closed_at)
    if conn.execute(known).first() is not None:
        return False
    return pause(conn, batch_id, code)


def resume(conn: Connection, batch_id: BatchId) -> bool:
    """Let the batch go on, whatever had stopped it; False where it is not paused."""
    paused = (batches.c.id == batch_id, batches.c.state == BatchState.PAUSED)
    values: dict[str, Any] = {"state": BatchState.RUNNING, "paused_because": None}
    statement = update(batches).where(*paused).values(**values, resumed_at=db_now())
    return conn.execute(statement).rowcount == 1


def hold(conn: Connection, batch_id: BatchId, *, limit: int = 500) -> Moved:
    """Keep up to `limit` turns of the batch from being begun, until it goes on.

    What a worker has in hand ends as it does.
    """
    values = {
        "waits_for": FOR_BATCH,
        "available_at": db_after(LONGEST_DELAY.total_seconds()),
    }
    return _move(conn, batch_id, _FREE, values, limit=limit)


def let_go(conn: Connection, batch_id: BatchId, *, limit: int = 500) -> Moved:
    """Let up to `limit` turns of the batch begin that were held."""
    values = {"waits_for": None, "available_at": db_now()}
    return _move(conn, batch_id, _HELD, values, limit=limit)


def failing_code(conn: Connection, batch_id: BatchId) -> str | None:
    """Return the code with which the last turns of the batch have failed; None: not all did.

    A code that is permanent: what is tried again until its attempts are used up is none. What was
    before the batch was resumed does not count.
    """
    failed = (turns.c.batch_id == batch_id, turns.c.batch_line.is_not(None))
    rows = conn.execute(
        select(turns.c.state, turns.c.error_code, turns.c.finished_at)
        .where(*failed, turns.c.state.in_(_FAILED))
        .order_by(turns.c.finished_at.desc())
        .limit(IN_A_ROW)
    ).all()
    codes = {row.error_code for row in rows}
    permanent = all(row.state == TurnState.FAILED for row in rows)
    if len(rows) < IN_A_ROW or len(codes) > 1 or not permanent:
        return None
    since: datetime | None = conn.scalar(_last_good(batch_id))
    if since is not None and rows[-1].finished_at <= since:
        return None
    return codes.pop() or TurnState.FAILED.value


def names_trial(metadata: Any) -> bool:
    """Tell whether a batch asks turns again, by what stands beside it."""
    return isinstance(metadata, dict) and "trial" in metadata


def failed_unpriced(conn: Connection, batch_id: BatchId) -> bool:
    """Tell whether a turn has failed for want of a price, since the batch was last resumed."""
    resumed = select(batches.c.resumed_at).where(batches.c.id == batch_id).scalar_subquery()
    since = or_(resumed.is_(None), turns.c.finished_at > resumed)
    mine = (turns.c.batch_id == batch_id, turns.c.state.in_(_FAILED), since)
    failed = select(turns.c.id).where(*mine, turns.c.error_code == UNPRICED)
    return conn.execute(failed.limit(1)).first() is not None


def stands_still(conn: Connection, batch_id: BatchId) -> str | None:
    """Return what a turn of the batch waits for that was put off; None: one runs, or may begin."""
    heads = (
        select(turns.c.waits_for)
        .join(sessions, sessions.c.head_turn_id == turns.c.id)
        .where(is_open(batch_id))
        .limit(1)
    )
    goes_on = or_(turns.c.state == TurnState.RUNNING, turns.c.waits_for.is_(None))
    if conn.execute(heads.where(goes_on)).first() is not None:
        return None
    found: str | None = conn.scalar(heads)
    return found


def refusal_for_good(conn: Connection, batch_id: BatchId) -> str | None:
    """Return the code with which an account has said never that turns of the batch wait for."""
    asked = (
        select(sessions.c.provider)
        .join(turns, turns.c.session_id == sessions.c.id)
        .where(is_open(batch_id), turns.c.waits_for == FOR_ACCOUNT)
    )
    closed = (accounts.c.closed_at.is_not(None), accounts.c.permanent)
    query = select(accounts.c.code).where(*closed, accounts.c.provider.in_(asked)).limit(1)
    found: str | None = conn.scalar(query)
    return found


def batches_of(conn: Connection, turn_ids: Collection[TurnId]) -> list[BatchId]:
    """Return the batches that these turns belong to."""
    query = select(turns.c.batch_id).where(turns.c.id.in_(turn_ids)).distinct()
    return [BatchId(one) for one in conn.scalars(query) if one is not None]


def _last_good(batch_id: BatchId) -> Any:
    """Return when the batch last had a reply, or was resumed."""
    replied = select(func.max(batch_tallies.c.last_at, type_=Timestamp)).where(
        batch_tallies.c.batch_id == batch_id, batch_tallies.c.state == TurnState.SUCCEEDED
    )
    resumed = select(batches.c.resumed_at).where(batches.c.id == batch_id)
    either = replied.union_all(resumed).subquery()
    return select(func.max(either.c[0], type_=Timestamp))


def _move(
    conn: Connection,
    batch_id: BatchId,
    which: ColumnElement[bool],
    values: dict[str, Any],
    *,
    limit: int,
) -> Moved:
    found = (
        select(turns.c.id, turns.c.session_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(is_open(batch_id), which)
        .limit(limit)
    )
    rows = conn.execute(skipping_busy(found)).all()
    if not rows:
        return Moved(0, [])
    ids = [row.id for row in rows]
    moved = conn.execute(update(turns).where(turns.c.id.in_(ids), which).values(**values)).rowcount
    heads = move_lines(conn, {SessionId(row.session_id) for row in rows})
    return Moved(moved, heads)
