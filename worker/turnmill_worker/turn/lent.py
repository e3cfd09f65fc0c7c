"""What becomes of a vendor's thread that was lent to a call: the verdict says it."""

from dataclasses import replace

from turnmill.domain.states import TurnState
from turnmill.store.records import Kept, Settlement
from turnmill_worker.layers.holding import Holding


def with_thread(settlement: Settlement, holding: Holding) -> Settlement:
    """Return the verdict with what becomes of the thread, and why it was done without.

    A reply brings the thread back by itself, and so does work that goes on in it. Without either it
    is given up: nobody knows what it holds.
    """
    lent, holding.lent = holding.lent, None
    if holding.own_history is not None:
        settlement = replace(settlement, own_history=holding.own_history.value)
    if lent is None or settlement.provider_ref is not None:
        return settlement
    known = any(one.ref == lent.ref for one in settlement.kept)
    if settlement.state is TurnState.WAITING or known:
        return settlement
    provider = holding.claim.provider
    left = Kept(ref=lent.ref, provider=provider, stored=True, running=False, wanted=False)
    return replace(settlement, kept=(*settlement.kept, left))
