"""Which events somebody wants: known to each process, so that nobody pays for the others."""

import time
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, select

from turnmill.domain.states import EventKind

#: Who subscribes is heard everywhere after so long.
FRESH_SECONDS = 2.0

_NOTHING: frozenset[str] = frozenset()
_known: WeakKeyDictionary[Engine, tuple[float, frozenset[str]]] = WeakKeyDictionary()
_seen: set[str] = set()


def wanted(conn: Connection) -> frozenset[str]:
    """Return the kinds that somebody wants, as they were two seconds ago at most."""
    now = time.monotonic()
    until, kinds = _known.get(conn.engine, (0.0, _NOTHING))
    if now < until:
        return kinds
    from turnmill.store.schema.hook_tables import subscriptions  # noqa: PLC0415  not at import

    kinds = frozenset(conn.scalars(select(subscriptions.c.kind).distinct()))
    _known[conn.engine] = (now + FRESH_SECONDS, kinds)
    _seen.update(kinds)
    return kinds


def is_wanted(conn: Connection, kind: EventKind) -> bool:
    """Tell whether an event of this kind is to be written."""
    return kind.value in wanted(conn)


def seen(kind: EventKind) -> bool:
    """Tell, without asking, whether somebody may want the kind in one of this process's stores."""
    return kind.value in _seen


def forget() -> None:
    """Ask again: this process has subscribed to something, or ended a subscription."""
    _known.clear()
