"""The tasks that beat sends: thin shells around upkeep, which knows nothing of Celery."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime

from celery import Celery

from turnmill import wire
from turnmill.domain.idle import Retention
from turnmill_worker.celery.tasks.hinted import HINTED
from turnmill_worker.process.host import Host
from turnmill_worker.upkeep.jobs import Upkeep


def register(app: Celery, process: Host, environ: Mapping[str, str] = os.environ) -> None:
    """Add the tasks to the app. `process` gives the store and the providers when one runs.

    Raises InvalidSetting for what the environment says of retention.
    """
    retention = Retention.from_env(environ)

    def upkeep() -> Upkeep:
        return Upkeep(process.database(), process.runtime().providers.get, retention=retention)

    @app.task(name=wire.ARCHIVE_IDLE, **HINTED)
    async def archive_idle_task(slot: str | None = None) -> None:
        """Archive idle sessions, and delete what providers keep of those that ended."""
        await upkeep().archive_idle(_moment(slot))

    @app.task(name=wire.ROLL_UP_USAGE, **HINTED)
    async def roll_up_usage_task(slot: str | None = None) -> None:
        """Write the usage of today and of the days before it anew."""
        await upkeep().roll_up_usage(_moment(slot))

    @app.task(name=wire.SELF_CHECK, **HINTED)
    async def self_check_task(slot: str | None = None) -> None:
        """Look for rows that break a promise."""
        await upkeep().self_check(_moment(slot))

    @app.task(name=wire.PURGE, **HINTED)
    async def purge_task(slot: str | None = None) -> None:
        """Remove what has been kept for long enough."""
        await upkeep().purge(_moment(slot))


def _moment(slot: str | None) -> datetime:
    """Return the slot that beat sent; a task sent by hand runs in one of its own."""
    return datetime.now(UTC) if slot is None else datetime.fromisoformat(slot)
