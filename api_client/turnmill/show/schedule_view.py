"""Schedules for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from turnmill.show.as_typed import as_typed
from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_facts, print_json
from turnmill.show.terminal import tell
from turnmill.show.wording import moment_text, relative, said

if TYPE_CHECKING:
    from turnmill.store.schedule_records import Schedule

_FIELDS = (
    *("id", "session_id", "key", "cron", "at", "timezone", "until", "missed", "lane", "metadata"),
    *("max_attempts", "max_cost_usd", "paused", "next_at", "last_at", "last_turn_id", "runs"),
    *("skipped", "error_code", "created_at", "updated_at"),
)
_COLUMNS = ("id", "session", "when", "time zone", "next", "runs", "skipped", "error", "key")


def as_document(schedule: Schedule) -> dict[str, Any]:
    """Return what programs read; what it says is not in it."""
    return {**fields(schedule, *_FIELDS), "next_runs": schedule.next_runs()}


def print_schedule(schedule: Schedule, *, text: bool, as_json: bool) -> None:
    """Print what is known of it; with `text`, also what it says."""
    if as_json:
        print_json(as_document(schedule) | ({"text": schedule.text} if text else {}))
        return
    print_facts(_facts(schedule))
    if text:
        tell("")
        tell(said(schedule.parts))


def print_removed(schedule: Schedule, *, as_json: bool) -> None:
    """Print that it is gone."""
    if as_json:
        print_json({"id": schedule.id, "deleted": True})
    else:
        tell(f"{schedule.id}  deleted; turns that it made stay")


def _facts(schedule: Schedule) -> Iterator[tuple[str, object]]:
    yield "schedule", str(schedule.id)
    if schedule.key is not None:
        yield "key", schedule.key
    yield "session", str(schedule.session_id)
    yield "when", _when(schedule)
    if schedule.until is not None:
        yield "until", moment_text(schedule.until)
    yield "missed", f"{schedule.missed}; {schedule.skipped} skipped so far"
    yield "state", _state(schedule)
    for n, moment in enumerate(schedule.next_runs()):
        yield "" if n else "next", _in_zone(moment, schedule.timezone)
    yield "runs", str(schedule.runs)
    if schedule.last_turn_id is not None:
        yield "last", as_typed(f"turnmill turns show {schedule.last_turn_id}")
    if schedule.error_code is not None:
        yield "error", schedule.error_code


def _when(schedule: Schedule) -> str:
    if schedule.at is not None:
        return f"once, at {_in_zone(schedule.at, schedule.timezone)}"
    return f"{schedule.cron} in {schedule.timezone}"


def _state(schedule: Schedule) -> str:
    if schedule.paused:
        return "paused"
    return "over" if schedule.next_at is None else "active"


def _in_zone(moment: datetime, timezone: str) -> str:
    """Return the moment as the clocks there show it, and how far they are from UTC."""
    return f"{moment.astimezone(ZoneInfo(timezone)):%a %Y-%m-%d %H:%M %z}"


def _row(schedule: Schedule) -> tuple[object, ...]:
    following = schedule.next_at
    now = datetime.now(UTC)
    return (
        schedule.id,
        schedule.session_id,
        schedule.cron or "once",
        schedule.timezone,
        _state(schedule) if following is None else relative(following, now=now),
        schedule.runs,
        schedule.skipped,
        schedule.error_code,
        schedule.key,
    )


SCHEDULES: Listing[Schedule] = Listing(
    columns=_COLUMNS,
    row=_row,
    document=as_document,
    numbers=("runs", "skipped"),
    spare=("time zone", "runs", "skipped", "error", "key"),
)
