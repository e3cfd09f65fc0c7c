"""Reserving: before each paid call, the most that it may cost is taken from all budgets of it."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import Connection, select, update

from turnmill.domain.budgets import Period, next_warning, span_of
from turnmill.store.budget_records import Ask, Reserved
from turnmill.store.engine import engine_of
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.types import db_now


def reserve(conn: Connection, asks: Sequence[Ask], *, tags: Sequence[str]) -> list[Reserved]:
    """Reserve what these calls may cost, at most one of each turn, and tell what came of each.

    Under the fences of their claims. A claim that asks again, for its next call, gives back what it
    had. `tags` are the keys of metadata that budgets go by. One statement, and its own transaction
    unless the caller began one.
    """
    return engine_of(conn).reserve(conn, asks, tags=tags)


def begin_periods(conn: Connection, budget_ids: Collection[UUID]) -> None:
    """Let those of these budgets whose period has ended stand at the one that is now.

    In the caller's transaction. Calls that run were reserved in the period before, and are charged
    to it.
    """
    ended = select(budgets, db_now().label("now")).where(
        budgets.c.id.in_(list(budget_ids)), budgets.c.ends_at <= db_now()
    )
    locked = ended.order_by(budgets.c.id).with_for_update(key_share=True)
    for row in conn.execute(locked).all():
        span = span_of(Period(row.period), row.timezone, at=row.now)
        conn.execute(
            update(budgets)
            .where(budgets.c.id == row.id)
            .values(
                n=row.n + 1,
                starts_at=span.starts_at,
                ends_at=span.ends_at,
                spent_usd=0,
                reserved_usd=0,
                estimated_usd=0,
                forgotten_usd=0,
                told=0,
                tell_usd=next_warning(tuple(row.warn_at), told=0, limit_usd=row.limit_usd),
            )
        )
