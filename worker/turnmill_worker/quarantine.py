"""Quarantine: turns whose worker was lost run in child processes, so that a poison one hurts few.

A loss says nothing about which of a thousand turns was to blame. Suspects therefore run in ever
smaller companies: many after the first loss, few after the second, alone from the third on. Only
a turn that has been lost alone can die of it; its neighbours have long succeeded by then.

Each company is a process of its own, so that those who are hardly suspected need not wait for
those who are. A child stays for a while when it has nothing to do: who loses one worker often
loses a second one soon, and a process takes its time to start.
"""

import asyncio
import logging
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta

from turnmill.domain.errors import StoreError
from turnmill.settings import Settings
from turnmill.store.records import Claim
from turnmill_worker.child import die_with_parent
from turnmill_worker.turn import run_claim
from turnmill_worker.works import Works

logger = logging.getLogger("turnmill.quarantine")

#: How many suspects share a process, by how often they were lost (the last: so often or more).
COMPANY: Mapping[int, int] = {1: 1000, 2: 32, 3: 1}

_STAY = timedelta(seconds=20)
_LOOK_EVERY = timedelta(milliseconds=250)


class Quarantine:
    """The children of one worker process: at most one for each kind of company."""

    def __init__(self) -> None:
        self._inhabited: set[int] = set()

    async def run(self, works: Works) -> dict[int, int]:
        """Run a child for each kind of suspects that is due, until none have been due for a while.

        Returns the children's exit codes by number of losses. A child that was killed by a poison
        turn is no error here: its leases end with it, and the losses are counted.
        """
        try:
            wanted = await works.ledger.suspicions()
        except StoreError as error:
            logger.warning("cannot look for suspects: %s", error.code)
            return {}
        new = sorted(wanted - self._inhabited)
        self._inhabited |= set(new)
        try:
            codes = await asyncio.gather(*(_run_child(works, lost) for lost in new))
        finally:
            self._inhabited -= set(new)
        return dict(zip(new, codes, strict=True))


async def _run_child(works: Works, lost: int) -> int:
    owner = f"{works.owner}/{lost}-{secrets.token_hex(4)}"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # whatever lies in the working directory is not what is meant
        "-m",
        "turnmill_worker.quarantine",
        "worker",
        str(lost),
        owner,
        stdin=asyncio.subprocess.DEVNULL,
        # Who kills us with all that is ours must not kill suspects: that would count against them.
        start_new_session=True,
    )
    try:
        code = await _end_of(child, works.draining)
    except asyncio.CancelledError:
        child.terminate()
        await child.wait()
        raise
    if code != 0:
        logger.warning("quarantine ended with code %d", code, extra={"action": "quarantine_lost"})
        await works.ledger.give_up(owner)
    return code


async def _end_of(child: asyncio.subprocess.Process, draining: threading.Event) -> int:
    """Wait for the child, and tell it when this worker drains: it gives back what it has."""
    ending = asyncio.ensure_future(child.wait())
    while not draining.is_set():
        await asyncio.wait({ending}, timeout=_LOOK_EVERY.total_seconds())
        if ending.done():
            return ending.result()
    child.terminate()
    return await ending


async def run_suspects(works: Works, *, lost: int, stay: timedelta = _STAY) -> int:
    """Run suspects as they become due, until none have for a while; return how many."""
    company: set[asyncio.Task[object]] = set()
    total, busy_at = 0, time.monotonic()
    while not works.draining.is_set() and time.monotonic() - busy_at < stay.total_seconds():
        for claim in await _claims(works, lost=lost, most=COMPANY[lost] - len(company)):
            company.add(asyncio.ensure_future(run_claim(claim, works.deps)))
            total += 1
        if company:
            busy_at = time.monotonic()
        company = await _some_time_with(company)
    if company:
        await asyncio.wait(company)
    return total


async def _claims(works: Works, *, lost: int, most: int) -> list[Claim]:
    if most < 1:
        return []
    try:
        return await works.ledger.claim_suspects(lost=lost, limit=most)
    except StoreError as error:
        logger.warning("cannot claim suspects: %s; trying again", error.code)
        return []


async def _some_time_with(company: set[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    """Let the turns run for a while, and return those that have not ended."""
    if not company:
        await asyncio.sleep(_LOOK_EVERY.total_seconds())
        return company
    done, rest = await asyncio.wait(
        company, timeout=_LOOK_EVERY.total_seconds(), return_when=asyncio.FIRST_COMPLETED
    )
    for task in done:
        if task.exception() is not None:
            # Its verdict could not be written for a long time: its lease has run out by now.
            logger.error("a turn ended with %s", type(task.exception()).__name__)
    return rest


async def _main(settings: Settings, *, lost: int, owner: str) -> None:
    works = Works(settings, slots=COMPANY[lost], dispatches=False, owner=owner)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, works.drain)
    works.start(loop)
    try:
        await run_suspects(works, lost=lost)
    finally:
        await works.stop()


if __name__ == "__main__":
    die_with_parent(signal.SIGTERM)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="[%(asctime)s %(levelname)s %(name)s in quarantine] %(message)s",
    )
    asyncio.run(_main(Settings.from_env(), lost=int(sys.argv[-2]), owner=sys.argv[-1]))
