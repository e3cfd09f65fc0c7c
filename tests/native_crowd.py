"""Processes that see to batches until they are killed: forks of one that is ready for it."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

from tests.native import POLL, polling, provider_at
from turnmill.domain.errors import StoreError
from turnmill.store.database import Database
from turnmill_worker.providers import batch_calls
from turnmill_worker.providers.anthropic import batches as at_anthropic
from turnmill_worker.providers.openai import batches as at_openai

#: Who does not answer within this has not answered.
PATIENCE = timedelta(seconds=0.5)
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.native_crowd"])


def begun(database_url: str, provider: str, vendor_url: str) -> BaseProcess:
    """Start a process that sees to the batches."""
    process = _CONTEXT.Process(target=_run, args=(database_url, provider, vendor_url), daemon=True)
    process.start()
    return process


def killed(process: BaseProcess) -> None:
    """Kill it, at whatever it is."""
    process.kill()
    process.join()


def impatient(*, patch: Any = setattr) -> None:
    """Let vendors have less time to answer."""
    patch(batch_calls, "WITHIN", PATIENCE)
    for vendor in (at_openai, at_anthropic):
        patch(vendor, "UPLOAD_WITHIN", PATIENCE)
    patch(at_openai, "WITHIN", PATIENCE)


def _run(database_url: str, provider: str, vendor_url: str) -> None:
    impatient()
    asyncio.run(_poll(database_url, provider, vendor_url))


async def _poll(database_url: str, provider: str, vendor_url: str) -> None:
    database = Database(database_url)
    work = polling(
        database, provider_at(provider, vendor_url), poll=POLL, lease=timedelta(seconds=4)
    )
    while True:
        with suppress(StoreError):  # as a job of beat's, of which the next one goes on
            await work.run(within=timedelta(seconds=5))
        await asyncio.sleep(0.02)
