"""What is done from time to time, whoever asks for it: each job runs once for a slot."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from importlib.util import find_spec

from turnmill import wire
from turnmill.domain.analytics.alert_bounds import AlertBounds
from turnmill.domain.analytics.weekly import Weekly
from turnmill.domain.errors import StoreError, TurnmillError
from turnmill.domain.idle import Retention
from turnmill.settings import Settings
from turnmill.store.analytics import forgetting
from turnmill.store.analytics.folding import fold
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.nouns import audit_chain, event_log, shards
from turnmill.store.upkeep import jobs
from turnmill.store.upkeep import retention as upkeep
from turnmill.store.upkeep.invariants import violations
from turnmill.verbs.users.erasing import Erasing
from turnmill_worker.analytics.child import find_apart
from turnmill_worker.process.closing import Closing, Counts
from turnmill_worker.process.strays import Strays
from turnmill_worker.process.tidying import Tidying
from turnmill_worker.providers.own_prices import Prices, prices_in
from turnmill_worker.providers.port import Provider
from turnmill_worker.upkeep.chunks import Chunks
from turnmill_worker.upkeep.purging import Purging

logger = logging.getLogger("turnmill.upkeep")

#: Archiving goes on for so long in one slot, and ends before the next one.
_ARCHIVES_FOR = timedelta(minutes=4)
#: Batches at vendors are seen to for so long in one slot.
_POLLS_FOR = timedelta(seconds=50)
#: Trials are taken from step to step for so long in one slot.
_TENDS_FOR = timedelta(seconds=45)
#: Figures are brought along for so long in one slot.
_PLACES_FOR, _FOLDS_FOR = timedelta(seconds=20), timedelta(seconds=30)
_CHECKED_BACK = timedelta(hours=2)


class Upkeep:
    """The jobs of the schedule. A slot that was taken before makes each of them a no-op."""

    def __init__(
        self,
        database: Database,
        provider: Callable[[str], Provider],
        *,
        retention: Retention | None = None,
        settings: Settings | None = None,
        bounds: AlertBounds | None = None,
        weekly: Weekly | None = None,
        tag: str | None = None,
    ) -> None:
        """Without `settings`, no files are looked at, and nobody is erased.

        `tag` is what figures are told apart by; None: what they are told apart by already.
        """
        self._tag = tag
        self._database = database
        self._tidying = None if settings is None else Tidying(database, settings)
        self._erasing = None if settings is None else Erasing(database, settings)
        self._closing = Closing(
            database, provider, prices_in(settings.prices if settings else None, Prices())
        )
        self._strays = Strays(database, provider)
        self._provider = provider
        self._settings = settings or Settings()
        self._retention = retention or Retention()
        self._purging = Purging(database, settings=self._settings, retention=self._retention)
        self._bounds = bounds or AlertBounds()
        self._weekly = weekly or Weekly()

    async def archive_idle(self, slot: datetime) -> Counts | None:
        """Archive idle sessions, chain the audit log, and go on with erasures.

        Then delete what providers keep of sessions that ended, and files.
        """

        async def job(chunks: Chunks) -> Counts:
            archived = await asyncio.to_thread(
                chunks.do,
                "archived",
                upkeep.archive_idle,
                within=_ARCHIVES_FOR,
                default_ttl=self._retention.idle_ttl,
            )
            chained = await asyncio.to_thread(chunks.do, "audit_chained", audit_chain.chain)
            erased = await asyncio.to_thread(self._erase)
            files = {} if self._tidying is None else await asyncio.to_thread(self._tidying.tidy)
            counts = {"archived": archived, "audit_chained": chained, **erased}
            return {**counts, **await self._closing.run(), **files}

        return await self._once(wire.ARCHIVE_IDLE, slot, job)

    async def roll_up_usage(self, slot: datetime) -> Counts | None:
        """Bring the figures along with what has happened."""

        async def job(chunks: Chunks) -> Counts:
            return await asyncio.to_thread(self._fold, chunks)

        return await self._once(wire.ROLL_UP_USAGE, slot, job)

    async def self_check(self, slot: datetime) -> Counts | None:
        """Count and log what breaks a promise, in sessions of the last two hours and open ones."""

        async def job(_: Chunks) -> Counts:
            return {"violations": await asyncio.to_thread(self._check, slot - _CHECKED_BACK)}

        return await self._once(wire.SELF_CHECK, slot, job)

    async def poll_batches(self, slot: datetime) -> Counts | None:
        """See to what stands in batches of vendors, or is to, until the next slot begins."""

        async def job(_: Chunks) -> Counts:
            if not await asyncio.to_thread(self._has_batches):
                return {"shards_made": 0, "shards_seen_to": 0}
            from turnmill_worker.native.working import polling_of  # noqa: PLC0415  few have any

            polling = polling_of(self._database, self._provider, self._settings)
            return await polling.run(within=_POLLS_FOR)

        return await self._once(wire.POLL_BATCHES, slot, job)

    async def look_for_alerts(self, slot: datetime) -> Counts | None:
        """Open alerts of what is beyond its bounds, and close those that are over."""

        async def job(_: Chunks) -> Counts:
            from turnmill_worker.analytics.watching import look  # noqa: PLC0415  for this job

            return await asyncio.to_thread(look, self._database, self._bounds)

        return await self._once(wire.LOOK_FOR_ALERTS, slot, job)

    async def make_report(self, slot: datetime) -> Counts | None:
        """Make the report of the last week, once it can be made, where somebody wants it."""

        async def job(_: Chunks) -> Counts:
            from turnmill_worker.analytics.weekly import make  # noqa: PLC0415  for this job

            return await asyncio.to_thread(make, self._database, self._weekly, at=slot)

        return await self._once(wire.MAKE_REPORT, slot, job)

    async def find_topics(self, slot: datetime) -> Counts | None:
        """Find out what sessions are about, where scikit-learn is installed."""

        async def job(_: Chunks) -> Counts:
            if find_spec("sklearn") is None or find_spec("stop_words") is None:
                return {"not_installed": 1}
            if self._is_of_environment():
                return await find_apart()
            from turnmill_worker.analytics.finding import find_topics  # noqa: PLC0415  heavy

            return await asyncio.to_thread(find_topics, self._database)

        return await self._once(wire.FIND_TOPICS, slot, job)

    def _is_of_environment(self) -> bool:
        """Tell whether a process that is started here finds this store, by the variables."""
        url = os.environ.get("TURNMILL_DATABASE_URL", "")
        shared = self._database.can(Capability.SHARED)
        return shared and bool(url) and url == self._settings.database_url

    async def tend_trials(self, slot: datetime) -> Counts | None:
        """Take trials from step to step, until the next slot begins."""

        async def job(_: Chunks) -> Counts:
            if not await asyncio.to_thread(self._has_trials):
                return {"trials_tended": 0, "trials_ended": 0}
            from turnmill_worker.analytics.trials import Tending  # noqa: PLC0415  few have any

            return await Tending(self._database).run(within=_TENDS_FOR)

        return await self._once(wire.TEND_TRIALS, slot, job)

    async def purge(self, slot: datetime) -> Counts | None:
        """Remove what has been kept for long enough."""

        async def job(chunks: Chunks) -> Counts:
            # What nobody has folded in is not forgotten.
            await asyncio.to_thread(self._fold, chunks)
            purged = await asyncio.to_thread(self._purging.purge, chunks)
            files = {} if self._tidying is None else await asyncio.to_thread(self._tidying.sweep)
            return {**purged, **files, **await self._strays.run()}

        return await self._once(wire.PURGE, slot, job)

    def job(self, task: str) -> Callable[[datetime], Awaitable[Counts | None]]:
        """Return what does the work of this task."""
        return {
            wire.ARCHIVE_IDLE: self.archive_idle,
            wire.LOOK_FOR_ALERTS: self.look_for_alerts,
            wire.MAKE_REPORT: self.make_report,
            wire.FIND_TOPICS: self.find_topics,
            wire.POLL_BATCHES: self.poll_batches,
            wire.ROLL_UP_USAGE: self.roll_up_usage,
            wire.SELF_CHECK: self.self_check,
            wire.TEND_TRIALS: self.tend_trials,
            wire.PURGE: self.purge,
        }[task]

    async def _once(
        self, name: str, slot: datetime, job: Callable[[Chunks], Awaitable[Counts]]
    ) -> Counts | None:
        """Run the job and return its counts, or None when the slot was taken before."""
        if not await asyncio.to_thread(self._take, name, slot):
            return None
        try:
            counts = await job(Chunks(self._database, name, slot))
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

    def _has_batches(self) -> bool:
        with self._database.single() as conn:
            return shards.is_any_open(conn)

    def _has_trials(self) -> bool:
        with self._database.single() as conn:
            return forgetting.is_any_open(conn)

    def _fold(self, chunks: Chunks) -> Counts:
        """Give places to events, then fold them in; what is left is done in the next slot."""
        placed = chunks.do("placed", event_log.give_places, within=_PLACES_FOR)
        return {
            "placed": placed,
            "folded": chunks.do("folded", fold, within=_FOLDS_FOR, tag=self._tag),
        }

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

    def _erase(self) -> Counts:
        """Go on where somebody's erasure waited for its time, or was not finished."""
        return {} if self._erasing is None else {"erased": self._erasing.go_on_with_all()}
