"""Guard: whatever other people's code raises or returns becomes a sound answer, or an error.

It stands around the provider, and around each layer that is not ours. So every layer, whoever
wrote it, sees sound answers and our classes of errors only, and none sees what is in fact a
SystemExit; and whatever a layer breaks comes to no more than a verdict on its turn.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

from turnmill.domain.errors import MaybeSent, NotSent, ProviderError
from turnmill_worker.layers.call import Call, Go, Kind, Layer
from turnmill_worker.providers.boundary import OF_CHECK, OF_SEND, Answer, Bug, judged
from turnmill_worker.providers.port import NotNow

_OF_PROVIDER: Mapping[Kind, tuple[type[Answer], ...]] = MappingProxyType(
    {"send": OF_SEND, "check": OF_CHECK}
)
_OF_LAYER: Mapping[Kind, tuple[type[Answer], ...]] = MappingProxyType(
    {kind: (*kinds, NotNow) for kind, kinds in _OF_PROVIDER.items()}
)

#: Of a layer that puts off what may have been executed by then.
TOO_LATE = "not_now_too_late"


def guarded_provider(ask: Callable[[Call], object], *, max_bytes: int) -> Go:
    """Return `ask`, of which only sound answers and errors come."""

    async def go(call: Call) -> Answer:
        found = await judged(
            lambda: ask(call),
            among=_OF_PROVIDER[call.kind],
            max_bytes=max_bytes,
            takes=call.takes,
        )
        if not isinstance(found, ProviderError):
            return found
        if isinstance(found, NotSent):
            call.holding.sent = False  # the provider says so
        raise _raised(call, found)

    return go


def guarded_layer(layer: Layer, go: Go, *, max_bytes: int) -> Go:
    """Return somebody's layer around `go`, of which only sound answers and errors come."""

    async def guarded(call: Call) -> Answer:
        found = await judged(
            lambda: layer(call, go),
            among=_OF_LAYER[call.kind],
            max_bytes=max_bytes,
            takes=call.takes,
        )
        if isinstance(found, NotNow) and call.holding.sent:
            raise MaybeSent(TOO_LATE)
        if not isinstance(found, ProviderError):
            return found
        raise _raised(call, found)

    return guarded


def _raised(call: Call, error: ProviderError) -> BaseException:
    if not isinstance(error, Bug):
        return error
    if call.holding.stop is not None:
        return asyncio.CancelledError()  # it was us: what raises when it is closed tells nothing
    if call.kind == "send" and not call.holding.sent:
        return NotSent(error.error_code)  # it broke before anything could leave
    return error
