"""The shape of an observer."""

from collections.abc import Awaitable, Callable

from turnmill.store.nouns.events import Event

#: Is told of one event at a time, and of the next when it has returned. `async def` runs on the
#: event loop and must not block it; a plain function runs on a thread of its own. An error, or no
#: return within TURNMILL_OBSERVER_TIMEOUT, means: tell me again.
Observer = Callable[[Event], Awaitable[None] | None]
