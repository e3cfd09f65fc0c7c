"""What running a turn needs of the store."""

from collections.abc import Awaitable
from typing import Protocol

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane
from turnmill.store.budget_records import Ask, Reserved
from turnmill.store.codec import StoredHistory
from turnmill.store.compaction_records import NewCompaction, Spoken
from turnmill.store.records import Claim, Fenced, Settled, Settlement


class Ledger(Protocol):
    """What running a turn needs of the store."""

    async def claim(self, turn_id: TurnId, *, crowded: bool = False) -> Claim | None:
        """Take the turn for one attempt; None when it is not ours to run.

        In a crowd it may be another one's that is taken: whose turn it is first. `crowded` says
        that there is one in this process.
        """
        ...

    async def claim_again(self, turn_id: TurnId) -> Claim | None:
        """Take the turn that was settled just now for its next attempt; no other one's."""
        ...

    async def claim_due(self, lane: Lane, *, limit: int) -> list[Claim]:
        """Take up to `limit` due turns of a lane."""
        ...

    async def settle(self, settlement: Settlement) -> Settled | Fenced:
        """Write the verdict, however long the store is away, and though the wait is cancelled."""
        ...

    async def keep_late(self, settlement: Settlement) -> None:
        """Remember what a vendor keeps of a turn that this process has lost."""
        ...

    async def history(self, session_id: SessionId) -> StoredHistory:
        """Return the messages of all succeeded turns."""
        ...

    async def history_after(self, session_id: SessionId) -> StoredHistory:
        """Return the same without what is left out by now, and with what stands for it."""
        ...

    async def spoken(self, session_id: SessionId) -> Spoken:
        """Return that turn by turn."""
        ...

    async def keep_compaction(self, claim: Claim, made: NewCompaction) -> bool:
        """Write down what is left out from now on; False when the turn is no longer ours."""
        ...

    async def mark_sent(self, claim: Claim) -> bool:
        """Note that the request is about to leave; False when the turn is no longer ours."""
        ...

    async def mark_target(self, claim: Claim) -> bool:
        """Note who is asked instead; False when the turn is no longer ours."""
        ...

    async def paused(self) -> frozenset[str]:
        """Return the providers that are paused now."""
        ...

    def reserve(self, ask: Ask) -> Awaitable[Reserved]:
        """Reserve what a call may cost at the most, in all budgets of its turn."""
        ...
