"""What is done from time to time, whoever asks for it: each job runs once for a slot."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from turnmill import wire
from turnmill.domain.errors import ProviderError, StoreError, TurnmillError
from turnmill.domain.idle import Retention
from turnmill.domain.ids import SessionId
from turnmill.store import jobs, upkeep, usage
from turnmill.store.database import Database
from turnmill.store.invariants import violations
from turnmill.store.upkeep import OpenThread
from turnmill_worker.providers.base import Provider

logger = logging.getLogger("turnmill.upkeep")

#: A job ends after so many chunks: what is left is done in the next slot.
MOST_CHUNKS = 200

_CLOSES_AT_ONCE = 10
_CLOSE_SECONDS = 30.0
_DAYS_ROLLED_UP = 2
_CHECKED_BACK = timedelta(hours=2)

Counts = Mapping[str, int]


class Upkeep:
    """The jobs of the schedule. A slot that was taken before makes each of them a no-op."""

    def __init__(
        self,
        database: Database,
        provider: Callable[[str], Provider],
        *,
        retention: Retention | None = None,
    ) -> None:
        self._database = database
        self._provider = provider
        self._retention = retention or Retention()

    async def archive_idle(self, slot: datetime) -> Counts | None:
        """Archive idle sessions, then close the threads of archived ones at their providers."""

        async def job() -> Counts:
            archived = await asyncio.to_thread(
                self._in_chunks, upkeep.archive_idle, default_ttl=self._retention.idle_ttl
            )
            closed, failed = await self._close_threads()
            return {"archived": archived, "closed": closed, "not_closed": failed}

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
            return await asyncio.to_thread(self._purge)

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

    async def _close_threads(self) -> tuple[int, int]:
        """Close what archived sessions left open; what fails is tried again in the next slot."""
        closed, failures, after = 0, Counter[tuple[str, str]](), None
        for _ in range(MOST_CHUNKS):
            page = await asyncio.to_thread(self._open_threads, after)
            if not page:
                break
            after = page[-1].session_id
            errors = await self._close_page(page)
            gone = [thread for thread, error in zip(page, errors, strict=True) if error is None]
            await asyncio.to_thread(self._forget, gone)
            closed += len(gone)
            failures.update(
                (thread.provider, error)
                for thread, error in zip(page, errors, strict=True)
                if error is not None
            )
        for (provider, error), count in failures.items():
            logger.warning(
                "%d threads could not be closed at %s: %s",
                count,
                provider,
                error,
                extra={"action": "close_failed", "provider": provider, "error_code": error},
            )
        return closed, failures.total()

    async def _close_page(self, page: Sequence[OpenThread]) -> list[str | None]:
        room = asyncio.Semaphore(_CLOSES_AT_ONCE)

        async def close(thread: OpenThread) -> str | None:
            async with room:
                return await self._close(thread)

        return await asyncio.gather(*(close(thread) for thread in page))

    async def _close(self, thread: OpenThread) -> str | None:
        """Close the thread and return None, or the code of what stood in the way."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._provider(thread.provider).close(thread.provider_ref)
        except ProviderError as error:
            return error.error_code
        except Exception as error:  # noqa: BLE001
            # The edge to a provider, maybe a user's own: one that breaks must not stop the others.
            return type(error).__name__
        return None

    def _open_threads(self, after: SessionId | None) -> list[OpenThread]:
        with self._database.begin() as conn:
            return upkeep.open_threads(conn, after=after)

    def _forget(self, closed: Sequence[OpenThread]) -> None:
        if closed:
            with self._database.begin() as conn:
                upkeep.forget_threads(conn, closed)

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
        return {"sessions": sessions, "announcements": notes, "job_runs": runs}

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
