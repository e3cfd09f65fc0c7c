"""A turn run to its end without a store: claimed again at once as often as the verdict asks."""

from dataclasses import dataclass, field
from typing import Any

from tests.claims import a_claim
from tests.ledgers import FakeLedger
from turnmill.domain.content import Message
from turnmill.domain.states import FINAL, OnAmbiguous, TurnState
from turnmill.store.codec import StoredHistory
from turnmill.store.records import Settlement
from turnmill_worker.providers.port import Provider
from turnmill_worker.providers.pricing import price
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.gauge import Gauge
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.run import run_claim
from turnmill_worker.turn.slots import Slots

_MOST_CLAIMS = 30
_KINDS = {TurnState.UNKNOWN: "check", TurnState.WAITING: "resume"}


@dataclass
class Books(FakeLedger):
    """What a store would know of a session, in which nothing was said so far."""

    past: list[Message] = field(default_factory=list)


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
