"""Batches whose time is over: their lines go, and later what is left of them."""

from contextlib import suppress
from datetime import timedelta

from sqlalchemy import Connection, delete, select, update

from turnmill.domain.budgets import Period, Scope
from turnmill.domain.errors import BudgetNotFound
from turnmill.domain.ids import BatchId
from turnmill.store.budget_records import Holder
from turnmill.store.nouns import budgets
from turnmill.store.schema.batch_tables import batch_lines, batch_shards
from turnmill.store.schema.erasure_tables import holds
from turnmill.store.schema.tables import batches, turns
from turnmill.store.types import db_asof_after, db_now

_HAS_LINES = select(batch_lines.c.line).where(batch_lines.c.batch_id == batches.c.id).exists()
_HAS_TURNS = select(turns.c.id).where(turns.c.batch_id == batches.c.id).exists()
#: A vendor is still to be asked, or to delete what it keeps.
_IS_AT_VENDOR = (
    select(batch_shards.c.id)
    .where(batch_shards.c.batch_id == batches.c.id, batch_shards.c.due_at.is_not(None))
    .exists()
)
#: A line is of somebody of whom nothing may be deleted.
_IS_HELD = (
    select(holds.c.user_id)
    .join(batch_lines, batch_lines.c.user_id == holds.c.user_id)
    .where(batch_lines.c.batch_id == batches.c.id)
    .correlate(batches)
    .exists()
)


def purge_lines(conn: Connection, *, older_than: timedelta, limit: int = 5_000) -> int:
    """Remove up to `limit` lines of a batch that ended longer ago than that; return how many.

    From the first one on the batch has no results: nobody is shown a part of them. What its turns
    said is their sessions', and stays; so do the counts, and what it has cost.
    """
    batch_id = _purging(conn) or _over(conn, older_than)
    if batch_id is None:
        return 0
    mine = batch_lines.c.batch_id == batch_id
    some = select(batch_lines.c.line).where(mine).limit(limit)
    gone = conn.execute(delete(batch_lines).where(mine, batch_lines.c.line.in_(some))).rowcount
    return gone or 1  # a batch of before has none, and its own row was changed


def forget_batches(conn: Connection, *, older_than: timedelta, limit: int = 100) -> int:
    """Remove up to `limit` batches whose lines went longer ago, and their turns too; how many."""
    old = batches.c.purged_at < db_asof_after(-older_than.total_seconds())
    found = select(batches.c.id).where(old, ~_HAS_LINES, ~_HAS_TURNS).order_by(batches.c.id)
    locked = conn.scalars(found.limit(limit).with_for_update(skip_locked=True)).all()
    for one in locked:
        with suppress(BudgetNotFound):
            budgets.remove(conn, Holder(Scope.BATCH, str(one)), Period.TOTAL)
    return conn.execute(delete(batches).where(batches.c.id.in_(locked))).rowcount


def _purging(conn: Connection) -> BatchId | None:
    """Return a batch of which some lines went, and others are left."""
    begun = select(batches.c.id).where(batches.c.purged_at.is_not(None), _HAS_LINES).limit(1)
    found = conn.scalar(begun)
    return None if found is None else BatchId(found)


def _over(conn: Connection, older_than: timedelta) -> BatchId | None:
    """Take a batch whose time is over, and have no results shown of it from now on."""
    over = (
        batches.c.ended_at < db_asof_after(-older_than.total_seconds()),
        batches.c.purged_at.is_(None),
        ~_IS_AT_VENDOR,
        ~_IS_HELD,
    )
    first = select(batches.c.id).where(*over).order_by(batches.c.ended_at).limit(1)
    found = conn.scalar(first.with_for_update(skip_locked=True))
    if found is None:
        return None
    conn.execute(update(batches).where(batches.c.id == found).values(purged_at=db_now()))
    return BatchId(found)
