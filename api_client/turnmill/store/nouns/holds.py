"""Holds: of whom nothing may be deleted, since somebody has to be able to look at it yet."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, delete, select

from turnmill.domain.errors import UserErased, UserNotFound, UserOnHold
from turnmill.domain.ids import SessionId
from turnmill.domain.states import ErasureState
from turnmill.store.deletion_records import Hold
from turnmill.store.nouns.users import is_known
from turnmill.store.schema.erasure_tables import erasures, holds
from turnmill.store.schema.tables import sessions
from turnmill.store.types import insert_into, lock_table


def hold(conn: Connection, user_id: str, reason: str) -> Hold:
    """Let nobody delete what is the user's; raises UserNotFound.

    And UserErased where his erasure has begun: what of it has gone by now is gone.
    """
    conn.execute(lock_table(holds))
    begun = (erasures.c.user_id == user_id, erasures.c.state == ErasureState.ERASING)
    if conn.execute(select(erasures.c.state).where(*begun)).first() is not None:
        raise UserErased("the erasure of this user has begun", hint="a hold comes before it")
    if not is_known(conn, user_id):
        raise UserNotFound("nothing is known of such a user")
    statement = insert_into(conn, holds).values(user_id=user_id, reason=reason)
    held = statement.on_conflict_do_update(index_elements=["user_id"], set_={"reason": reason})
    return Hold(**conn.execute(held.returning(*holds.c)).one()._mapping)


def release(conn: Connection, user_id: str) -> bool:
    """End the hold; False where there is none."""
    return conn.execute(delete(holds).where(holds.c.user_id == user_id)).rowcount > 0


def find(conn: Connection, *, after: str | None = None, limit: int = 100) -> list[Hold]:
    """Return up to `limit` holds in the order of their users; `after` is the last of a page."""
    query = select(holds).order_by(holds.c.user_id).limit(limit)
    if after is not None:
        query = query.where(holds.c.user_id > after)
    return [Hold(**row._mapping) for row in conn.execute(query)]


def is_held(conn: Connection, user_id: str) -> bool:
    """Tell whether the user is on hold."""
    return conn.execute(select(holds.c.since).where(holds.c.user_id == user_id)).first() is not None


def refuse_held(conn: Connection, user_id: str) -> None:
    """Raise UserOnHold where nothing of the user may be deleted."""
    if is_held(conn, user_id):
        raise UserOnHold()


def refuse_held_sessions(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Raise UserOnHold where one of these sessions is of a user on hold."""
    mine = select(holds.c.since).join(sessions, sessions.c.user_id == holds.c.user_id)
    found = conn.execute(mine.where(sessions.c.id.in_(list(session_ids))).limit(1)).first()
    if found is not None:
        raise UserOnHold()


def not_on_hold() -> ColumnElement[bool]:
    """Return which sessions are of nobody on hold, as a part of a query over sessions."""
    return nobody_holds(sessions.c.user_id)


def nobody_holds(whose: Column[Any]) -> ColumnElement[bool]:
    """Return which rows are of nobody on hold, by the column that names their user."""
    held = select(holds.c.user_id).where(holds.c.user_id == whose)
    return ~held.correlate(whose.table).exists()
