"""Thread lost: where a vendor has lost a chain, it is rebuilt once, from what we hold."""

from dataclasses import replace

from turnmill.domain.errors import ThreadLost
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.layers.history import ReadHistory, with_history
from turnmill_worker.providers.boundary import Answer


def thread_lost(read: ReadHistory) -> Layer:
    """Return the layer.

    It stands outside of other people's layers: the history, which none of them has seen yet, goes
    past them as any other request does.
    """

    async def layer(call: Call, go: Go) -> Answer:
        try:
            return await go(call)
        except ThreadLost:
            if call.kind != "send":
                raise
        call.holding.sent = False  # the vendor has executed nothing
        whole = await with_history(call, read)
        request = replace(whole.request, thread_ref="", continues=0)
        return await go(replace(whole, request=request))

    return layer
