"""What beat sends, and when: one table, each line of which a variable can move or switch off."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from celery.beat import BeatLazyFunc
from celery.schedules import ParseException, crontab

from turnmill import wire
from turnmill.domain.errors import InvalidSetting

PREFIX = "TURNMILL_SCHEDULE_"
_OFF = "off"


@dataclass(frozen=True, slots=True)
class Entry:
    """A task without content, sent again and again."""

    task: str
    schedule: crontab
    expires: timedelta  #: a worker that comes later than this leaves it: the next one is due soon


#: Times are UTC. TURNMILL_SCHEDULE_ARCHIVE_IDLE_SESSIONS="*/10 * * * *" moves the first line,
#: "off" switches it off.
SCHEDULE: Mapping[str, Entry] = MappingProxyType(
    {
        "archive-idle-sessions": Entry(
            wire.ARCHIVE_IDLE, crontab(minute="*/5"), expires=timedelta(minutes=4)
        ),
        "roll-up-usage": Entry(
            wire.ROLL_UP_USAGE, crontab(minute="*"), expires=timedelta(seconds=50)
        ),
        "poll-batches": Entry(
            wire.POLL_BATCHES, crontab(minute="*"), expires=timedelta(seconds=50)
        ),
        "tend-trials": Entry(wire.TEND_TRIALS, crontab(minute="*"), expires=timedelta(seconds=50)),
        "look-for-alerts": Entry(
            wire.LOOK_FOR_ALERTS, crontab(minute="*/5"), expires=timedelta(minutes=4)
        ),
        # A week is over at another hour in each zone: the hour that finds it so makes the report.
        "make-report": Entry(wire.MAKE_REPORT, crontab(minute="53"), expires=timedelta(minutes=50)),
        "self-check": Entry(wire.SELF_CHECK, crontab(minute="17"), expires=timedelta(minutes=50)),
        "find-topics": Entry(
            wire.FIND_TOPICS, crontab(hour="3", minute="23"), expires=timedelta(minutes=50)
        ),
        "purge": Entry(wire.PURGE, crontab(minute="41"), expires=timedelta(minutes=50)),
    }
)


def beat_schedule(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the table as Celery's `beat_schedule`, with what the environment says of it.

    Raises InvalidSetting for a variable that names no line or holds no crontab.
    """
    overrides = _overrides(environ)
    return {
        name: {
            "task": entry.task,
            "schedule": _crontab(name, overrides[name]) if name in overrides else entry.schedule,
            "args": (BeatLazyFunc(current_slot),),
            "options": {
                "expires": entry.expires.total_seconds(),
                "queue": wire.UPKEEP_QUEUE,
                "ignore_result": True,
                "serializer": "json",
            },
        }
        for name, entry in SCHEDULE.items()
        if overrides.get(name) != _OFF
    }


def next_runs(environ: Mapping[str, str], *, now: datetime) -> dict[str, datetime | None]:
    """Return when each job is due next, by the name of its task; None for one that is off."""
    lines = {line["task"]: line["schedule"] for line in beat_schedule(environ).values()}
    return {
        entry.task: now + lines[entry.task].remaining_estimate(now) if entry.task in lines else None
        for entry in SCHEDULE.values()
    }


def current_slot() -> str:
    """Return the minute that it is, which beat puts into the message it sends.

    Two beats send the same slot, and the job runs once for it; see `turnmill.store.upkeep.jobs`.
    """
    return datetime.now(UTC).replace(second=0, microsecond=0).isoformat()


def variable_of(name: str) -> str:
    """Return the environment variable that moves a line of the table."""
    return PREFIX + name.upper().replace("-", "_")


def _overrides(environ: Mapping[str, str]) -> dict[str, str]:
    names = {variable_of(name): name for name in SCHEDULE}
    given = {key: value for key, value in environ.items() if key.startswith(PREFIX) and value}
    for variable in given:
        if variable not in names:
            raise InvalidSetting(
                f"{variable} names no line of the schedule", hint=f"known: {', '.join(names)}"
            )
    return {names[variable]: value.strip().lower() for variable, value in given.items()}


def _crontab(name: str, value: str) -> crontab:
    try:
        return crontab.from_string(" ".join(value.split()))
    except (ValueError, ParseException):
        raise InvalidSetting(
            f"{variable_of(name)} is not a crontab",
            hint=f"five fields in UTC, such as '*/10 * * * *', or {_OFF}",
        ) from None
