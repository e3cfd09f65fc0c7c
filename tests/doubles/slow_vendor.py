"""A stand-in for OpenAI that answers when it is told to, and knows when it was hung up on."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.vendor_double import Answer, Call, Response


@dataclass(slots=True)
class Held:
    """A request that waits for its answer. Times are `time.monotonic()`."""

    text: str  #: of the last message in it
    go: asyncio.Event = field(default_factory=asyncio.Event)
    answered: bool = False
    closed_at: float | None = None  #: when its connection was closed, without an answer


class SlowDouble(OpenAIDouble):
    """Holds every chat completion until it is told to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Held] = []

    async def _through(
        self, fault: str, request: web.Request, call: Call, answer: Answer
    ) -> Response:
        held = Held(text=call.body["messages"][-1]["content"])
        self.held.append(held)
        try:
            await held.go.wait()
        except asyncio.CancelledError:
            held.closed_at = time.monotonic()
            raise
        held.answered = True
        return await super()._through(fault, request, call, answer)


class SlowVendor:
    """The stand-in, on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.double = SlowDouble()
        self._run(self.double.start())

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs to find it."""
        return {"OPENAI_API_KEY": "sk-double", "OPENAI_BASE_URL": self.double.base_url}

    def requests(self, text: str = "") -> list[Held]:
        """Return all requests so far, or those of this text."""
        return [one for one in list(self.double.held) if not text or one.text == text]

    def open(self, text: str = "") -> list[Held]:
        """Return those that wait for an answer."""
        return [one for one in self.requests(text) if one.closed_at is None and not one.answered]

    def answer(self, text: str) -> None:
        """Answer whatever waits with this text."""
        for one in self.open(text):
            self._loop.call_soon_threadsafe(one.go.set)

    def stop(self) -> None:
        """Close all connections."""
        self._run(self.double.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)
