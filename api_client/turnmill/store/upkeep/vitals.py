"""What a store says about itself, for a diagnosis."""

from sqlalchemy import Connection, func, select, text

from turnmill.domain.states import SessionStatus
from turnmill.store.capabilities import Capability, Vitals, capabilities_of
from turnmill.store.engine import engine_of
from turnmill.store.schema.tables import sessions
from turnmill.wire import ACCOUNTS_CHANNEL

#: Of sessions that were made last.
_LATELY = 5_000

#: What a worker's connection that listens has said last. A server forgets it with the connection.
_LISTENS = text(
    """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query = :said AND state = 'idle'
    """
)


def vitals(conn: Connection) -> Vitals:
    """Ask the store about itself."""
    return engine_of(conn).vitals(conn)


def listening_workers(conn: Connection) -> int:
    """Return how many workers listen to this database; 0, too, where this role may not know."""
    if Capability.NOTIFY not in capabilities_of(conn):
        return 0
    said: int = conn.scalar(_LISTENS, {"said": f"LISTEN {ACCOUNTS_CHANNEL}"}) or 0
    return said


def providers_in_use(conn: Connection) -> dict[str, int]:
    """Return how many sessions that take messages each provider has."""
    rows = conn.execute(
        select(sessions.c.provider, func.count())
        .where(sessions.c.status.in_((SessionStatus.ACTIVE, SessionStatus.PAUSED)))
        .group_by(sessions.c.provider)
    )
    return {row[0]: row[1] for row in rows}


def is_asked_for(conn: Connection, provider: str) -> bool:
    """Tell whether any session has this provider."""
    found = select(sessions.c.id).where(sessions.c.provider == provider).limit(1)
    return conn.execute(found).first() is not None


def providers_lately(conn: Connection) -> list[str]:
    """Return the providers of the sessions that were made last: a look at a few pages."""
    newest = select(sessions.c.provider).order_by(sessions.c.id.desc()).limit(_LATELY).subquery()
    return list(conn.scalars(select(newest.c.provider).distinct()))
