"""What becomes of a vendor's thread that was lent to a call: the verdict says it."""

from dataclasses import replace

from turnmill.domain.states import TurnState
from turnmill.store.records import Kept, Settlement
from turnmill_worker.layers.holding import Holding


def with_thread(settlement: Settlement, holding: Holding) -> Settlement:
    """Return the verdict with what becomes of the thread, and why it was done without.

    A reply brings the thread back by itself, and so does work that goes on in it. Without either it
    is given up: nobody knows what it holds. One that was adopted stays for as long as its session.
    """
    lent, holding.lent = holding.lent, None
    if holding.own_history is not None:
        settlement = replace(settlement, own_history=holding.own_history.value)
    if lent is None or settlement.provider_ref is not None:
        return settlement
    claim = holding.claim
    if settlement.state is TurnState.WAITING or lent.ref == claim.adopted:
        return settlement
    left = Kept(ref=lent.ref, provider=claim.provider, stored=True, running=False, wanted=False)
    return replace(settlement, kept=(*settlement.kept, left))
