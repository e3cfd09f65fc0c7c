"""What those who may only look have asked for, by the functions `ask_cancel` and `ask_retry`."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

from turnmill.domain.auditing import Action
from turnmill.domain.errors import TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.store.nouns.audit import audited, owners
from turnmill.store.nouns.turns import cancel, retry_once
from turnmill.store.records import Head
from turnmill.store.schema.house_tables import wishes


def grant_one(conn: Connection, *, new_id: TurnId) -> Sequence[Head] | None:
    """Do what was asked for longest, once, or nothing where the turn does not allow it any more.

    Return the heads due now; None when nothing is asked for, or another dispatcher sees to it. In
    the caller's transaction.
    """
    # One dispatcher at a time: two that each took one would commit them in any order, and turns of
    # a session run again in the order in which they were said.
    first = select(wishes.c.turn_id).order_by(wishes.c.at, wishes.c.turn_id).limit(1)
    free = select(wishes.c.turn_id).where(wishes.c.turn_id == first.scalar_subquery())
    one = free.with_for_update(skip_locked=True).scalar_subquery()
    found = conn.execute(
        delete(wishes)
        .where(wishes.c.turn_id == one)
        .returning(wishes.c.turn_id, wishes.c.verb, wishes.c.at, wishes.c.asked_by)
    ).first()
    if found is None:
        return None
    turn_id = TurnId(found.turn_id)
    try:
        with conn.begin_nested():
            heads = _do(conn, found.verb, turn_id, new_id=new_id, upto=found.at)
            if heads is not None:
                _note(conn, found.verb, turn_id, found.asked_by)
            return heads or []
    except TurnmillError:  # it is gone, or ended otherwise meanwhile
        return []


def _do(
    conn: Connection, verb: str, turn_id: TurnId, *, new_id: TurnId, upto: datetime
) -> Sequence[Head] | None:
    """Return the heads due now; None where it was run again already."""
    if verb == "cancel":
        return cancel(conn, turn_id)[1]
    done = retry_once(conn, turn_id, new_id=new_id, upto=upto)
    return None if done is None else []  # the look for what is due finds it


def _note(conn: Connection, verb: str, turn_id: TurnId, asked_by: str | None) -> None:
    audited(
        conn,
        Action.TURN_CANCELLED if verb == "cancel" else Action.TURN_RETRIED,
        actor=asked_by or "viewer",
        user_id=owners(conn, "turn", [turn_id]).get(turn_id),
        objects={"turn": turn_id},
    )
