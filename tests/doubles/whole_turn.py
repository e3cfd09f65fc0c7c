"""A turn run to its end without a store: claimed again at once as often as the verdict asks."""

from dataclasses import dataclass, field
from typing import Any

from tests.claims import a_claim
from tests.ledgers import spoken_of, stored
from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, Lane, OnAmbiguous, TurnState
from turnmill.domain.summaries import opening
from turnmill.store.budget_records import Ask, Reserved
from turnmill.store.codec import StoredHistory
from turnmill.store.compaction_records import NewCompaction, Spoken
from turnmill.store.records import Claim, Fenced, Settled, Settlement
from turnmill_worker.providers.port import Provider
from turnmill_worker.providers.pricing import price
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.gauge import Gauge
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.run import run_claim
from turnmill_worker.turn.slots import Slots

_MOST_CLAIMS = 30
_KINDS = {TurnState.UNKNOWN: "check", TurnState.WAITING: "resume"}


@dataclass(slots=True)
class Books:
    """What a store would know of the session."""

    past: list[Message] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)
    compactions: list[NewCompaction] = field(default_factory=list)

    async def claim(self, turn_id: TurnId, *, crowded: bool = False) -> Claim | None:
        raise NotImplementedError

    async def claim_due(self, lane: Lane, *, limit: int) -> list[Claim]:
        raise NotImplementedError

    async def settle(self, settlement: Settlement) -> Settled | Fenced:
        self.settled.append(settlement)
        return Settled(turn_id=settlement.turn_id, state=settlement.state, due_at=None, next=None)

    async def keep_late(self, settlement: Settlement) -> None:
        raise NotImplementedError

    async def history(self, session_id: SessionId) -> StoredHistory:
        return stored(self.past)

    async def history_after(self, session_id: SessionId) -> StoredHistory:
        now = spoken_of(self.past, self.compactions)
        first = [] if now.summary is None else [opening(now.summary)]
        return stored([*first, *(one for turn in now.turns for one in turn.messages)])

    async def spoken(self, session_id: SessionId) -> Spoken:
        return spoken_of(self.past, self.compactions)

    async def keep_compaction(self, claim: Claim, made: NewCompaction) -> bool:
        self.compactions.append(made)
        return True

    async def mark_sent(self, claim: Claim) -> bool:
        return True

    async def claim_again(self, turn_id: TurnId) -> Claim | None:
        return None

    async def paused(self) -> frozenset[str]:
        return frozenset()

    async def mark_target(self, claim: Claim) -> bool:
        return True

    async def reserve(self, ask: Ask) -> Reserved:
        raise NotImplementedError


async def run_to_end(
    provider: Provider,
    books: Books,
    *,
    gauge: Gauge | None = None,
    in_hand: InHand | None = None,
    **of_claim: Any,
) -> Settlement:
    """Run a turn until it is final, and return the last verdict; `books` have them all."""
    deps = Deps(
        ledger=books,
        in_hand=InHand() if in_hand is None else in_hand,
        slots=Slots(1),
        provider=lambda _: provider,
        announce=lambda _: None,
        announce_at=lambda *_: None,
        price=price,
        gauge=gauge or Gauge(),
    )
    vendor = "anthropic" if provider.name == "anthropic" else "openai"
    progress: dict[str, Any] = {"attempt": 0, "native_ref": "", "kind": "send"}
    for number in range(1, _MOST_CLAIMS):
        progress["attempt"] += progress["kind"] == "send"
        options = {
            "provider": vendor,
            "history": StoredHistory(),
            "on_ambiguous": OnAmbiguous.RECONCILE,
        }
        claim = a_claim(n=number, fence=number, **options | of_claim | progress)
        await run_claim(claim, deps)
        last = books.settled[-1]
        if last.state in FINAL:
            return last
        progress["attempt"] -= last.gives_attempt_back and progress["kind"] == "send"
        progress["kind"] = _KINDS.get(last.state, "send")
        progress["error_code"] = last.error_code
        progress["native_ref"] = last.native_ref
    raise AssertionError(f"no end after {_MOST_CLAIMS} claims: {last.error_code}")
