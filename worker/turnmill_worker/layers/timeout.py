"""Timeout: one attempt takes no longer than the operator allows, whatever its provider says."""

import asyncio
from datetime import timedelta

from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers.boundary import Answer


def timeout(within: timedelta) -> Layer:
    """Return the layer. It closes the call, which is left behind where it refuses to end."""
    seconds = within.total_seconds()

    async def layer(call: Call, go: Go) -> Answer:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, call.holding.close_call, Stop.TIMED_OUT)
        try:
            return await go(call)
        finally:
            timer.cancel()

    return layer
