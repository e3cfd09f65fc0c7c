"""Jobs that beat starts: each runs once for a slot, however many beats there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, literal, or_, select, update

from turnmill.store.schema.house_tables import job_runs
from turnmill.store.types import Timestamp, db_after, db_now, insert_into

#: So many in a row are more than an accident.
_SLOTS = 2
_LONGEST_RUN = timedelta(minutes=30)
#: A slot that is further to come was named by a clock that was wrong.
_CLOCKS_APART = timedelta(hours=1)


def take_slot(conn: Connection, name: str, slot: datetime) -> bool:
    """Take the slot for this job; False when somebody has taken it, or a later one, before.

    Commit before the job starts. A slot whose job died is not run again: the next one will do.
    """
    _forget_what_is_to_come(conn, name, slot)
    later = select(job_runs.c.slot).where(job_runs.c.name == name, job_runs.c.slot > slot)
    if conn.execute(later.limit(1)).first() is not None:
        return False
    statement = (
        insert_into(conn, job_runs)
        .values(name=name, slot=slot)
        .on_conflict_do_nothing()
        .returning(job_runs.c.slot)
    )
    return conn.execute(statement).first() is not None


def _forget_what_is_to_come(conn: Connection, name: str, slot: datetime) -> None:
    """Forget slots of a clock that was wrong: until they come, no job of this name would run.

    A clock that is wrong yet forgets nothing, so that its jobs run once for each slot, too.
    """
    to_come = db_after(_CLOCKS_APART.total_seconds())
    is_of_now = literal(slot, type_=job_runs.c.slot.type) <= to_come
    wrong = (job_runs.c.name == name, job_runs.c.slot > to_come, is_of_now)
    conn.execute(delete(job_runs).where(*wrong))


def finish_slot(conn: Connection, name: str, slot: datetime, *, result: Mapping[str, Any]) -> None:
    """Note that the job is done, and what it counted."""
    conn.execute(
        update(job_runs)
        .where(job_runs.c.name == name, job_runs.c.slot == slot)
        .values(finished_at=db_now(), result=dict(result))
    )


def note_progress(
    conn: Connection, name: str, slot: datetime, *, result: Mapping[str, Any]
) -> None:
    """Note how far the job has come, in the transaction that brings it there."""
    conn.execute(
        update(job_runs)
        .where(job_runs.c.name == name, job_runs.c.slot == slot, job_runs.c.finished_at.is_(None))
        .values(result=dict(result))
    )


def fail_slot(conn: Connection, name: str, slot: datetime, *, error_code: str) -> None:
    """Note why the job did not finish; the next slot will do its work."""
    conn.execute(
        update(job_runs)
        .where(job_runs.c.name == name, job_runs.c.slot == slot)
        .values(result={"error_code": error_code})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingJob:
    """A job that has not succeeded in its last two slots."""

    name: str
    slot: datetime  #: the last one that it failed in
    error_code: str


def failing_jobs(conn: Connection) -> list[FailingJob]:
    """Return the jobs whose last two runs that are over have not finished.

    A run that noted neither end nor error is over when it began long ago: its worker was lost.
    """
    over = or_(
        job_runs.c.finished_at.is_not(None),
        job_runs.c.result.is_not(None),
        job_runs.c.started_at < db_after(-_LONGEST_RUN.total_seconds()),
    )
    place = func.row_number().over(partition_by=job_runs.c.name, order_by=job_runs.c.slot.desc())
    runs = select(job_runs, place.label("place")).where(over).subquery()
    last: dict[str, list[Any]] = {}
    for row in conn.execute(select(runs).where(runs.c.place <= _SLOTS).order_by(runs.c.place)):
        last.setdefault(row.name, []).append(row)
    return [
        FailingJob(
            name=name,
            slot=rows[0].slot,
            error_code=(rows[0].result or {}).get("error_code", "worker_lost"),
        )
        for name, rows in sorted(last.items())
        if len(rows) == _SLOTS and all(row.finished_at is None for row in rows)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """The last run of a job."""

    name: str
    slot: datetime
    started_at: datetime
    finished_at: datetime | None  #: None: it goes on, or was lost
    #: what it has counted, so far; or `error_code`
    result: Mapping[str, Any] = field(repr=False)
    succeeded_at: datetime | None  #: when one of its runs finished for the last time


def last_runs(conn: Connection) -> dict[str, JobRun]:
    """Return the last run of each job, by its name."""
    place = func.row_number().over(partition_by=job_runs.c.name, order_by=job_runs.c.slot.desc())
    finished = func.max(job_runs.c.finished_at, type_=Timestamp).over(partition_by=job_runs.c.name)
    runs = select(job_runs, place.label("place"), finished.label("succeeded_at")).subquery()
    names = [name for name in JobRun.__dataclass_fields__ if name != "result"]
    rows = conn.execute(select(runs).where(runs.c.place == 1))
    return {
        row.name: JobRun(**{name: row._mapping[name] for name in names}, result=row.result or {})
        for row in rows
    }


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
