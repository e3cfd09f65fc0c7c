"""Holds: of whom nothing may be deleted, since somebody has to be able to look at it yet."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, delete, select

from turnmill.domain.errors import UserErased, UserNotFound, UserOnHold
from turnmill.domain.ids import SessionId
from turnmill.domain.states import ErasureState
from turnmill.store.deletion_records import Hold
from turnmill.store.nouns.users import is_known
from turnmill.store.schema.belongings import SPOKEN
from turnmill.store.schema.erasure_tables import erasures, holds
from turnmill.store.schema.file_tables import attachments
from turnmill.store.schema.tables import sessions
from turnmill.store.types import insert_into, lock_table


def hold(conn: Connection, user_id: str, reason: str) -> Hold:
    """Let nobody delete what is the user's; raises UserNotFound.

    And UserErased where his erasure has begun, or that of somebody who has spoken in a session of
    his: what of it has gone by now is gone. What is being deleted at this moment is waited for.
    """
    conn.execute(lock_table(holds))
    begun = _begun(conn, user_id)
    if user_id in begun:
        raise UserErased("the erasure of this user has begun", hint="a hold comes before it")
    if begun:
        raise UserErased(
            "somebody is being erased who has spoken in a session of this user",
            hint="`turnmill users hold` again when that is over: it takes in what is left",
        )
    if not is_known(conn, user_id):
        raise UserNotFound("nothing is known of such a user")
    statement = insert_into(conn, holds).values(user_id=user_id, reason=reason)
    held = statement.on_conflict_do_update(index_elements=["user_id"], set_={"reason": reason})
    found = Hold(**conn.execute(held.returning(*holds.c)).one()._mapping)
    _wait_for_deletions(conn, user_id)
    return found


def _wait_for_deletions(conn: Connection, user_id: str) -> None:
    """Return when nobody deletes anything of the user's who has not seen his hold.

    Whoever deletes a session or a file looks for holds under its lock.
    """
    for table in (sessions, attachments):
        mine = select(table.c.id).where(table.c.user_id == user_id).order_by(table.c.id)
        conn.execute(mine.with_for_update(read=True)).all()


def release(conn: Connection, user_id: str) -> bool:
    """End the hold; False where there is none."""
    return conn.execute(delete(holds).where(holds.c.user_id == user_id)).rowcount > 0


def find(conn: Connection, *, after: str | None = None, limit: int = 100) -> list[Hold]:
    """Return up to `limit` holds in the order of their users; `after` is the last of a page."""
    query = select(holds).order_by(holds.c.user_id).limit(limit)
    if after is not None:
        query = query.where(holds.c.user_id > after)
    return [Hold(**row._mapping) for row in conn.execute(query)]


def _begun(conn: Connection, user_id: str) -> set[str]:
    """Return of whom an erasure has begun that takes something from this user's sessions."""
    names = [user_id]
    for where, who in SPOKEN:
        mine = select(who).join(sessions, sessions.c.id == where).distinct()
        names += conn.scalars(mine.where(sessions.c.user_id == user_id, who.in_(_being_erased())))
    found = conn.scalars(_being_erased().where(erasures.c.user_id.in_(names)))
    return {one for one in found if one is not None}


def _being_erased() -> Any:
    return select(erasures.c.user_id).where(erasures.c.state == ErasureState.ERASING)


def is_kept(conn: Connection, user_id: str) -> bool:
    """Tell whether the user is on hold, or has spoken in a session of somebody who is."""
    return _is_held(conn, user_id) or _speaks_in_held(conn, user_id)


def refuse_kept(conn: Connection, user_id: str) -> None:
    """Raise UserOnHold where the user must not be erased: see `is_kept`."""
    refuse_held(conn, user_id)
    if _speaks_in_held(conn, user_id):
        raise UserOnHold("the user has spoken in a session of somebody who is on hold")


def refuse_held(conn: Connection, user_id: str) -> None:
    """Raise UserOnHold where nothing of the user may be deleted."""
    if _is_held(conn, user_id):
        raise UserOnHold()


def _is_held(conn: Connection, user_id: str) -> bool:
    return conn.execute(select(holds.c.since).where(holds.c.user_id == user_id)).first() is not None


def _speaks_in_held(conn: Connection, user_id: str) -> bool:
    held = select(holds.c.since).join(sessions, sessions.c.user_id == holds.c.user_id)
    return any(
        conn.execute(
            held.join(who.table, where == sessions.c.id).where(who == user_id).limit(1)
        ).first()
        for where, who in SPOKEN
    )


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
