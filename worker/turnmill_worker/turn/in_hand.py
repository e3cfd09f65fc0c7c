"""The turns that this process holds: what heartbeats extend, and what can be stopped."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from turnmill.domain.ids import TurnId
from turnmill.store.records import Claim
from turnmill_worker.layers.holding import Holding, Stop


class InHand:
    """All claims in hand. Changed on the loop's thread; read from any."""

    def __init__(self) -> None:
        self._holdings: dict[TurnId, Holding] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: Stop | None = None

    def __len__(self) -> int:
        return len(self._holdings)

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[Holding]:
        """Hold the claim until its verdict is written."""
        self._loop = asyncio.get_running_loop()
        holding = Holding(claim)
        self._holdings[claim.turn_id] = holding
        holding.stop = self._closed  # looked at last: who closes all looks at the holdings last
        try:
            yield holding
        finally:
            if self._holdings.get(claim.turn_id) is holding:
                del self._holdings[claim.turn_id]

    def pairs(self) -> list[tuple[TurnId, int]]:
        """Return (turn, fence) of every claim in hand."""
        return [(one.claim.turn_id, one.claim.fence) for one in list(self._holdings.values())]

    def held(self, turn_ids: Iterable[TurnId]) -> list[TurnId]:
        """Return those of the turns that are ours. From any thread."""
        return [one for one in turn_ids if one in self._holdings]

    def extended(self, pairs: Iterable[tuple[TurnId, int]], *, until: float) -> None:
        """Note that these leases now stand until then, on our clock. From any thread."""
        for holding in self._of(pairs):
            holding.lease_ends = max(holding.lease_ends, until)

    def lost(self, pairs: Iterable[tuple[TurnId, int]]) -> None:
        """Stop the calls of these claims: another worker may run the turns. From any thread.

        A turn may have been settled and claimed again by us since they were looked at: the claim
        under the next fence is another one, and goes on.
        """
        self._stop(self._of(pairs), Stop.LEASE_LOST)

    def cancelled(self, pairs: Iterable[tuple[TurnId, int]]) -> None:
        """Stop the calls of these claims: their rows say that nobody wants them. Any thread."""
        self._stop(self._of(pairs), Stop.CANCELLED)

    def close_all(self, why: Stop) -> None:
        """Stop every call, and let none begin any more. From any thread."""
        self._closed = why
        mine = list(self._holdings.values())
        self._stop(mine, why)

    def _of(self, pairs: Iterable[tuple[TurnId, int]]) -> list[Holding]:
        found = ((self._holdings.get(turn_id), fence) for turn_id, fence in pairs)
        return [one for one, fence in found if one is not None and one.claim.fence == fence]

    def _stop(self, holdings: Sequence[Holding], why: Stop) -> None:
        loop = self._loop
        if not holdings or loop is None or loop.is_closed():
            return
        for one in holdings:
            loop.call_soon_threadsafe(one.close_call, why)
