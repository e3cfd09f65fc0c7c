"""A child in quarantine: `python -m` this module, with `worker LOST OWNER PARENT PATH…`.

It runs turns in quarantine that were lost so often, under the owner's name that its parent chose.
It stays for a while when it has nothing to do: who loses one worker often loses a second one soon,
and a process takes its time to start.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from datetime import timedelta

from turnmill.domain.errors import StoreError
from turnmill.settings import Settings
from turnmill.store.records import Claim
from turnmill_worker.pool.loops import run_to_end
from turnmill_worker.process.child import die_with_parent
from turnmill_worker.process.runtime import Runtime
from turnmill_worker.providers.boundary import name_of
from turnmill_worker.turn.run import run_claim

logger = logging.getLogger("turnmill.quarantine")

#: How many suspects share a process, by how often they were lost (the last: so often or more).
MOST_TOGETHER: Mapping[int, int] = {1: 1000, 2: 32, 3: 1}

_STAY = timedelta(seconds=20)
_LOOK_EVERY = timedelta(milliseconds=250)


async def run_suspects(runtime: Runtime, *, lost: int, stay: timedelta = _STAY) -> int:
    """Run suspects as they become due, until none have for a while; return how many."""
    together: set[asyncio.Task[object]] = set()
    total, busy_at = 0, time.monotonic()
    while not runtime.draining.is_set() and time.monotonic() - busy_at < stay.total_seconds():
        for claim in await _claims(runtime, lost=lost, most=MOST_TOGETHER[lost] - len(together)):
            together.add(asyncio.ensure_future(run_claim(claim, runtime.deps)))
            total += 1
        if together:
            busy_at = time.monotonic()
        together = await _some_time_with(together)
    if together:
        await asyncio.wait(together)
    return total


async def _claims(runtime: Runtime, *, lost: int, most: int) -> list[Claim]:
    if most < 1:
        return []
    try:
        return await runtime.ledger.claim_suspects(lost=lost, limit=most)
    except StoreError as error:
        logger.warning("cannot claim suspects: %s; trying again", error.code)
    except Exception as error:  # noqa: BLE001
        # The edge to the suspects that run already: their losses would count if we ended.
        logger.error("cannot claim suspects: %s; trying again", name_of(error))
    return []


async def _some_time_with(together: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    """Let the turns run for a while, and return those that have not ended."""
    if not together:
        await asyncio.sleep(_LOOK_EVERY.total_seconds())
        return together
    done, rest = await asyncio.wait(
        together, timeout=_LOOK_EVERY.total_seconds(), return_when=asyncio.FIRST_COMPLETED
    )
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a turn ended with %s", name_of(error))
    return rest


async def _main(settings: Settings, *, lost: int, owner: str) -> None:
    runtime = Runtime(settings, slots=MOST_TOGETHER[lost], owner=owner)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runtime.drain)
    runtime.start(loop)
    try:
        await run_suspects(runtime, lost=lost)
    finally:
        await runtime.stop()


if __name__ == "__main__":
    _, lost, owner, parent, *path = sys.argv[1:]
    die_with_parent(signal.SIGTERM, parent=int(parent))
    # Where the worker finds its tools and layers, behind all that is installed.
    sys.path += [one for one in path if one not in sys.path]
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="[%(asctime)s %(levelname)s %(name)s in quarantine] %(message)s",
    )
    run_to_end(asyncio.new_event_loop(), _main(Settings.from_env(), lost=int(lost), owner=owner))
    # All is written. A thread that a provider left behind must not keep the process: the
    # interpreter would wait for it.
    logging.shutdown()
    os._exit(0)
