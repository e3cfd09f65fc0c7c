"""Quarantine: turns whose worker was lost run in child processes, so that a poison one hurts few.

A loss says nothing about which of a thousand turns was to blame. Suspects therefore run in ever
smaller companies: many after the first loss, few after the second, alone from the third on. Only
a turn that has been lost alone can die of it; its neighbours have long succeeded by then.

Each company is a process of its own, so that those who are hardly suspected need not wait for
those who are. `turnmill_worker.process.quarantine_child` is what runs in it.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import threading
from datetime import timedelta
from typing import Protocol

from turnmill.domain.errors import StoreError

logger = logging.getLogger("turnmill.quarantine")

#: The company of those who were lost once.
LEAST_SUSPECT = 1

_LOOK_EVERY = timedelta(milliseconds=250)
#: What a child may take beyond the grace to write its verdicts and close its providers.
_CLEANUP = timedelta(seconds=8)


class QuarantineStore(Protocol):
    """What quarantine needs of the store."""

    async def loss_counts(self) -> set[int]:
        """Return how often the suspects that are due were lost."""
        ...

    async def give_up(self, owner: str) -> None:
        """End the leases of a process that is known to be dead."""
        ...


class Quarantine:
    """The children of one worker process: at most one for each kind of company."""

    def __init__(
        self,
        ledger: QuarantineStore,
        *,
        owner: str,
        draining: threading.Event,
        grace: timedelta = timedelta(seconds=6),
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._draining = draining
        self._patience = grace + _CLEANUP
        self._inhabited: set[int] = set()

    async def run(self) -> dict[int, int]:
        """Run a child for each kind of suspects that is due, until none have been due for a while.

        Returns the children's exit codes by number of losses. A child that was killed by a poison
        turn is no error here: its leases end with it, and the losses are counted.
        """
        try:
            wanted = await self._ledger.loss_counts()
        except StoreError as error:
            logger.warning("cannot look for suspects: %s", error.code)
            return {}
        return await self._run(wanted)

    async def prepare(self) -> dict[int, int]:
        """Run a child for those who may be lost soon: when they are, it is there already."""
        return await self._run({LEAST_SUSPECT})

    async def _run(self, wanted: set[int]) -> dict[int, int]:
        if self._draining.is_set():
            return {}
        new = sorted(wanted - self._inhabited)
        self._inhabited |= set(new)
        try:
            codes = await asyncio.gather(*(self._run_child(lost) for lost in new))
        finally:
            self._inhabited -= set(new)
        return dict(zip(new, codes, strict=True))

    async def _run_child(self, lost: int) -> int:
        owner = f"{self._owner}/{lost}-{secrets.token_hex(4)}"
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # whatever lies in the working directory is not what is meant
            "-m",
            "turnmill_worker.process.quarantine_child",
            "worker",
            str(lost),
            owner,
            str(os.getpid()),
            *_paths(),
            stdin=asyncio.subprocess.DEVNULL,
            # Who kills us with all that is ours must not kill suspects: it counts against them.
            start_new_session=True,
        )
        try:
            code = await self._end_of(child)
        except asyncio.CancelledError:
            await self._told_to_end(child, asyncio.ensure_future(child.wait()))
            raise
        if code != 0:
            logger.warning(
                "quarantine ended with code %d", code, extra={"action": "quarantine_lost"}
            )
            await self._ledger.give_up(owner)
        return code

    async def _end_of(self, child: asyncio.subprocess.Process) -> int:
        """Wait for the child, and tell it when this worker drains: it gives back what it has."""
        ending = asyncio.ensure_future(child.wait())
        while not self._draining.is_set():
            await asyncio.wait({ending}, timeout=_LOOK_EVERY.total_seconds())
            if ending.done():
                return ending.result()
        return await self._told_to_end(child, ending)

    async def _told_to_end(
        self, child: asyncio.subprocess.Process, ending: asyncio.Future[int]
    ) -> int:
        """Ask the child to end, and kill it where it cannot: its loop may be blocked for good."""
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await asyncio.wait({ending}, timeout=self._patience.total_seconds())
        if not ending.done():
            logger.error("quarantine does not end: it is killed")
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        return await ending


def _paths() -> list[str]:
    """Return where this worker finds modules: its tools may lie where it was started."""
    return [os.path.abspath(one) for one in sys.path]
