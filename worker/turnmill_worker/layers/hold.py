"""Hold: of a session that never risks a second call, it is noted that a request is about to leave.

It stands right before the provider, so that nothing is noted of what other layers keep back.
"""

import asyncio
from collections.abc import Awaitable, Callable

from turnmill.domain.states import OnAmbiguous
from turnmill.store.records import Claim
from turnmill_worker.layers.call import Call, Go, Layer, from_store
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers.boundary import Answer


def hold(mark_sent: Callable[[Claim], Awaitable[bool]]) -> Layer:
    """Return the layer. `mark_sent` is False when the turn is no longer ours."""

    def layer(call: Call, go: Go) -> Awaitable[Answer]:
        held = call.kind == "send" and call.claim.on_ambiguous is OnAmbiguous.HOLD
        return noted(call, go) if held else go(call)

    async def noted(call: Call, go: Go) -> Answer:
        if not await from_store(mark_sent(call.claim)):
            call.holding.stop = call.holding.stop or Stop.LEASE_LOST
            raise asyncio.CancelledError
        return await go(call)

    return layer
