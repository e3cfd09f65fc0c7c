"""Which models workers have prices of their own for, as they have said lately."""

from collections.abc import Collection
from datetime import timedelta
from hashlib import sha256

from sqlalchemy import Connection, delete, select

from turnmill.store.schema.limit_tables import price_lists
from turnmill.store.types import db_after, db_now, insert_into

#: Names of one list; a longer one is told of so far.
MOST = 2_000
#: A list that no worker has told of for so long is nobody's: each tells at its start, and upkeep of
#: one of them each hour.
KEPT_FOR = timedelta(days=2)
_MOST_LISTS = 100


def note(conn: Connection, models: Collection[str]) -> None:
    """Say that a worker has prices of these; the caller's transaction."""
    names = sorted(set(models))[:MOST]
    statement = insert_into(conn, price_lists).values(
        digest=sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest(),
        models=names,
        seen_at=db_now(),
    )
    conn.execute(
        statement.on_conflict_do_update(index_elements=["digest"], set_={"seen_at": db_now()})
    )


def noted(conn: Connection) -> frozenset[str]:
    """Return the names of all lists that workers have told of lately."""
    c = price_lists.c
    recent = c.seen_at > db_after(-KEPT_FOR.total_seconds())
    rows = conn.scalars(
        select(c.models).where(recent).order_by(c.seen_at.desc()).limit(_MOST_LISTS)
    )
    return frozenset(name for names in rows for name in names)


def forget(conn: Connection) -> int:
    """Remove lists that no worker has told of for long; return how many."""
    c = price_lists.c
    old = select(c.digest).where(c.seen_at < db_after(-KEPT_FOR.total_seconds())).limit(5_000)
    return conn.execute(delete(price_lists).where(c.digest.in_(old))).rowcount
