"""When a session is idle, and for how long what is over is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from turnmill.domain.bounds import LONGEST_IDLE
from turnmill.domain.errors import InvalidSetting
from turnmill.domain.states import SessionStatus

#: A paused session waits for somebody who will come back to it: it is never idle.
ARCHIVABLE = frozenset({SessionStatus.ACTIVE})

_NEVER = "never"
_LONGEST_DAYS = 36_500
_LEAST_AUDIT_DAYS = 31  #: Postgres keeps groups for 30 days, whoever asks


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept. None keeps them for good."""

    #: Of sessions without an `idle_ttl` of their own: archived after so long without activity.
    idle_ttl: timedelta | None = timedelta(days=30)
    #: Archived sessions are removed, with every message, after so long. Nobody's data goes unasked.
    archived: timedelta | None = None
    #: What was said in a turn, where neither its session nor its user says for how long.
    content: timedelta | None = None
    #: What became of sessions that were deleted or purged, once nothing is left of them.
    tombstones: timedelta = timedelta(days=90)
    #: The audit log, apart from what it is about; never less than a month.
    audit: timedelta | None = None
    #: What lines of a batch came to, from its end on; replies are kept as their sessions are.
    batches: timedelta | None = None
    #: How far a batch came, and what it has cost, once its lines and their turns are gone.
    batch_counts: timedelta = timedelta(days=90)
    #: Notes about jobs that ran.
    job_runs: timedelta = timedelta(days=30)
    #: Notes about hints that were sent.
    announcements: timedelta = timedelta(days=1)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read TURNMILL_IDLE_DAYS and TURNMILL_KEEP_…_DAYS; raises InvalidSetting."""
        return cls(
            idle_ttl=_days(environ, "TURNMILL_IDLE_DAYS", default=cls().idle_ttl),
            archived=_days(environ, "TURNMILL_KEEP_ARCHIVED_DAYS", default=cls().archived),
            content=_days(environ, "TURNMILL_KEEP_CONTENT_DAYS", default=cls().content),
            batches=_days(environ, "TURNMILL_KEEP_BATCHES_DAYS", default=cls().batches),
            audit=_days(
                environ, "TURNMILL_KEEP_AUDIT_DAYS", default=cls().audit, least=_LEAST_AUDIT_DAYS
            ),
        )


def is_idle(
    *,
    status: SessionStatus,
    unfinished: int,
    last_active_at: datetime,
    idle_ttl: timedelta | None,
    default_ttl: timedelta | None,
    now: datetime,
) -> bool:
    """Tell whether a session may be archived: nothing is unfinished, and nothing happened for long.

    The session's own `idle_ttl` goes before the default; with neither it is never idle. The query
    of `turnmill.store.upkeep.retention` says the same in SQL, and a test holds them together.
    """
    ttl = idle_ttl if idle_ttl is not None else default_ttl
    if ttl is None or unfinished or status not in ARCHIVABLE:
        return False
    return last_active_at < now - min(ttl, LONGEST_IDLE)


def _days(
    environ: Mapping[str, str], name: str, *, default: timedelta | None, least: float = 0
) -> timedelta | None:
    value = environ.get(name, "").strip().lower()
    if not value:
        return default
    if value == _NEVER:
        return None
    try:
        days = float(value)
    except ValueError:
        raise InvalidSetting(
            f"{name} is not a number", hint=f"days, such as 30, or {_NEVER}"
        ) from None
    if not max(least, 0) <= days <= _LONGEST_DAYS or days == 0:
        bounds = f"{least:g} to {_LONGEST_DAYS}" if least else f"above 0 to {_LONGEST_DAYS}"
        raise InvalidSetting(f"{name} is out of range", hint=f"{bounds} days")
    return timedelta(days=days)
