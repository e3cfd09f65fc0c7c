"""What passes between clients, dispatchers and the store of schedules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from turnmill.domain.content import Part, text_of
from turnmill.domain.crons import Missed, upcoming
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What is said in a session again and again, or once later."""

    id: UUID
    session_id: SessionId
    key: str | None
    parts: Sequence[Part]  #: of the message that each run sends
    cron: str | None  #: None: it runs once
    at: datetime | None  #: when, if it does
    timezone: str  #: whose clocks the cron is read by
    until: datetime | None  #: the last moment for which a run is made; None: for ever
    missed: Missed
    lane: Lane
    metadata: Mapping[str, Any] = field(repr=False)
    max_attempts: int | None
    max_cost_usd: Decimal | None
    paused: bool
    next_at: datetime | None  #: None: it is paused, or over
    last_at: datetime | None  #: the moment for which the last run was made
    last_turn_id: TurnId | None
    runs: int  #: that were made
    skipped: int  #: moments that went by without one
    error_code: str | None  #: why the last moment came to no turn; None: it did
    created_at: datetime
    updated_at: datetime

    @property
    def text(self) -> str:
        """Return the words of the message."""
        return text_of(self.parts)

    @property
    def is_over(self) -> bool:
        """Tell whether no run is to come, whatever is resumed."""
        return self.next_at is None and not self.paused

    def next_runs(self, count: int = 5) -> list[datetime]:
        """Return up to so many of the moments for which runs will be made, in UTC, soonest first.

        None where it is paused or over. A hundred are the most.
        """
        if self.next_at is None:
            return []
        if self.cron is None:
            return [self.next_at]
        count = max(0, min(count, 100))
        return upcoming(self.cron, self.timezone, first=self.next_at, until=self.until, count=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A schedule to be made."""

    id: UUID
    key: str | None
    parts: Sequence[Part]
    cron: str | None
    at: datetime | None
    timezone: str
    until: datetime | None
    missed: Missed
    lane: Lane
    metadata: Mapping[str, Any] = field(repr=False)
    max_attempts: int | None
    max_cost_usd: Decimal | None
