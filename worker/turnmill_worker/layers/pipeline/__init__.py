"""Middleware: what stands around the call to a provider, outermost first."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from turnmill_worker.providers.port import Done, Request, Running

Ask = Callable[[Request], Awaitable[Done | Running]]


class Middleware(Protocol):
    """Sees a request on its way to the provider, and the answer on its way back."""

    async def __call__(self, request: Request, ask: Ask) -> Done | Running:
        """Return `await ask(request)`, with either of them changed or not."""
        ...


def pipeline(middleware: Sequence[Middleware], send: Ask) -> Ask:
    """Return `send` with all middleware around it."""
    ask = send
    for layer in reversed(middleware):
        ask = _around(layer, ask)
    return ask


def _around(layer: Middleware, ask: Ask) -> Ask:
    async def inner(request: Request) -> Done | Running:
        return await layer(request, ask)

    return inner
