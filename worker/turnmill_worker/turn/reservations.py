"""Reservations of a process: many calls at once take what they may cost from their budgets."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from turnmill.domain.errors import SessionBusy
from turnmill.domain.ids import TurnId
from turnmill.store.budget_records import Ask, Found, Reserved
from turnmill.store.database import Database
from turnmill.store.line.reserving import begin_periods, reserve

MOST = 200  #: are handled at once
_PAUSES = (0.005, 0.02, 0.08, 0.3, 1.0)
#: Each time that a call does not fit behind others of its group, one of these at the least did.
_MOST_TRIES = 2 * MOST


class Reservations:
    """All that is asked for by one process, on one store."""

    def __init__(
        self,
        database: Database,
        *,
        submit: Callable[[Ask], Awaitable[Reserved]],
        tags: Sequence[str] = (),
    ) -> None:
        """`submit` lets a thread `reserve_group` what has piled up, and returns what came of it.

        `tags` are the keys of metadata that budgets go by.
        """
        self._database = database
        self._submit = submit
        self._tags = tags

    async def reserve(self, ask: Ask) -> Reserved:
        """Return what comes of it, as soon as those before it have been told of theirs.

        Raises StoreError. Then it may stand all the same: the verdict sees to it.
        """
        for tries in range(_MOST_TRIES):
            try:
                found = await self._submit(ask)
                if found.found is not Found.AGAIN:
                    return found
                if found.over:
                    await asyncio.to_thread(self._begin_periods, found.over)
            except SessionBusy:
                await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
        raise SessionBusy

    def _begin_periods(self, budget_ids: Sequence[UUID]) -> None:
        with self._database.begin() as conn:
            begin_periods(conn, budget_ids)

    def reserve_group(self, asks: Sequence[Ask]) -> list[Reserved]:
        """Return what comes of each, from a thread that may wait for the store."""
        of_turn: dict[TurnId, Ask] = {}
        for ask in asks:
            of_turn.setdefault(ask.turn_id, ask)
        chosen = list(of_turn.values())
        with self._database.single() as conn:
            told = reserve(conn, chosen, tags=self._tags)
        found = {id(one): result for one, result in zip(chosen, told, strict=True)}
        # A second one for a turn is a zombie's or its successor's: in the next group.
        return [found.get(id(one), Reserved(Found.AGAIN)) for one in asks]
