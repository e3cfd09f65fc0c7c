"""The tasks that beat sends: thin shells around upkeep, which knows nothing of Celery."""

import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.exceptions import Ignore

from turnmill import wire
from turnmill.domain.analytics.alert_bounds import AlertBounds
from turnmill.domain.analytics.tagging import analytics_tag
from turnmill.domain.analytics.weekly import Weekly
from turnmill.domain.idle import Retention
from turnmill_worker.celery.tasks.hinted import HINTED
from turnmill_worker.process.host import Host
from turnmill_worker.upkeep.jobs import Upkeep

logger = logging.getLogger("turnmill.upkeep")

#: Beat's jobs expire within the hour; clocks of machines differ by less than a few minutes.
_LATEST = timedelta(hours=1)
_EARLIEST = timedelta(minutes=2)


def register(app: Celery, process: Host, environ: Mapping[str, str] = os.environ) -> None:
    """Add the tasks to the app. `process` gives the store and the providers when one runs.

    Raises InvalidSetting for what the environment says of retention, figures, alerts and reports.
    """
    retention = Retention.from_env(environ)
    tag = analytics_tag(environ)
    bounds, weekly = AlertBounds.from_env(environ), Weekly.from_env(environ)

    def upkeep() -> Upkeep:
        return Upkeep(
            process.database(),
            process.runtime().providers.get,
            retention=retention,
            settings=process.settings,
            bounds=bounds,
            weekly=weekly,
            tag=tag,
        )

    _register_of_sessions(app, upkeep)
    _register_of_batches(app, upkeep)
    _register_analytics(app, upkeep)


def _register_of_sessions(app: Celery, upkeep: Callable[[], Upkeep]) -> None:
    """Add those that see to sessions and their rows."""

    @app.task(name=wire.ARCHIVE_IDLE, **HINTED)
    async def archive_idle_task(slot: str | None = None) -> None:
        """Archive idle sessions, and delete what providers keep of those that ended."""
        await upkeep().archive_idle(_slot(slot))

    @app.task(name=wire.SELF_CHECK, **HINTED)
    async def self_check_task(slot: str | None = None) -> None:
        """Look for rows that break a promise."""
        await upkeep().self_check(_slot(slot))

    @app.task(name=wire.PURGE, **HINTED)
    async def purge_task(slot: str | None = None) -> None:
        """Remove what has been kept for long enough."""
        await upkeep().purge(_slot(slot))


def _register_of_batches(app: Celery, upkeep: Callable[[], Upkeep]) -> None:
    """Add those that see to what runs in batches."""

    @app.task(name=wire.TEND_TRIALS, **HINTED)
    async def tend_trials_task(slot: str | None = None) -> None:
        """Take trials to their next step."""
        await upkeep().tend_trials(_slot(slot))

    @app.task(name=wire.POLL_BATCHES, **HINTED)
    async def poll_batches_task(slot: str | None = None) -> None:
        """See to what stands in batches of vendors, or is to."""
        await upkeep().poll_batches(_slot(slot))


def _register_analytics(app: Celery, upkeep: Callable[[], Upkeep]) -> None:
    """Add the tasks that make figures, and look at them."""

    @app.task(name=wire.ROLL_UP_USAGE, **HINTED)
    async def roll_up_usage_task(slot: str | None = None) -> None:
        """Bring the figures along with what has happened."""
        await upkeep().roll_up_usage(_slot(slot))

    @app.task(name=wire.FIND_TOPICS, **HINTED)
    async def find_topics_task(slot: str | None = None) -> None:
        """Find out what sessions are about."""
        await upkeep().find_topics(_slot(slot))

    @app.task(name=wire.LOOK_FOR_ALERTS, **HINTED)
    async def look_for_alerts_task(slot: str | None = None) -> None:
        """Open alerts of what is beyond its bounds, and close those that are over."""
        await upkeep().look_for_alerts(_slot(slot))

    @app.task(name=wire.MAKE_REPORT, **HINTED)
    async def make_report_task(slot: str | None = None) -> None:
        """Make the report of the last week, once it can be made, where somebody wants it."""
        await upkeep().make_report(_slot(slot))


def _slot(sent: object) -> datetime:
    """Return the slot that beat sent; raises Ignore for one that no beat can have sent just now.

    A task sent by hand runs in a slot of its own. Whoever can write to the broker can send any
    slot.
    """
    now = datetime.now(UTC)
    if sent is None:
        return now.replace(second=0, microsecond=0)
    try:
        slot = datetime.fromisoformat(str(sent)).astimezone(UTC)
    except (ValueError, OverflowError):
        slot = datetime.min.replace(tzinfo=UTC)
    if not now - _LATEST <= slot <= now + _EARLIEST:
        logger.warning("a job for a moment that is not near is left alone")
        raise Ignore
    return slot.replace(second=0, microsecond=0)
