"""Accepting many messages in one statement: the path of batches and `send_many`."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from turnmill.domain.ids import SessionId
from turnmill.store.engine import engine_of
from turnmill.store.records import Accepted, Item, NewTurn


def accept_many(conn: Connection, items: Sequence[Item]) -> list[Accepted]:
    """Accept messages in the order given, each as `accept` would; all of them, or none.

    Messages of one session keep their order. The error for a message that cannot be accepted
    carries its `index`; the caller rolls the transaction back then. Raises what `accept` raises,
    and SessionBusy when another transaction holds a session for longer than the lock timeout.
    """
    if not items:
        return []
    return engine_of(conn).accept_many(conn, items)


def accept_new(
    conn: Connection, session_ids: Sequence[SessionId], new_turns: Iterator[NewTurn]
) -> list[Accepted]:
    """Accept a message without a key for each of the sessions, as `accept_many` would.

    Each is taken from `new_turns` while the server writes those before it.
    """
    if not session_ids:
        return []
    return engine_of(conn).accept_new(conn, session_ids, new_turns)
