"""Asking: the innermost of a call, where the provider itself is called."""

import asyncio
from collections.abc import Callable

from turnmill.domain.content import ToolCall, ToolOutput
from turnmill.domain.errors import ProviderError, Rejected, UnsupportedPart
from turnmill_worker.layers.call import Call
from turnmill_worker.providers.boundary import provided
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.port import Provider

#: What a model says that calls tools, and what it is told.
_OF_TOOLS = frozenset({ToolCall, ToolOutput})


def asking(find: Callable[[str], Provider]) -> Callable[[Call], object]:
    """Return what asks the provider that a claim names. `find` raises where there is none."""

    def ask(call: Call) -> object:
        provider = provided(find, call.claim.provider)
        if isinstance(provider, ProviderError):
            raise provider
        holding = call.holding
        if not holding.may_begin():
            raise asyncio.CancelledError  # somebody said stop: no layer begins anything any more
        if call.kind == "check":
            return provider.check(call.request)
        if call.request.tools and not call.takes >= _OF_TOOLS:
            raise Rejected(
                UnsupportedPart.code,
                detail="tools",
                hint="move the session to a provider that takes them; nothing was sent",
            )
        request = fitted(call.request, name=getattr(provider, "name", ""), takes=call.takes)
        holding.request = request
        holding.sent = True
        return provider.send(request) if call.emit is None else provider.send(request, call.emit)

    return ask
