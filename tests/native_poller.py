"""A process that sees to batches until it is killed: for tests that kill it.

`python -m tests.native_poller DATABASE_URL PROVIDER VENDOR_URL` prints `ready` when it begins.
"""

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta

from tests.native import polling, provider_at
from turnmill.domain.errors import StoreError
from turnmill.store.database import Database


async def _poll(database_url: str, provider: str, vendor_url: str) -> None:
    work = polling(
        Database(database_url), provider_at(provider, vendor_url), lease=timedelta(seconds=1)
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        with suppress(StoreError):  # as a job of beat's, of which the next one goes on
            await work.run(within=timedelta(seconds=5))
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(_poll(*sys.argv[1:]))
