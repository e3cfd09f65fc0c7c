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


def run_of(conn: Connection, name: str, slot: datetime) -> Mapping[str, Any] | None:
    """Return what the job counted in this slot, or None when it has not finished there."""
    row = conn.execute(
        select(job_runs.c.result).where(
            job_runs.c.name == name, job_runs.c.slot == slot, job_runs.c.finished_at.is_not(None)
        )
    ).one_or_none()
    return None if row is None else row.result


def purge_runs(conn: Connection, *, older_than: timedelta) -> int:
    """Forget runs of slots older than that; return how many."""
    past = db_after(-older_than.total_seconds())
    return conn.execute(delete(job_runs).where(job_runs.c.slot < past)).rowcount
