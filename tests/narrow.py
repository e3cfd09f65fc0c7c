"""Layers that play a vendor with a small window, or with a taste of its own, for tests."""

from turnmill.domain.errors import ContextFull, HistoryRefused
from turnmill_worker.layers import Answer, Call, Done, Go, Layer

#: So many messages are taken in one request.
WINDOW = 8
SUMMARY = "We have counted so far, canary-of-a-summary."


def window() -> Layer:
    """Refuse a request with more messages; give a summary of anything."""

    async def layer(call: Call, go: Go) -> Answer:
        if "Write a summary" in (call.request.system_prompt or ""):
            return Done(text=SUMMARY)
        if len(call.request.history) + len(call.request.messages) > WINDOW:
            raise ContextFull(detail=call.request.messages[-1].text)
        return await go(call)

    return layer


def picky() -> Layer:
    """Refuse each third history as it is built; take any that was made plain."""

    async def layer(call: Call, go: Go) -> Answer:
        is_plain = isinstance(call.request.history, list)
        if len(call.request.history) > 2 and not is_plain:
            raise HistoryRefused(detail=call.request.messages[-1].text)
        return await go(call)

    return layer
