"""What hearing and speaking need of the store."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from turnmill.domain.content import Audio
from turnmill.domain.ids import TurnId
from turnmill.store.database import Database
from turnmill.store.line import voice
from turnmill.store.line.late import book_late
from turnmill.store.line.settle import was_settled
from turnmill.store.records import Claim, Fenced, Settled, Settlement
from turnmill_worker.turn.patience import kept_trying

T = TypeVar("T")


class _NotOurs(Exception):
    """Rolls a transaction back."""


class VoiceLedger:
    """The spoken turns of one process, on one store. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, claim: Claim, *, kind: str, provider: str, model: str) -> bool:
        """Note what the attempt does, and who is asked; False: the turn is no longer ours."""

        def begin() -> bool:
            with self._database.begin() as conn:
                return voice.begin_voice(conn, claim, kind=kind, provider=provider, model=model)

        return await _aside(begin)

    async def answered(self, turn_id: TurnId) -> voice.Answered:
        """Return what is known of the reply that is to be spoken."""

        def read() -> voice.Answered:
            with self._database.single() as conn:
                return voice.answered(conn, turn_id)

        return await _aside(read)

    async def kept_speech(self, claim: Claim) -> Audio | None:
        """Return what was spoken in the turn by a worker that could not end it."""

        def read() -> Audio | None:
            with self._database.single() as conn:
                return voice.kept_speech(conn, claim)

        return await _aside(read)

    async def end(self, settlement: Settlement) -> Settled | Fenced:
        """Write the verdict over a reply that is heard, however long the store is away."""
        tries = 0

        def end() -> Settled | Fenced:
            nonlocal tries
            tries += 1
            try:
                with self._database.begin() as conn:
                    result = voice.end_aloud(conn, settlement)
                    if isinstance(result, Fenced):
                        raise _NotOurs  # the words stand as they did
                    return result
            except _NotOurs:
                found = self._perhaps_ours(settlement) if tries > 1 else _fenced(settlement)
            if isinstance(found, Fenced):
                self._book(settlement)
            return found

        return await _aside(end)

    def _book(self, settlement: Settlement) -> None:
        """Book what was spoken for nobody: it is paid for."""
        with self._database.begin() as conn:
            book_late(conn, settlement)

    def _perhaps_ours(self, settlement: Settlement) -> Settled | Fenced:
        """Tell a commit that nobody acknowledged from a lease that was lost."""
        with self._database.single() as conn:
            state = was_settled(conn, settlement.turn_id, settlement.fence)
        if state is None:
            return _fenced(settlement)
        return Settled(turn_id=settlement.turn_id, state=state, due_at=None, next=None)


def _fenced(settlement: Settlement) -> Fenced:
    return Fenced(turn_id=settlement.turn_id)


async def _aside(step: Callable[[], T]) -> T:
    return await kept_trying(lambda: asyncio.to_thread(step))
