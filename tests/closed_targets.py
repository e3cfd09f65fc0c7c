"""A layer that plays the gate of an account: closed to those providers that a test names."""

import os
from datetime import timedelta

from turnmill_worker.layers import Answer, Call, Go, NotNow

#: Names what is closed in a process of its own: provider=reason.
VARIABLE = "TURNMILL_TEST_CLOSED"
#: Providers that are closed, and for which reason.
CLOSED = dict(one.split("=") for one in os.environ.get(VARIABLE, "").split())
ASKED: list[tuple[str, str]] = []


def gate() -> object:
    """Put off what is for a closed provider; note who is asked, and for which model."""

    async def layer(call: Call, go: Go) -> Answer:
        if call.kind != "send":
            return await go(call)  # what has become of a call is asked for all the same
        ASKED.append((call.claim.provider, call.request.model))
        if waits_for := CLOSED.get(call.claim.provider):
            return NotNow(until=timedelta(seconds=0.2), waits_for=waits_for)
        return await go(call)

    return layer
