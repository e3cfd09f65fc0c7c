"""For how long content of a user's sessions is kept, where that is not as everybody's."""

from datetime import timedelta

from sqlalchemy import Connection, delete, select

from turnmill.store.schema.life_tables import user_retention
from turnmill.store.types import db_now, insert_into


def keep_content_of(conn: Connection, user_id: str, keep: timedelta | None) -> None:
    """Keep what is said in the user's sessions for so long; None: as everybody's."""
    if keep is None:
        conn.execute(delete(user_retention).where(user_retention.c.user_id == user_id))
        return
    said = {"content_seconds": int(keep.total_seconds()), "set_at": db_now()}
    statement = insert_into(conn, user_retention).values(user_id=user_id, **said)
    conn.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=said))


def content_kept_of(conn: Connection, user_id: str) -> timedelta | None:
    """Return for how long it is kept; None: as everybody's."""
    seconds = conn.scalar(
        select(user_retention.c.content_seconds).where(user_retention.c.user_id == user_id)
    )
    return None if seconds is None else timedelta(seconds=seconds)
