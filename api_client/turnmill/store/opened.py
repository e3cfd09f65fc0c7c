"""The connections of an engine: left alone in a forked child, closed when their loop is gone."""

from typing import Any
from weakref import WeakSet

from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.pool import ConnectionPoolEntry

from turnmill.domain.errors import BegunBeforeFork
from turnmill.forking import cut_off, in_child, leave_to_parent


class Opened:
    """All connections that engines have opened, whoever holds them now."""

    def __init__(self) -> None:
        self._entries: WeakSet[ConnectionPoolEntry] = WeakSet()
        in_child(self)

    def watch(self, engine: Engine) -> None:
        """Know the connections that this engine opens from now on."""
        event.listen(engine, "connect", self._note)
        event.listen(engine, "handle_error", _as_it_is)

    def start_afresh(self) -> None:
        """Make the parent's connections unusable here, and harmless to the parent."""
        entries, self._entries = list(self._entries), WeakSet()
        drivers = [entry.driver_connection for entry in entries]
        leave_to_parent(entries, drivers)
        for entry in entries:
            _take_away(entry)
        cut_off(number for driver in drivers if (number := _socket_of(driver)) is not None)

    def drop(self) -> None:
        """Close all at once, without the event loop that they were used on."""
        for entry in list(self._entries):
            driver: Any = entry.driver_connection
            if driver is not None:
                driver.pgconn.finish()

    def _note(self, _connection: object, entry: ConnectionPoolEntry) -> None:
        self._entries.add(entry)


class _Parents:
    """Stands in a child for a connection of the parent, in whatever was begun before the fork."""

    def cursor(self, *_: object, **__: object) -> Any:
        raise BegunBeforeFork

    def commit(self) -> None:
        raise BegunBeforeFork

    def rollback(self) -> None:
        """Do nothing: the parent decides."""

    def close(self) -> None:
        """Do nothing: the parent uses it."""


def _as_it_is(context: ExceptionContext) -> None:
    """Let our own error through: SQLAlchemy would wrap it, and quote the statement."""
    if isinstance(context.original_exception, BegunBeforeFork):
        raise context.original_exception


def _take_away(entry: ConnectionPoolEntry) -> None:
    # By attributes of SQLAlchemy's that have no public name: to invalidate an entry is to close
    # its connection, and that is what must not happen.
    record: Any = entry
    fairy = record.fairy_ref() if record.fairy_ref is not None else None
    record.finalize_callback.clear()
    record.dbapi_connection = stand_in = _Parents()
    if fairy is not None:
        fairy.dbapi_connection = stand_in


def _socket_of(driver: Any) -> int | None:
    """Return the descriptor, or None for what has no socket: a file, a closed connection."""
    from psycopg import Error  # noqa: PLC0415  whoever connects to nothing needs no driver

    try:
        return int(driver.pgconn.socket)
    except (AttributeError, Error):
        return None
