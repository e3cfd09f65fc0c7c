# Made from aio/schedules.py by `make sync`: change that.
"""Schedules: what is said in a session again and again, or once later."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from turnmill.domain.content import Said
from turnmill.domain.crons import Missed
from turnmill.domain.states import Lane
from turnmill.executor.thread import Executor, knowing
from turnmill.store.schedule_records import Schedule
from turnmill.verbs import schedules
from turnmill.verbs.intake import UNCHANGED, Unchanged
from turnmill.verbs.refs import SessionRef

#: A schedule as `client.schedules` has returned it, or its id.
ScheduleRef = Schedule | UUID | str


class Schedules:
    """`client.schedules`: each run is an ordinary turn, made by workers when its moment comes."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @knowing
    def create(
        self,
        session: SessionRef,
        text: Said,
        *,
        cron: str | None = None,
        at: datetime | None = None,
        timezone: str = "UTC",
        until: datetime | None = None,
        missed: Missed | str = Missed.ONCE,
        key: str | None = None,
        lane: str = Lane.INTERACTIVE,
        metadata: Mapping[str, Any] | None = None,
        max_attempts: int | None = None,
        max_cost_usd: Decimal | float | str | None = None,
    ) -> Schedule:
        """Have a message sent in the session whenever `cron` says, or once at a moment.

        - `cron`: minute, hour, day of the month, month and day of the week, such as
          `30 9 * * mon-fri`; also `@daily` and the like. Or `at`: a moment, once; unlike
          `deliver_at` of a message, it holds up nothing that is sent before it comes.
        - `timezone`: whose clocks the cron is read by. A cron whose minute and hour both name
          times runs once for each: behind the gap where clocks are put forward over it, and the
          first time where they are put back. Any other runs whenever the clocks show its times.
        - `until`: no run is made for a later moment.
        - `missed`: what becomes of moments that no worker looked at within a minute: `skip`,
          `once` (one run stands for all of them), or `all` (up to 1,000 are made up for).
        - `key`: creating again with the same key returns the schedule that exists.
        - `lane`, `metadata`, `max_attempts`, `max_cost_usd`: of each turn, as for `send`.

        While the session is archived its moments go by, and `error_code` says so. A session has up
        to 100 schedules. Raises InvalidInput, SessionNotFound, SessionArchived, MoveRefused, or
        Conflict when the key stands for another schedule.
        """
        verb = schedules.create(
            session,
            text,
            cron=cron,
            at=at,
            timezone=timezone,
            until=until,
            missed=missed,
            key=key,
            lane=lane,
            metadata=metadata,
            max_attempts=max_attempts,
            max_cost_usd=max_cost_usd,
            max_text_bytes=self._executor.settings.max_text_bytes,
        )
        made = self._executor.run(verb)
        self._executor.look_out()
        return made

    def get(self, schedule: ScheduleRef) -> Schedule:
        """Return the schedule as it stands now, or raise ScheduleNotFound."""
        return self._executor.run(schedules.get(schedule))

    def list(
        self, *, session: SessionRef | None = None, after: UUID | None = None, limit: int = 100
    ) -> list[Schedule]:
        """Return up to `limit` schedules, newest first; `after` is the last id of a page."""
        verb = schedules.find(session=session, after=after, limit=limit)
        return self._executor.run(verb)

    @knowing
    def update(
        self,
        schedule: ScheduleRef,
        *,
        text: Said | Unchanged = UNCHANGED,
        cron: str | Unchanged = UNCHANGED,
        at: datetime | Unchanged = UNCHANGED,
        timezone: str | Unchanged = UNCHANGED,
        until: datetime | Unchanged | None = UNCHANGED,
        missed: Missed | str | Unchanged = UNCHANGED,
    ) -> Schedule:
        """Change what the schedule says, or when, from its next run on.

        Where that is found anew, what went by before is not made up for. One with a cron keeps to a
        cron. Raises InvalidInput, ScheduleNotFound.
        """
        verb = schedules.update(
            schedule,
            said=text,
            cron=cron,
            at=at,
            timezone=timezone,
            until=until,
            missed=missed,
            max_text_bytes=self._executor.settings.max_text_bytes,
        )
        return self._executor.run(verb)

    def pause(self, schedule: ScheduleRef) -> Schedule:
        """Make no runs until `resume`; MoveRefused for one that is over."""
        return self._executor.run(schedules.pause(schedule))

    def resume(self, schedule: ScheduleRef) -> Schedule:
        """Make runs again, from now on: what went by while it was paused was not missed.

        MoveRefused for one that is over.
        """
        return self._executor.run(schedules.resume(schedule))

    def delete(self, schedule: ScheduleRef) -> None:
        """Make no more runs, or raise ScheduleNotFound or UserOnHold; turns that were made stay."""
        self._executor.run(schedules.delete(schedule))
