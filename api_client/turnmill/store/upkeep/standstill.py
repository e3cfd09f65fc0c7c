"""What stands still or came to nothing, counted for a diagnosis."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from turnmill.domain.states import FINAL, WAITING_CALLS, SessionStatus, ToolCallState, TurnState
from turnmill.store.nouns.turns import has_run_again
from turnmill.store.schema.house_tables import job_runs
from turnmill.store.schema.schedule_tables import schedules
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import ZERO, Timestamp, db_asof_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Turns that ended without a reply, all of them for the same reason."""

    state: TurnState
    code: str
    count: int


def failures(conn: Connection, *, within: timedelta) -> list[Failures]:
    """Return what died or failed lately and was not run again, what happened last first."""
    ended = turns.c.finished_at >= db_asof_after(-within.total_seconds())
    states = (TurnState.DEAD, TurnState.FAILED)
    rows = conn.execute(
        select(turns.c.state, turns.c.error_code, func.count())
        .where(turns.c.state.in_(states), ended, ~has_run_again())
        .group_by(turns.c.state, turns.c.error_code)
        .order_by(func.max(turns.c.finished_at).desc())
    )
    return [
        Failures(state=TurnState(state), code=code or "unknown", count=number)
        for state, code, number in rows
    ]


def paused_sessions(conn: Connection) -> tuple[int, int]:
    """Return how many paused sessions have anything unfinished, and how many turns that is."""
    row = conn.execute(
        select(func.count(), func.coalesce(func.sum(sessions.c.unfinished), 0)).where(
            sessions.c.unfinished > ZERO, sessions.c.status == SessionStatus.PAUSED
        )
    ).one()
    return int(row[0]), int(row[1])


def broken_schedules(conn: Connection) -> tuple[int, str]:
    """Return how many schedules were paused because their runs could not be made, and why one."""
    broken = (schedules.c.paused, schedules.c.error_code.is_not(None))
    number = conn.scalar(select(func.count()).select_from(schedules).where(*broken)) or 0
    code = conn.scalar(select(schedules.c.error_code).where(*broken).limit(1))
    return number, code or ""


def held_turns(conn: Connection) -> int:
    """Return how many turns wait for an operator, for they may have been executed."""
    held = (
        select(func.count())
        .select_from(sessions.join(turns, turns.c.id == sessions.c.head_turn_id))
        .where(
            sessions.c.unfinished > ZERO,
            sessions.c.head_due_at.is_(None),
            turns.c.state == TurnState.UNKNOWN,
        )
    )
    return conn.scalar(held) or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCalls:
    """Calls of tools that somebody outside has to do something about."""

    state: ToolCallState
    turns: int
    oldest_at: datetime


def asked_outside(conn: Connection) -> list[WaitingCalls]:
    """Return how many turns wait for an output or an approval, and for how long the first has."""
    rows = tool_calls.c
    oldest: Any = func.min(rows.created_at, type_=Timestamp)
    found = conn.execute(
        select(rows.state, func.count(rows.turn_id.distinct()), oldest)
        .join(turns, turns.c.id == rows.turn_id)
        .where(rows.state.in_(WAITING_CALLS), turns.c.state.not_in(FINAL))
        .group_by(rows.state)
        .order_by(rows.state)
    )
    return [
        WaitingCalls(state=ToolCallState(row[0]), turns=row[1], oldest_at=row[2]) for row in found
    ]


def last_starts(conn: Connection) -> dict[str, datetime]:
    """Return when each job of the schedule last began."""
    newest: Any = func.max(job_runs.c.started_at, type_=Timestamp)
    rows = conn.execute(select(job_runs.c.name, newest).group_by(job_runs.c.name))
    return {row[0]: row[1] for row in rows}


def oldest_session_at(conn: Connection) -> datetime | None:
    """Return when the first of the sessions that are left was made; their ids sort by time."""
    oldest = select(sessions.c.created_at).order_by(sessions.c.id).limit(1)
    found: datetime | None = conn.scalar(oldest)
    return found
