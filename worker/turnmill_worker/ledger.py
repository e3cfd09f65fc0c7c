"""The worker's side of the store: claims and settles of a process, grouped into few commits."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Protocol, TypeVar

from turnmill.domain.errors import SessionBusy, StoreError, StoreUnavailable
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.parts import Part
from turnmill.domain.states import Lane, TurnState
from turnmill.grouping import Grouped
from turnmill.intake import new_id
from turnmill.store.backlogs import longest_waits
from turnmill.store.claim import (
    claim,
    claim_due,
    claim_suspects,
    due_suspicions,
    still_due,
)
from turnmill.store.database import Database
from turnmill.store.history import succeeded_history
from turnmill.store.leases import end_leases, mark_sent
from turnmill.store.records import Claim, Fenced, Locked, Settled, Settlement
from turnmill.store.settle import settle, was_settled
from turnmill_worker import clock

logger = logging.getLogger("turnmill.ledger")

T = TypeVar("T")

#: Of a group: the ids of those that ended fit into one notification of Postgres (8,000 bytes).
_MOST = 200
#: A reply in hand is offered to the store for this long; then its lease has long been taken.
KEEP_REPLIES = timedelta(minutes=15)
#: Whose turns run by their ids.
_LANES = (Lane.INTERACTIVE, Lane.BULK)
_PAUSES = (0.005, 0.02, 0.08, 0.3, 1.0)


class Ledger(Protocol):
    """What running a turn needs of the store."""

    async def claim(self, turn_id: TurnId) -> Claim | None:
        """Take the turn for one attempt; None when it is not ours to run."""
        ...

    async def claim_due(self, lane: Lane, *, limit: int) -> list[Claim]:
        """Take up to `limit` due turns of a lane."""
        ...

    async def settle(self, settlement: Settlement) -> Settled | Fenced:
        """Write the verdict, however long the store is away."""
        ...

    async def history(self, session_id: SessionId) -> Sequence[Part]:
        """Return the messages of all succeeded turns."""
        ...

    async def mark_sent(self, claim: Claim) -> bool:
        """Note that the request is about to leave; False when the turn is no longer ours."""
        ...


class _Busy:
    """Somebody holds the session for a moment: ask again."""


class GroupedLedger:
    """The ledger of one process on one store."""

    def __init__(self, database: Database, *, owner: str, lease: timedelta) -> None:
        self._database = database
        self._owner = owner
        self._lease = lease
        # Those who take what is due at the same time read past each other's rows.
        self._one_at_a_time = asyncio.Lock()
        self._claims = Grouped("claims", self._claim_group, most=_MOST)
        self._settles = Grouped("settles", self._settle_group, most=_MOST)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the two writer threads."""
        self._claims.start(loop)
        self._settles.start(loop)

    def stop(self) -> None:
        """Write what is left and stop."""
        self._claims.stop()
        self._settles.stop()

    async def claim(self, turn_id: TurnId) -> Claim | None:
        """Take the turn; a session that is locked for a moment is asked for again."""
        for pause in _PAUSES:
            found = await self._claims.submit(turn_id)
            if not isinstance(found, _Busy):
                return found
            await asyncio.sleep(pause)
        return None

    async def claim_due(self, lane: Lane, *, limit: int) -> list[Claim]:
        """Take up to `limit` due turns of the lane, unless it is paused."""
        if limit < 1:
            return []
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._claim_lane, lane, limit)

    async def longest_waits(self) -> dict[Lane, timedelta]:
        """Return how long the first in each lane has been due and not taken."""
        return await asyncio.to_thread(self._within, longest_waits)

    async def suspicions(self) -> set[int]:
        """Return how often the suspects that are due were lost (3: so often or more)."""
        return await asyncio.to_thread(self._within, due_suspicions)

    async def claim_suspects(self, *, lost: int, limit: int) -> list[Claim]:
        """Take up to `limit` turns in quarantine that were lost so often."""
        return await asyncio.to_thread(self._claim_suspects, lost, limit)

    async def give_up(self, owner: str) -> None:
        """End the leases of a process that is known to be dead, instead of waiting for them."""
        try:
            await asyncio.to_thread(self._within, end_leases, owner)
        except StoreError as error:
            logger.warning("leases are left to run out: %s", error.code)

    async def settle(self, settlement: Settlement) -> Settled | Fenced:
        """Write the verdict; through a restart of the database, and past a locked session."""
        deadline = asyncio.get_running_loop().time() + KEEP_REPLIES.total_seconds()
        tries = 0
        while True:
            pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
            tries += 1
            try:
                result = await self._settles.submit(settlement)
            except (StoreUnavailable, SessionBusy):
                if asyncio.get_running_loop().time() > deadline:
                    raise
                result = Locked(turn_id=settlement.turn_id)
            if isinstance(result, Fenced) and tries > 1:
                return await asyncio.to_thread(self._perhaps_ours, settlement, result)
            if not isinstance(result, Locked):
                return result
            await asyncio.sleep(pause)

    async def history(self, session_id: SessionId) -> Sequence[Part]:
        """Return the messages of all succeeded turns."""
        return await asyncio.to_thread(self._within, succeeded_history, session_id)

    async def mark_sent(self, claim: Claim) -> bool:
        """Note that the request is about to leave."""

        def mark() -> bool:
            with self._database.single() as conn:
                return mark_sent(conn, claim.turn_id, fence=claim.fence)

        return await asyncio.to_thread(mark)

    def _within(self, function: Callable[..., T], *args: object) -> T:
        with self._database.single() as conn:
            return function(conn, *args)

    def _claim_lane(self, lane: Lane, limit: int) -> list[Claim]:
        asked_at = clock.now()
        with self._database.single() as conn:
            claims = claim_due(
                conn,
                lane,
                limit=limit,
                owner=self._owner,
                lease=self._lease,
            )
        return self._timed(claims, asked_at)

    def _claim_suspects(self, lost: int, limit: int) -> list[Claim]:
        asked_at = clock.now()
        with self._database.single() as conn:
            claims = claim_suspects(
                conn, lost=lost, limit=limit, owner=self._owner, lease=self._lease
            )
        return self._timed(claims, asked_at)

    def _timed(self, claims: Sequence[Claim], asked_at: float) -> list[Claim]:
        """Write into the claims when their leases end here: on our clock, and rather too early."""
        ends = asked_at + self._lease.total_seconds()
        return [replace(one, lease_ends=ends) for one in claims]

    def _claim_group(self, turn_ids: Sequence[TurnId]) -> list[Claim | _Busy | None]:
        asked_at = clock.now()
        with self._database.single() as conn:
            claims = claim(
                conn,
                list(dict.fromkeys(turn_ids)),
                owner=self._owner,
                lease=self._lease,
                lanes=_LANES,
            )
            found = {one.turn_id: one for one in self._timed(claims, asked_at)}
            missing = [turn_id for turn_id in turn_ids if turn_id not in found]
            busy = set(still_due(conn, missing, lanes=_LANES)) if missing else set()
        # Two hints of one turn in one group: the first of them gets the claim.
        return [found.pop(one, None) or (_Busy() if one in busy else None) for one in turn_ids]

    def _settle_group(self, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
        by_session: dict[SessionId, Settlement] = {}
        for settlement in settlements:
            by_session.setdefault(settlement.session_id, settlement)
        chosen = list(by_session.values())
        results = {id(one): result for one, result in zip(chosen, self._write(chosen), strict=True)}
        # A second verdict for a session is a zombie's or its successor's: in the next group.
        return [results.get(id(one), Locked(turn_id=one.turn_id)) for one in settlements]

    def _write(self, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
        try:
            with self._database.single() as conn:
                return settle(conn, settlements, message_ids=[new_id() for _ in settlements])
        except (StoreUnavailable, SessionBusy):
            raise
        except StoreError as error:
            if len(settlements) > 1:
                # One row that the store refuses must not fail its neighbours.
                return [self._write([one])[0] for one in settlements]
            logger.error(
                "the store refused a verdict: %s",
                error,
                extra={"action": "settle_refused", "turn_id": str(settlements[0].turn_id)},
            )
            return self._write([_unstorable(settlements[0])])

    def _perhaps_ours(self, settlement: Settlement, fenced: Fenced) -> Settled | Fenced:
        """Tell a commit that nobody acknowledged from a lease that was lost."""
        state = self._within(was_settled, settlement.turn_id, settlement.fence)
        if state is None:
            return fenced
        return Settled(turn_id=settlement.turn_id, state=state, due_at=None, next=None)


def _unstorable(settlement: Settlement) -> Settlement:
    if settlement.error_code == "reply_unstorable":
        raise StoreError("the store refuses even the verdict that it refuses the reply")
    return Settlement(
        turn_id=settlement.turn_id,
        session_id=settlement.session_id,
        fence=settlement.fence,
        state=TurnState.FAILED,
        outcome="failed",
        error_code="reply_unstorable",
        provider_ms=settlement.provider_ms,
    )
