"""Trials on their way: each step by rows alone, and judges outside of every transaction."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from uuid import UUID

from turnmill.domain.errors import DataKeyMissing, SessionBusy, StoreUnavailable
from turnmill.new_ids import new_id
from turnmill.store.analytics import judging
from turnmill.store.analytics.judging import Claimed, Step
from turnmill.store.database import Database
from turnmill_worker.analytics.judges import TIMED_OUT, TIMEOUT, Embed, Hung, nearness, registered

logger = logging.getLogger("turnmill.trials")

#: Replies that a function compares in one call; as many are given up where its caller is lost.
AT_ONCE = 16


class Tending:
    """Takes trials from step to step."""

    def __init__(
        self,
        database: Database,
        *,
        find: Callable[[str], Embed | None] = registered,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        self._database = database
        self._find = find
        self._timeout = timeout

    async def run(self, *, within: timedelta) -> dict[str, int]:
        """Do what is to be done now, for at most about so long; return what that was."""
        ends = time.monotonic() + within.total_seconds()
        counts = {"trials_tended": 0, "trials_ended": 0}
        for trial_id in await asyncio.to_thread(self._open):
            if time.monotonic() >= ends:
                break
            last = await self._tend(trial_id, ends)
            counts["trials_tended"] += 1
            counts["trials_ended"] += last is Step.OVER
        return counts

    async def _tend(self, trial_id: UUID, ends: float) -> Step:
        found = Step.AGAIN
        while found is Step.AGAIN and time.monotonic() < ends:
            try:
                found = await asyncio.to_thread(
                    self._database.run, partial(judging.step, trial_id=trial_id)
                )
                if found is Step.ASK:
                    found = await self._ask(trial_id)
            except (DataKeyMissing, SessionBusy, StoreUnavailable) as error:
                logger.warning(
                    "a trial waits: %s",
                    error.code,
                    extra={"action": "trial_waits", "trial": str(trial_id), "code": error.code},
                )
                return Step.WAIT  # for the next look
        return found

    async def _ask(self, trial_id: UUID) -> Step:
        """Have a function compare replies, once it stands that it is asked to."""
        claimed = await asyncio.to_thread(
            self._database.run,
            partial(judging.claim, trial_id=trial_id, claim_id=UUID(str(new_id())), limit=AT_ONCE),
        )
        if claimed is None:
            return Step.WAIT
        embed = await asyncio.to_thread(self._find, claimed.judge.name)
        is_hung = False
        try:
            found = await nearness(embed, claimed.pairs, timeout=self._timeout)
        except Hung:
            is_hung = True
            found = dict.fromkeys((one.line for one in claimed.pairs), TIMED_OUT)
        await asyncio.to_thread(self._keep, trial_id, claimed, found)
        return Step.WAIT if is_hung else Step.AGAIN

    def _keep(self, trial_id: UUID, claimed: Claimed, found: Mapping[int, float | str]) -> None:
        with self._database.begin() as conn:
            judging.keep(conn, trial_id, claimed, found)

    def _open(self) -> list[UUID]:
        with self._database.single() as conn:
            return judging.open_trials(conn)
