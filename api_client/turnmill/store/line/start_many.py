"""Starting many sessions, each with its first message, in one statement."""

from collections.abc import Sequence

from sqlalchemy import Connection

from turnmill.store.engine import engine_of
from turnmill.store.records import Accepted, Start


def start_many(conn: Connection, starts: Sequence[Start]) -> list[Accepted]:
    """Create sessions that do not exist yet, and accept one message in each; all, or none.

    A key that is taken is an error of the store: who cannot rule that out uses `create`.
    """
    if not starts:
        return []
    return engine_of(conn).start_many(conn, starts)
