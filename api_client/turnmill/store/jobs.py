"""Jobs that beat starts: each runs once for a slot, however many beats there are."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from turnmill.store.tables import job_runs
from turnmill.store.types import db_after, db_now


def take_slot(conn: Connection, name: str, slot: datetime) -> bool:
    """Take the slot for this job; False when somebody has taken it before.

    Commit before the job starts. A slot whose job died is not run again: the next one will do.
    """
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    statement = (
        dialect.insert(job_runs)
        .values(name=name, slot=slot)
        .on_conflict_do_nothing()
        .returning(job_runs.c.slot)
    )
    return conn.execute(statement).first() is not None


def finish_slot(conn: Connection, name: str, slot: datetime, *, result: Mapping[str, Any]) -> None:
    """Note that the job is done, and what it counted."""
    conn.execute(
        update(job_runs)
        .where(job_runs.c.name == name, job_runs.c.slot == slot)
        .values(finished_at=db_now(), result=dict(result))
    )


def last_run(conn: Connection, name: str) -> tuple[datetime, Mapping[str, Any]] | None:
    """Return when the job last finished and what it counted, or None when it never did."""
    row = conn.execute(
        select(job_runs.c.finished_at, job_runs.c.result)
        .where(job_runs.c.name == name, job_runs.c.finished_at.is_not(None))
        .order_by(job_runs.c.slot.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.finished_at, row.result)


def purge_runs(conn: Connection, *, older_than: timedelta) -> int:
    """Forget runs of slots older than that; return how many."""
    past = db_after(-older_than.total_seconds())
    return conn.execute(delete(job_runs).where(job_runs.c.slot < past)).rowcount
