"""What those who may only look have asked for, by the functions `ask_cancel` and `ask_retry`."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from turnmill.domain.errors import TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.store.nouns.turns import cancel, retry
from turnmill.store.records import Head
from turnmill.store.schema.tables import wishes


def grant_one(conn: Connection, *, new_id: TurnId) -> Sequence[Head] | None:
    """Do what was asked for longest, or nothing where the turn does not allow it any more.

    Return the heads due now; None when nothing is asked for, or others see to all of it. In the
    caller's transaction.
    """
    oldest = select(wishes.c.turn_id).order_by(wishes.c.at).limit(1)
    one = oldest.with_for_update(skip_locked=True).scalar_subquery()
    found = conn.execute(
        delete(wishes).where(wishes.c.turn_id == one).returning(wishes.c.turn_id, wishes.c.verb)
    ).first()
    if found is None:
        return None
    turn_id = TurnId(found.turn_id)
    try:
        with conn.begin_nested():
            if found.verb == "cancel":
                return cancel(conn, turn_id)[1]
            retry(conn, turn_id, new_id=new_id)
    except TurnmillError:  # it is gone, or ended otherwise meanwhile
        return []
    return []  # the look for what is due finds it
