"""What a store says about itself, for a diagnosis."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from turnmill.domain.states import SessionStatus
from turnmill.store.schema.tables import job_runs, sessions
from turnmill.store.types import Timestamp

_ASK = """
SELECT current_setting('server_version'), clock_timestamp(), current_setting('server_encoding'),
    current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off',
    current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity),
    current_setting('transaction_read_only') = 'on'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """A store as it stands."""

    product: str  #: with its version
    now: datetime  #: by its own clock
    encoding: str
    durable: bool  #: a commit stands on disk before it is confirmed
    most_connections: int | None
    connections: int
    read_only: bool  #: it takes no writes, from this role and now


def vitals(conn: Connection) -> Vitals:
    """Ask the store about itself."""
    if conn.dialect.name != "postgresql":
        version: str = conn.exec_driver_sql("SELECT sqlite_version()").scalar_one()
        return Vitals(
            product=f"SQLite {version}",
            now=datetime.now(UTC),
            encoding="UTF8",
            durable=True,
            most_connections=None,
            connections=1,
            read_only=False,
        )
    row = conn.exec_driver_sql(_ASK).one()
    return Vitals(
        product=f"PostgreSQL {row[0]}",
        now=row[1].astimezone(UTC),
        encoding=row[2],
        durable=row[3],
        most_connections=row[4],
        connections=row[5],
        read_only=row[6],
    )


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


def last_job_at(conn: Connection) -> datetime | None:
    """Return when a job of the schedule last began, or None when none ever did."""
    newest = func.max(job_runs.c.started_at, type_=Timestamp)
    found: datetime | None = conn.scalar(select(newest))
    return found
