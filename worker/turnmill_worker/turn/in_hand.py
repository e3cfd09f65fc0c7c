"""The turns that this process holds: what heartbeats extend, and what can be stopped."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.records import Claim
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.providers.calls import Call


class InHand:
    """All claims in hand. Changed on the loop's thread; read from any."""

    def __init__(self) -> None:
        self._holdings: dict[TurnId, Holding] = {}
        self._by_user: dict[Lane, dict[str, int]] = {lane: {} for lane in Lane}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed: Stop | None = None

    def __len__(self) -> int:
        return len(self._holdings)

    def holding(self, claim: Claim) -> "_Held":
        """Hold the claim, in a `with` block, until its verdict is written."""
        return _Held(self, claim)

    def take(self, claim: Claim) -> Holding:
        """Hold the claim; `let_go` follows."""
        self._loop = asyncio.get_running_loop()
        holding = self._holdings[claim.turn_id] = Holding(claim)
        holding.stop = self._closed  # looked at last: who closes all looks at the holdings last
        self._count(claim, 1)
        return holding

    def let_go(self, claim: Claim, holding: Holding) -> None:
        """Hold the claim that was taken no longer, whatever has become of it."""
        self._count(claim, -1)
        if self._holdings.get(claim.turn_id) is holding:
            del self._holdings[claim.turn_id]

    def by_user(self, lane: Lane) -> dict[str, int]:
        """Return how many turns of the lane are in hand, of each user who has any."""
        return self._by_user[lane].copy()  # in one go: the loop's thread changes it

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
        self._stop(pairs, Stop.LEASE_LOST)

    def cancelled(self, pairs: Iterable[tuple[TurnId, int]]) -> None:
        """Stop the calls of these claims: their rows say that nobody wants them. Any thread."""
        self._stop(pairs, Stop.CANCELLED)

    def close_all(self, why: Stop) -> None:
        """Stop every call, and let none begin any more. From any thread."""
        self._closed = why
        loop = self._loop
        if loop is not None and not loop.is_closed():
            for one in list(self._holdings.values()):
                loop.call_soon_threadsafe(one.close_call, why)

    def _count(self, claim: Claim, more: int) -> None:
        held = self._by_user[claim.lane]
        count = held.get(claim.user_id, 0) + more
        if count:
            held[claim.user_id] = count
        else:
            del held[claim.user_id]

    def _of(self, pairs: Iterable[tuple[TurnId, int]]) -> list[Holding]:
        found = ((self._holdings.get(turn_id), fence) for turn_id, fence in pairs)
        return [one for one, fence in found if one is not None and one.claim.fence == fence]

    def _stop(self, pairs: Iterable[tuple[TurnId, int]], why: Stop) -> None:
        """Look at the fences on the loop's thread: there alone a claim becomes that of a step."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        for turn_id, fence in pairs:
            holding = self._holdings.get(turn_id)
            if holding is not None:
                loop.call_soon_threadsafe(holding.stop_claim, fence, why)


class _Held:
    """A claim that is held within a `with` block: a generator would take 400 bytes of each."""

    __slots__ = ("_claim", "_holding", "_in_hand")

    def __init__(self, in_hand: InHand, claim: Claim) -> None:
        self._in_hand = in_hand
        self._claim = claim

    def __enter__(self) -> Holding:
        self._holding = self._in_hand.take(self._claim)
        return self._holding

    def __exit__(self, *_: object) -> None:
        self._in_hand.let_go(self._claim, self._holding)


async def end_of(call: Call[Any], holding: Holding, *, accepting: Callable[[], bool]) -> None:
    """Wait for work in hand; who wants us to end closes the call in hand, if there is one."""
    while not call.over:
        try:
            await call.wait()
        except asyncio.CancelledError:
            # Celery revoked the task or ends in a hurry: the row must not wait for its lease.
            holding.close_call(Stop.REVOKED if accepting() else Stop.DRAINING)
        except Exception:  # noqa: BLE001
            # The edge to the pool: a soft time limit of Celery's is raised where we wait.
            holding.close_call(Stop.TIMED_OUT)
