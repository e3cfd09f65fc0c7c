"""The store as a turn sees it, for tests that have none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from tests.claims import a_claim
from turnmill.domain.content import Message
from turnmill.domain.errors import StoreUnavailable
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, OnAmbiguous
from turnmill.domain.summaries import opening
from turnmill.store.budget_records import Ask, Found, Reserved
from turnmill.store.codec import StoredHistory, content_of
from turnmill.store.compaction_records import NewCompaction, SaidTurn, Spoken
from turnmill.store.records import Claim, Fenced, Settled, Settlement
from turnmill_worker.providers.port import Provider
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.slots import Slots

SAID = [
    Message.of("user", "Hello"),
    Message.of("assistant", "Hello."),
    Message.of("user", "And then?"),
]


def stored(messages: Sequence[Message]) -> StoredHistory:
    """Return the history that the store would return for these messages."""
    return StoredHistory.of_rows((one.role, content_of(one.parts)) for one in messages)


def spoken_of(past: Sequence[Message], compactions: Sequence[NewCompaction]) -> Spoken:
    """Return what a model is to be shown of turns that each begin with a user's message."""
    turns: list[SaidTurn] = []
    for one in past:
        if one.role == "user" or not turns:
            turns.append(SaidTurn(seq=len(turns) + 1, messages=[]))
        turns[-1] = SaidTurn(seq=turns[-1].seq, messages=[*turns[-1].messages, one])
    if not compactions:
        return Spoken(turns=turns)
    last = compactions[-1]
    return Spoken(
        turns=[one for one in turns if one.seq > last.up_to_seq],
        summary=last.summary,
        up_to_seq=last.up_to_seq,
        left_out=last.turns,
    )


@dataclass
class FakeLedger:
    """Gives every claim that is asked for, and keeps what it was told."""

    past: Sequence[Message] = field(default_factory=lambda: SAID)  #: of the session of every claim
    claimed: list[TurnId] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)
    kept_late: list[Settlement] = field(default_factory=list)
    fenced: bool = False
    brought: StoredHistory | None = field(default_factory=StoredHistory)  #: with a claim
    away: bool = False
    options: dict[str, Any] = field(default_factory=dict)  #: of every claim
    compactions: list[NewCompaction] = field(default_factory=list)
    refuses: Exception | None = None  #: what every settle raises
    noted: list[tuple[int, str, str]] = field(default_factory=list)  #: who was asked instead
    asked: list[Ask] = field(default_factory=list)
    reserves: Found = Found.RESERVED  #: what comes of each

    async def claim(self, turn_id: TurnId, *, crowded: bool = False) -> Claim | None:
        self.claimed.append(turn_id)
        options = {"on_ambiguous": OnAmbiguous.RETRY, "history": self.brought} | self.options
        return a_claim(turn_id=turn_id, **options)

    async def claim_due(self, lane: Lane, *, limit: int) -> list[Claim]:
        return []

    async def settle(self, settlement: Settlement) -> Settled | Fenced:
        if self.refuses is not None:
            raise self.refuses
        self.settled.append(settlement)
        if self.fenced:
            return Fenced(turn_id=settlement.turn_id)
        state = settlement.state
        return Settled(turn_id=settlement.turn_id, state=state, due_at=None, next=None)

    async def keep_late(self, settlement: Settlement) -> None:
        self.kept_late.append(settlement)

    async def history(self, session_id: SessionId) -> StoredHistory:
        if self.away:
            raise StoreUnavailable
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
        if self.away:
            raise StoreUnavailable
        return True

    async def claim_again(self, turn_id: TurnId) -> Claim | None:
        return None

    async def paused(self) -> frozenset[str]:
        return frozenset()

    async def mark_target(self, claim: Claim) -> bool:
        self.noted.append((claim.target, claim.provider, claim.model))
        return True

    async def reserve(self, ask: Ask) -> Reserved:
        self.asked.append(ask)
        if self.away:
            raise StoreUnavailable
        return Reserved(self.reserves)


def deps_of(
    ledger: FakeLedger, send: Callable[..., Any] | None, *, check: Any = None, **options: Any
) -> Deps:
    """Return what a turn needs, with a provider of these two verbs."""
    provider = cast(Provider, SimpleNamespace(send=send, check=check))
    values: dict[str, Any] = {
        "ledger": ledger,
        "in_hand": InHand(),
        "slots": Slots(1),
        "provider": lambda _: provider,
        "announce": lambda _: None,
        "announce_at": lambda *_: None,
        "price": lambda *_: None,
    }
    return Deps(**values | options)
