"""What goes when it has been kept for long enough, and what is sealed anew on the way past it."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from turnmill.actor import actor_of
from turnmill.domain.errors import DataKeyMissing, FilesUnavailable
from turnmill.domain.idle import Retention
from turnmill.domain.ids import SessionId
from turnmill.settings import Settings
from turnmill.store import kept
from turnmill.store.analytics import alerts, forgetting, made_reports
from turnmill.store.database import Database
from turnmill.store.line import late
from turnmill.store.line.charges import charge_orphans
from turnmill.store.nouns import (
    audit_chain,
    batch_staging,
    budgets,
    event_log,
    subscribing,
    webhooks,
)
from turnmill.store.upkeep import batch_retention, content_retention, jobs
from turnmill.store.upkeep import retention as upkeep
from turnmill.store.upkeep.resealing import reseal
from turnmill_worker.process.closing import Counts
from turnmill_worker.process.telling_prices import tend_prices
from turnmill_worker.upkeep.chunks import Chunks

logger = logging.getLogger("turnmill.upkeep")

#: Content is taken out for so long in one slot.
_EMPTIES_FOR = timedelta(minutes=30)
#: Content is sealed anew for so long in one slot.
_RESEALS_FOR = timedelta(minutes=10)
#: Of webhooks: what was delivered, and what nobody took.
_KEEP_DELIVERED, _KEEP_PARKED = timedelta(days=7), timedelta(days=30)
#: What became of work in the background may be known as late as this.
_KEEP_CHARGES = timedelta(days=35)
#: Alerts that are closed, and notes on reports: a year, and what it is compared with.
_KEEP_ALERTS = timedelta(days=400)
#: Batches whose submitter was killed, and did not come again.
_KEEP_UNFINISHED = timedelta(days=1)
#: What was asked again is kept for so long after its trial has ended; figures stay for longer.
_KEEP_COPIES, _KEEP_TRIALS = timedelta(days=30), timedelta(days=400)


class Purging:
    """Purges one store. From a thread, which it keeps for as long as it takes."""

    def __init__(self, database: Database, *, settings: Settings, retention: Retention) -> None:
        self._database = database
        self._settings = settings
        self._retention = retention

    def purge(self, chunks: Chunks) -> Counts:
        """Remove what is old, and return how much of each kind that was."""
        keep, do = self._retention, chunks.do

        def aged(what: str, job: Callable[..., int], age: timedelta | None) -> int:
            return 0 if age is None else do(what, job, older_than=age)

        tend_prices(self._database, self._settings.prices)
        with self._database.begin() as conn:
            runs = jobs.purge_runs(conn, older_than=keep.job_runs)
        return {
            "sessions": aged("sessions", upkeep.purge_archived, keep.archived),
            "emptied": self._empty(chunks),
            "resealed": self._reseal(chunks),
            "old_keys": self._drop_old_keys(),
            "announcements": do(
                "announcements", upkeep.purge_announcements, older_than=keep.announcements
            ),
            "alerts": do("alerts", alerts.purge, older_than=_KEEP_ALERTS),
            "reports": do("reports", made_reports.purge, older_than=_KEEP_ALERTS),
            "audit": aged("audit", audit_chain.purge, keep.audit),
            "job_runs": runs,
            "missed": do("missed", kept.give_up_missed),
            "events": do("events", event_log.prune),
            "deliveries": do(
                "deliveries", webhooks.purge, delivered=_KEEP_DELIVERED, parked=_KEEP_PARKED
            ),
            "batches": do("batches", batch_staging.forget_unfinished, older_than=_KEEP_UNFINISHED),
            "batch_lines": aged("batch_lines", batch_retention.purge_lines, keep.batches),
            "batch_counts": do(
                "batch_counts", batch_retention.forget_batches, older_than=keep.batch_counts
            ),
            "observed": do("observed", subscribing.forget_observed),
            "reservations": do("reservations", charge_orphans),
            "charges": do("charges", budgets.forget_charges, older_than=_KEEP_CHARGES),
            "calls_gone": do("calls_gone", late.forget_calls, older_than=_KEEP_CHARGES),
            "spent_gone": do("spent_gone", late.join_spent),
            "trial_copies": do("trial_copies", forgetting.forget_copies, older_than=_KEEP_COPIES),
            "trials": do("trials", forgetting.forget_trials, older_than=_KEEP_TRIALS),
            "tombstones": do("tombstones", upkeep.purge_tombstones, older_than=keep.tombstones),
        }

    def _reseal(self, chunks: Chunks) -> int:
        """Seal what is plain, or sealed by a key of before; return how many values were seen."""
        if self._database.keys is None:
            return 0
        from turnmill.verbs.sealing_files import FilesToSeal  # noqa: PLC0415  not all encrypt

        values = chunks.do("resealed", reseal, within=_RESEALS_FOR)
        return values + FilesToSeal(self._database, self._settings).seal(within=_RESEALS_FOR)

    def _drop_old_keys(self) -> int:
        """Drop data keys that seal nothing any more, when no backup needs them either."""
        kept = self._settings.backups_kept
        if self._database.keys is None or kept is None:
            return 0
        from turnmill.verbs.old_keys import OldKeys  # noqa: PLC0415  few rotate keys

        try:
            old = OldKeys(self._database, self._settings)
            return old.drop(actor=actor_of(self._settings), older_than=kept).dropped
        except (DataKeyMissing, FilesUnavailable) as error:
            logger.warning("old data keys cannot be looked at: %s; they stay", error.code)
            return 0

    def _empty(self, chunks: Chunks) -> int:
        """Take out what was said where its time is over; return of how many turns."""
        ends = time.monotonic() + _EMPTIES_FOR.total_seconds()
        total, after = 0, None
        while time.monotonic() < ends:
            with self._database.single() as conn:
                page = content_retention.sessions_with_old_content(
                    conn, default=self._retention.content, after=after
                )
            if not page:
                break
            for session in page:
                total = self._empty_one(chunks, session, total)
            after = page[-1]
        return total

    def _empty_one(self, chunks: Chunks, session: SessionId, total: int) -> int:
        more = True
        while more:
            with self._database.begin() as conn:
                done, more = content_retention.empty_content(
                    conn, session, default=self._retention.content
                )
                total += done
                if done:
                    chunks.note(conn, "emptied", total)
        return total
