"""Quarantine: turns whose worker was lost run in a child process, so that a poison one hurts few.

A loss says nothing about which of a thousand turns was to blame. Suspects therefore run in ever
smaller companies: many after the first loss, few after the second, alone from the third on. Only
a turn that has been lost alone can die of it; its neighbours have long succeeded by then.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence

from turnmill.domain.states import Lane
from turnmill.settings import Settings
from turnmill.store.records import Claim
from turnmill_worker.bulk import run_rounds
from turnmill_worker.child import die_with_parent
from turnmill_worker.works import Works

logger = logging.getLogger("turnmill.quarantine")

#: How many suspects share a process, by how often they were lost.
COMPANY: Mapping[int, int] = {1: 1000, 2: 32, 3: 1}
_MOST_CHILDREN = 2


class Quarantine:
    """The children of one worker process, few at a time."""

    def __init__(self) -> None:
        self._children = 0

    async def run(self) -> int | None:
        """Run a child until no suspects are due; None when enough children run already.

        Returns the child's exit code; a child that was killed by a poison turn is no error here:
        its leases run out, and the losses are counted.
        """
        if self._children >= _MOST_CHILDREN:
            return None
        self._children += 1
        try:
            return await _run_child()
        finally:
            self._children -= 1


async def _run_child() -> int:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "turnmill_worker.quarantine",
        "worker",
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        code = await child.wait()
    except asyncio.CancelledError:
        child.terminate()
        await child.wait()
        raise
    if code != 0:
        logger.warning("quarantine ended with code %d", code, extra={"action": "quarantine_lost"})
    return code


async def run_suspects(works: Works) -> int:
    """Take and run suspects, the least suspicious first, until none are due; return how many."""
    total = 0
    while not works.draining.is_set():
        ran = 0
        for lost, company in COMPANY.items():
            ran += await _run_company(works, lost=lost, company=company)
        total += ran
        if ran == 0:
            break
    return total


async def _run_company(works: Works, *, lost: int, company: int) -> int:
    async def take(most: int) -> Sequence[Claim]:
        return await works.ledger.claim_suspects(lost=lost, limit=most)

    return await run_rounds(
        works.deps,
        Lane.INTERACTIVE,  # the whole process is set apart: nothing is reserved in it
        take,
        most=company,
        keep_on=lambda: not works.draining.is_set(),
    )


async def _main(settings: Settings) -> None:
    works = Works(settings, slots=max(COMPANY.values()), dispatches=False)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, works.drain)
    works.preload()
    works.start(loop)
    try:
        await run_suspects(works)
    finally:
        await works.stop()


if __name__ == "__main__":
    die_with_parent(signal.SIGTERM)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(_main(Settings.from_env()))
