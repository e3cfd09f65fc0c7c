"""What is done from time to time, whoever asks for it: each job runs once for a slot."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from turnmill import wire
from turnmill.domain.errors import StoreError, TurnmillError
from turnmill.domain.idle import Retention
from turnmill.settings import Settings
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.line.charges import charge_orphans
from turnmill.store.nouns import budgets, events, usage
from turnmill.store.upkeep import jobs
from turnmill.store.upkeep import retention as upkeep
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.process.closing import Closing, Counts
from turnmill_worker.process.tidying import Tidying
from turnmill_worker.providers.port import Provider

logger = logging.getLogger("turnmill.upkeep")

#: A job ends after so many chunks: what is left is done in the next slot.
MOST_CHUNKS = 200

_DAYS_ROLLED_UP = 2
_CHECKED_BACK = timedelta(hours=2)
#: What became of work in the background may be known as late as this.
_KEEP_CHARGES = timedelta(days=35)


class Upkeep:
    """The jobs of the schedule. A slot that was taken before makes each of them a no-op."""

    def __init__(
        self,
        database: Database,
        provider: Callable[[str], Provider],
        *,
        retention: Retention | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Without `settings`, no files are looked at."""
        self._database = database
        self._tidying = None if settings is None else Tidying(database, settings)
        self._closing = Closing(database, provider)
        self._retention = retention or Retention()

    async def archive_idle(self, slot: datetime) -> Counts | None:
        """Archive idle sessions, then delete what providers keep of those that ended, and files."""

        async def job() -> Counts:
            archived = await asyncio.to_thread(
                self._in_chunks, upkeep.archive_idle, default_ttl=self._retention.idle_ttl
            )
            files = {} if self._tidying is None else await asyncio.to_thread(self._tidying.tidy)
            return {"archived": archived, **await self._closing.run(), **files}

        return await self._once(wire.ARCHIVE_IDLE, slot, job)

    async def roll_up_usage(self, slot: datetime) -> Counts | None:
        """Write the figures of the slot's day and of the day before anew."""

        async def job() -> Counts:
            return {"lines": await asyncio.to_thread(self._roll_up, slot)}

        return await self._once(wire.ROLL_UP_USAGE, slot, job)

    async def self_check(self, slot: datetime) -> Counts | None:
        """Count and log what breaks a promise, in sessions of the last two hours and open ones."""

        async def job() -> Counts:
            return {"violations": await asyncio.to_thread(self._check, slot - _CHECKED_BACK)}

        return await self._once(wire.SELF_CHECK, slot, job)

    async def purge(self, slot: datetime) -> Counts | None:
        """Remove what has been kept for long enough."""

        async def job() -> Counts:
            purged = await asyncio.to_thread(self._purge)
            files = {} if self._tidying is None else await asyncio.to_thread(self._tidying.sweep)
            return {**purged, **files}

        return await self._once(wire.PURGE, slot, job)

    async def _once(
        self, name: str, slot: datetime, job: Callable[[], Awaitable[Counts]]
    ) -> Counts | None:
        """Run the job and return its counts, or None when the slot was taken before."""
        if not await asyncio.to_thread(self._take, name, slot):
            return None
        try:
            counts = await job()
        except Exception as error:
            code = error.code if isinstance(error, TurnmillError) else type(error).__name__
            await asyncio.to_thread(self._fail, name, slot, code)
            raise
        await asyncio.to_thread(self._finish, name, slot, counts)
        logger.info(
            "%s: %s",
            name,
            ", ".join(f"{count} {what}" for what, count in counts.items()),
            extra={"action": "job_finished", "job": name, **counts},
        )
        return counts

    def _take(self, name: str, slot: datetime) -> bool:
        with self._database.begin() as conn:
            return jobs.take_slot(conn, name, slot)

    def _finish(self, name: str, slot: datetime, counts: Counts) -> None:
        with self._database.begin() as conn:
            jobs.finish_slot(conn, name, slot, result=counts)

    def _fail(self, name: str, slot: datetime, code: str) -> None:
        """Note for `turnmill doctor` what stood in the way; where even that fails, it shows too."""
        logger.error("%s failed: %s", name, code, extra={"action": "job_failed", "job": name})
        with suppress(StoreError), self._database.begin() as conn:
            jobs.fail_slot(conn, name, slot, error_code=code)

    def _roll_up(self, slot: datetime) -> int:
        lines = 0
        for day in usage.days_until(slot.date(), days=_DAYS_ROLLED_UP):
            with self._database.begin() as conn:
                lines += usage.roll_up(conn, day)
        return lines

    def _check(self, since: datetime) -> int:
        with self._database.single() as conn:
            found = violations(conn, since=since)
        for violation in found:
            logger.error(
                "a promise is broken: %s",
                violation,
                extra={"action": "invariant_violated", "invariant": violation.name},
            )
        return len(found)

    def _purge(self) -> Counts:
        keep = self._retention
        sessions = 0
        if keep.archived is not None:
            sessions = self._in_chunks(upkeep.purge_archived, older_than=keep.archived)
        with self._database.begin() as conn:
            runs = jobs.purge_runs(conn, older_than=keep.job_runs)
        notes = self._in_chunks(upkeep.purge_announcements, older_than=keep.announcements)
        return {
            "sessions": sessions,
            "announcements": notes,
            "job_runs": runs,
            "missed": self._in_chunks(kept.give_up_missed),
            "events": self._in_chunks(events.prune),
            "reservations": self._in_chunks(charge_orphans),
            "charges": self._in_chunks(budgets.forget_charges, older_than=_KEEP_CHARGES),
        }

    def _in_chunks(self, chunk: Callable[..., int], **options: Any) -> int:
        """Call a store function, each time in a transaction of its own, until it finds nothing."""
        total = 0
        for _ in range(MOST_CHUNKS):
            with self._database.begin() as conn:
                done = chunk(conn, **options)
            if not done:
                break
            total += done
        return total
