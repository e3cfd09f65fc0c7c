"""A layer that plays the gate of an account: closed to those providers that a test names."""

from datetime import timedelta

from turnmill_worker.layers import Answer, Call, Go, NotNow

#: Providers that are closed, and for which reason.
CLOSED: dict[str, str] = {}
ASKED: list[tuple[str, str]] = []


def gate() -> object:
    """Put off what is for a closed provider; note who is asked, and for which model."""

    async def layer(call: Call, go: Go) -> Answer:
        ASKED.append((call.claim.provider, call.request.model))
        if waits_for := CLOSED.get(call.claim.provider):
            return NotNow(until=timedelta(seconds=0.2), waits_for=waits_for)
        return await go(call)

    return layer
