"""Who wants to hear of which kinds of events: rows, so that whoever writes events knows it."""

from collections.abc import Collection

from sqlalchemy import Connection, delete, select, update

from turnmill.domain.states import ON_DEMAND, EventKind
from turnmill.store.nouns.batch_ends import is_untold
from turnmill.store.rules.wanted import forget
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.hook_tables import observed, subscriptions
from turnmill.store.schema.tables import batches, sessions
from turnmill.store.types import db_now, insert_into

#: Told of a batch once for all, whenever it has ended.
_OF_BATCHES = frozenset({EventKind.BATCH_FINISHED, EventKind.BATCH_EXPIRED})
#: Each part of an observer that is told in several ones is a reader, by the name of all and this.
PART = "/"


def subscribe(conn: Connection, subscriber: str, kinds: Collection[str]) -> None:
    """Have events of these kinds written from now on, and none for this subscriber's sake else.

    Other processes hear of it within two seconds. In the caller's transaction.
    """
    wanted = frozenset(kinds) & ON_DEMAND
    mine = subscriptions.c.subscriber == subscriber
    had = set(conn.scalars(select(subscriptions.c.kind).where(mine)))
    if had == wanted:
        return
    for kind in (wanted - had) & _OF_BATCHES:
        _leave_out_what_was_before(conn, EventKind(kind))
    conn.execute(delete(subscriptions).where(mine, subscriptions.c.kind.not_in(wanted)))
    for kind in sorted(wanted - had):
        row = insert_into(conn, subscriptions).values(subscriber=subscriber, kind=kind)
        conn.execute(row.on_conflict_do_nothing())
    forget()


def unsubscribe(conn: Connection, subscriber: str) -> None:
    """Have nothing written for this subscriber's sake any more."""
    gone = delete(subscriptions).where(subscriptions.c.subscriber == subscriber)
    if conn.execute(gone).rowcount:
        forget()


def _leave_out_what_was_before(conn: Connection, kind: EventKind) -> None:
    """Let nobody be told of batches that have ended before somebody wanted to hear of it."""
    another = select(subscriptions.c.kind).where(subscriptions.c.kind == kind.value)
    if conn.execute(another).first() is None:
        conn.execute(update(batches).where(is_untold(kind)).values(told_at=db_now()))


def forget_observed(conn: Connection, *, limit: int = 5_000) -> int:
    """Remove up to `limit` notes of whom a session named that is gone, its events too."""
    note = observed.c.session_id
    stands = (
        select(sessions.c.id).where(sessions.c.id == note).exists(),
        select(batches.c.id).where(batches.c.id == note).exists(),
        select(events.c.n).where(events.c.session_id == note).exists(),
    )
    some = select(note).where(*(~one for one in stands)).limit(limit)
    return conn.execute(delete(observed).where(note.in_(some))).rowcount
