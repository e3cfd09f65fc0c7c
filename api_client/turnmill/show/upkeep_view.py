"""Jobs of upkeep for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from turnmill.show.tables import print_table
from turnmill.show.wording import relative

if TYPE_CHECKING:
    from turnmill.store.upkeep.jobs import JobRun

_COLUMNS = ("job", "last began", "took", "came to", "due")


def print_jobs(
    rows: Sequence[tuple[str, JobRun | None, datetime | None]], *, now: datetime
) -> None:
    """Print a line for each."""
    print_table(_COLUMNS, [_row(*row, now=now) for row in rows], spare=("took",), cut=True)


def as_document(name: str, run: JobRun | None, due: datetime | None) -> dict[str, Any]:
    """Return what programs read."""
    return {
        "name": name,
        "started_at": run and run.started_at,
        "finished_at": run and run.finished_at,
        "succeeded_at": run and run.succeeded_at,
        "result": run and dict(run.result),
        "due_at": due,
    }


def _row(
    name: str, run: JobRun | None, due: datetime | None, *, now: datetime
) -> tuple[object, ...]:
    when = "off" if due is None else relative(due, now=now)
    if run is None:
        return (name, "never", None, None, when)
    took = None if run.finished_at is None else f"{(run.finished_at - run.started_at).seconds} s"
    return (name, relative(run.started_at, now=now), took, _came_to(run), when)


def _came_to(run: JobRun) -> str:
    if code := run.result.get("error_code"):
        return str(code)
    counted = ", ".join(f"{count} {what}" for what, count in run.result.items() if count)
    if run.finished_at is None:
        return f"so far {counted or 'nothing'}"
    return counted or "nothing to do"
