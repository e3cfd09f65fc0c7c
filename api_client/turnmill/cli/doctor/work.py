"""Checks of what is to be done: what is paused, stuck or has failed, and whether jobs begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from turnmill.cli.doctor.findings import (
    Examination,
    Finding,
    Findings,
    note,
    ok,
    skipped,
    wrong,
)
from turnmill.domain.states import FOR_APPROVAL, WAITS_FOR, Lane, TurnState
from turnmill.show.wording import count, duration, moment_text

if TYPE_CHECKING:
    from turnmill.store.line.pauses import Pauses
    from turnmill.store.nouns.accounts import AccountRecord
    from turnmill.store.nouns.lanes import LaneLoad
    from turnmill.store.upkeep.standstill import Failures, WaitingCalls

_LONG_DUE = timedelta(seconds=30)
#: Somebody who was asked may be expected to have answered by then.
_LONG_ASKED = timedelta(hours=1)
#: Older dead letters have been seen, or are nobody's concern any more.
_LATELY = timedelta(hours=24)
#: A beat and a worker have so long to begin a job that is due.
_LATE = timedelta(minutes=10)
#: What somebody has to set right before any turn of that kind can succeed.
_MISCONFIGURED = frozenset(
    {
        *("key_missing", "provider_unknown", "provider_broken", "provider_ambiguous"),
        *("invalid_api_key", "authentication_error", "permission_error"),
        *("price_unknown", "unknown_tool", "unknown_layer"),
    }
)
_CODES = 5  #: that are named


def check_pauses(examination: Examination) -> Findings:
    """What an operator has stopped, and how much waits for that."""
    from turnmill.store.line.pauses import read_pauses
    from turnmill.store.nouns.lanes import loads
    from turnmill.store.upkeep.standstill import broken_schedules, paused_sessions

    if examination.database is None:
        return
    with examination.database.begin() as conn:
        pauses, found, (sessions, turns) = read_pauses(conn), loads(conn), paused_sessions(conn)
        schedules, why = broken_schedules(conn)
    if schedules:
        yield wrong(
            f"{count(schedules, 'schedule')}: paused, for no runs could be made ({why})",
            "turnmill schedules ls; then turnmill schedules resume ID, or delete",
            code="schedule_paused",
        )
    for lane in sorted(pauses.lanes):
        yield _paused("lane", lane, [load for load in found if load.lane == lane])
    for name in sorted(pauses.providers):
        yield _paused("provider", name, [load for load in found if load.provider == name])
    if sessions:
        yield wrong(
            f"{count(sessions, 'session')} with {count(turns, 'unfinished turn')}: paused",
            "turnmill sessions resume ID; turnmill sessions ls --status paused",
            code="session_paused",
        )
    if not (pauses.lanes or pauses.providers or sessions or schedules):
        yield ok("nothing is paused that has anything to do")


def _paused(kind: str, name: str, loads: Sequence[LaneLoad]) -> Finding:
    waiting = sum(load.due + load.later + load.behind for load in loads)
    fix = f"turnmill queue resume --{kind} {name}"
    if not waiting:
        return note(f"{kind} {name} is paused; nothing waits for it", fix, code=f"{kind}_paused")
    what = f"{kind} {name} is paused, and holds up {count(waiting, 'turn')}"
    return wrong(what, fix, code=f"{kind}_paused")


def check_accounts(examination: Examination) -> Findings:
    """What nobody calls: a vendor has said later, refuses a key, or a model fails."""
    from turnmill.store.nouns.accounts import list_closed

    if examination.database is None:
        return
    with examination.database.begin() as conn:
        found = list_closed(conn)
    for one in found:
        yield _closed(one)
    if not found:
        yield ok("every account and every model may be called")


def _closed(one: AccountRecord) -> Finding:
    named = " ".join(word for word in (one.provider, one.model, one.account) if word)
    code = f"{one.kind}_closed"
    if one.permanent:
        return wrong(
            f"account {named} is closed: {one.code}; its turns wait",
            f"set that right, then: turnmill accounts open {one.provider}",
            code=code,
        )
    at = moment_text(one.closed_until)
    what = f"{one.kind} {named} is closed: {one.code}; one call tries it at {at}"
    return note(what, "turnmill accounts ls", code=code)


def check_waiting(examination: Examination) -> Findings:
    """Whether anything has been due for long, and whether nobody takes it."""
    from turnmill.store.line.pauses import read_pauses
    from turnmill.store.nouns.lanes import loads
    from turnmill.store.upkeep.standstill import asked_outside, held_turns

    if examination.database is None:
        yield skipped("the database cannot be used")
        return
    with examination.database.begin() as conn:
        pauses, found, held = read_pauses(conn), loads(conn), held_turns(conn)
        asked = asked_outside(conn)
    late = [one for one in found if _is_late(one, pauses)]
    for load in late:
        yield _late(load, is_served=bool(examination.workers))
    if held:
        yield wrong(
            f"{count(held, 'turn')} may have been executed: held for a decision",
            "turnmill turns ls --state unknown; turnmill turns release ID",
            code="held",
        )
    yield from _asked(asked)
    if not late and not held:
        yield ok("nothing has been due for long")


def _is_late(load: LaneLoad, pauses: Pauses) -> bool:
    if load.lane in pauses.lanes or load.provider in pauses.providers or not load.oldest_due_at:
        return False
    return datetime.now(UTC) - load.oldest_due_at > _LONG_DUE


def _late(load: LaneLoad, *, is_served: bool) -> Finding:
    waited = datetime.now(UTC) - (load.oldest_due_at or datetime.now(UTC))
    what = f"{load.lane}, {load.provider}: {count(load.due, 'turn')} due"
    what += f", the oldest for {duration(waited)}"
    if load.running:
        how = "more is sent than workers can do" if load.lane is Lane.INTERACTIVE else "a backlog"
        return note(f"{what}: {how}", "more workers, or wait: turnmill queue ls", code="backlog")
    if is_served:
        return wrong(
            f"{what}; none runs",
            "a worker's log, its -Q, its database: is it this one?",
            code="stuck",
        )
    return wrong(f"{what}; no worker runs", "turnmill worker", code="stuck")


def _asked(found: Sequence[WaitingCalls]) -> Findings:
    """Tell of calls of tools that wait for long for somebody who agrees, or answers."""
    for one in found:
        waited = datetime.now(UTC) - one.oldest_at
        if waited < _LONG_ASKED:
            continue
        waits_for = WAITS_FOR[one.state]
        what = "approval" if waits_for == FOR_APPROVAL else "the output of a tool"
        yield note(
            f"{count(one.turns, 'turn')} waiting for {what}, the first for {duration(waited)}",
            f"turnmill tools ls --for {waits_for}",
            code=f"waits_for_{waits_for}",
        )


def check_failures(examination: Examination) -> Findings:
    """Whether turns have died lately, or failed of something that has to be set right."""
    from turnmill.store.upkeep.standstill import failures

    if examination.database is None:
        return
    with examination.database.begin() as conn:
        found = failures(conn, within=_LATELY)
    # Each code that has to be set right by itself: a later failure of another kind hides none.
    missing = [one for one in found if one.state is TurnState.FAILED and one.code in _MISCONFIGURED]
    dead = [one for one in found if one.state is TurnState.DEAD]
    others = [one for one in found if one not in (*missing, *dead)]
    again = "set that right, then: turnmill turns retry --all --state"
    for one in missing:
        fix = f"{again} failed --error-code {one.code}"
        yield wrong(_failures([one]), fix, code=one.code)
    if dead:
        yield wrong(_failures(dead), f"{again} dead", code=dead[0].code)
    if others:
        yield note(_failures(others), "turnmill turns ls --state failed", code=others[0].code)
    if not found:
        yield ok("no turn has died or failed within 24 h")


def _failures(these: Sequence[Failures]) -> str:
    """Say how many there are of one state, and of which codes, the newest first."""
    turns = count(sum(one.count for one in these), "turn")
    codes = [one.code if len(these) == 1 else f"{one.code} ({one.count})" for one in these]
    more = f" and {len(codes) - _CODES} more codes" if len(codes) > _CODES else ""
    return f"{turns} {these[0].state} within 24 h: {', '.join(codes[:_CODES])}{more}"


def check_schedule(examination: Examination) -> Findings:
    """Whether the table and its overrides can be read, and whether jobs begin and succeed."""
    from turnmill.store.capabilities import Capability
    from turnmill.store.upkeep.jobs import failing_jobs
    from turnmill.store.upkeep.standstill import last_starts, oldest_session_at
    from turnmill_worker.celery.schedule import beat_schedule

    lines = beat_schedule(examination.environ)
    yield ok(f"{count(len(lines), 'job')} in the schedule")
    if examination.database is None or not examination.database.can(Capability.SHARED):
        return
    with examination.database.begin() as conn:
        starts, failing, first = last_starts(conn), failing_jobs(conn), oldest_session_at(conn)
    for job in failing:
        yield wrong(
            f"{job.name} failed in two slots, {moment_text(job.slot)[:16]} the last:"
            f" {job.error_code}",
            "the log of the workers tells more",
            code="job_failing",
        )
    # Whatever was due since any of them began: of one that runs once a night that says nothing.
    last = max(starts.values(), default=first)
    if last is not None and _overdue(lines, dict.fromkeys(starts, last), last):
        yield _silent(max(starts.values(), default=None))
        return
    for name in _overdue(lines, starts, first):
        yield _late_job(name, starts.get(lines[name]["task"]))


def _overdue(
    lines: Mapping[str, Any], starts: Mapping[str, datetime], first: datetime | None
) -> list[str]:
    """Return the jobs that should have begun since they last did, or since any of them did."""
    known = min(starts.values(), default=first)  # none: since there is anything to do
    since = {name: starts.get(line["task"], known) for name, line in lines.items()}
    return [
        name
        for name, at in since.items()
        if at is not None and lines[name]["schedule"].remaining_estimate(at) < -_LATE
    ]


def _late_job(name: str, last: datetime | None) -> Finding:
    when = "has never begun" if last is None else f"began {duration(_since(last))} ago"
    return wrong(
        f"job {name} is overdue: it {when}",
        f"a worker that takes turnmill.upkeep; or now: turnmill upkeep run {name}",
        code="job_overdue",
    )


def _since(moment: datetime) -> timedelta:
    return datetime.now(UTC) - moment


def _silent(last: datetime | None) -> Finding:
    fix = "turnmill beat, and a worker that takes turnmill.upkeep"
    if last is None:
        return wrong("jobs are overdue: none has ever begun", fix, code="jobs_overdue")
    ago = duration(_since(last))
    return wrong(
        f"no beat: jobs are overdue, the last one began {ago} ago", fix, code="jobs_overdue"
    )
