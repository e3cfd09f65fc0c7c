"""A stand-in for OpenAI that allows so many requests a minute, says so, and means it."""

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import Any

from aiohttp import web

from tests.doubles.openai_server import KEY, OpenAIDouble
from tests.doubles.vendor_double import Answer, Call, Refused, Response


class RationedDouble(OpenAIDouble):
    """What is left refills evenly, as at the vendor; who asks for more gets a 429."""

    def __init__(self, *, per_minute: int, left: float, **given: Any) -> None:
        super().__init__(**given)
        self.per_minute = per_minute
        self.began: list[float] = []  #: `time.monotonic()` of each call of a model
        self.refused: list[float] = []  #: of these, when those began that came too soon
        self.full_in: float | None = None  #: what it says, in seconds, where that is not so
        self.in_flight = 0
        self.closed_until = 0.0  #: until then each call is told when to come again
        self._left = left
        self._at = time.monotonic()

    def allow(self, left: float) -> None:
        """Let so many be left from now on, and forget what was asked before."""
        self._left, self._at = left, time.monotonic()
        self.began.clear()
        self.refused.clear()
        self.full_in = None

    def reply_headers(self) -> dict[str, str]:
        self._refill()
        until_full = (self.per_minute - self._left) * 60 / self.per_minute
        until_full = until_full if self.full_in is None else self.full_in
        return {
            **super().reply_headers(),
            "x-ratelimit-limit-requests": str(self.per_minute),
            "x-ratelimit-remaining-requests": str(max(0, int(self._left))),
            "x-ratelimit-reset-requests": f"{max(until_full, 0):.3f}s",
        }

    async def _through(
        self, fault: str, request: web.Request, call: Call, answer: Answer
    ) -> Response:
        if call.method == "POST":
            self.began.append(time.monotonic())
            self._refill()
            if (closed := self.closed_until - self.began[-1]) > 0:
                self.refused.append(self.began[-1])
                told = {"retry-after-ms": f"{closed * 1000:.0f}"}
                raise Refused(429, "rate_limit_exceeded", "Come again later.", headers=told)
            if self._left < 1:
                self.refused.append(self.began[-1])
                raise Refused(429, "rate_limit_exceeded", "Rate limit reached for requests.")
            self._left -= 1
        self.in_flight += 1
        try:
            return await super()._through(fault, request, call, answer)
        finally:
            self.in_flight -= 1

    def say_later(self, seconds: float) -> int:
        """Refuse all calls for so long, each with what is left of it; return those in flight.

        Runs on the vendor's own loop: what is in flight is so at the moment that it closes.
        """
        self.closed_until = time.monotonic() + seconds
        return self.in_flight

    def _refill(self) -> None:
        now = time.monotonic()
        self._left = min(self.per_minute, self._left + (now - self._at) * self.per_minute / 60)
        self._at = now


class RationedVendor:
    """The stand-in, on a thread of its own."""

    def __init__(self, **given: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.double = RationedDouble(**given)
        self._run(self.double.start())

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs to find it."""
        return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": self.double.base_url}

    def say_later(self, seconds: float) -> int:
        """Have the vendor refuse all calls for so long; return how many were in flight then."""

        async def close() -> int:
            return self.double.say_later(seconds)

        return int(self._run(close()))

    def stop(self) -> None:
        """Close all connections, and end the thread."""
        self._run(self.double.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def _run(self, work: Any) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(timeout=10)
