"""Stand-ins whose batches go wrong at any moment, as dice say: until they are told to calm down.

Whatever they say meanwhile, each knows what it has run: that is its bill.
"""

import asyncio
import json
import random
import time
from typing import Any

from aiohttp import web

from tests.doubles.hostile_batches import Hostile, HostileAnthropic, HostileOpenAI, Lines

#: How what a batch came to is kept back for a while, once it has ended.
_MOODS = ("uncounted", "unnamed", "neither", "half named", "not there", "cut", "none")
_FAULTS = ("server_error", "drop", "late", "not there")
#: Longer than anybody waits for an answer, where `tests.native_crowd` has begun him.
_LATE = 1.0


class Moody(Hostile):
    """A vendor of many moods. Set `dice` and `delays` before it is asked anything."""

    dice: random.Random
    faulty = 0.2  #: of so many of all requests something goes wrong
    #: seconds from a batch's end until it says what it came to: one of these
    delays: tuple[float, ...] = (0.0,)
    _moods: dict[str, tuple[str, float]]

    def calm(self) -> None:
        """Let nothing more go wrong with requests; what is kept back is told in its time."""
        self.faulty = 0.0

    def told_by(self) -> float:
        """Return in how many seconds everything that has ended by now is told."""
        for batch in [*self.desk.batches]:
            self.desk.find(batch)
        ends = [at for _, at in self._moods_so_far().values()]
        return max([0.0, *(at - time.monotonic() for at in ends)])

    def middlewares(self) -> list[Any]:
        @web.middleware
        async def between(request: web.Request, handler: Any) -> web.StreamResponse:
            if request.path.startswith("/double/"):
                return _response(await handler(request))
            if self.dice.random() < self.faulty:
                return await self._wrong(request, handler)
            if request.path.endswith(("/content", "/results")):
                return self._results_of(request)
            response: web.Response = await handler(request)
            is_look = request.method == "GET" and "/batches/" in request.path
            if is_look and response.status == 200:
                return self._look_of(request.match_info["id"], response)
            return response

        return [between]

    async def _wrong(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Do what is asked for, or do not; say that it went wrong either way."""
        fault = self.dice.choice(_FAULTS)
        is_read = request.method == "GET"
        if fault == "not there" and not is_read:
            fault = "server_error"
        if not is_read and self.dice.random() < 0.5:
            await handler(request)
        if fault == "late":
            await asyncio.sleep(_LATE)
        if fault in ("late", "drop"):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status = 404 if fault == "not there" else 500
        return web.json_response({"error": {"message": "Oops."}}, status=status)

    def _moods_so_far(self) -> dict[str, tuple[str, float]]:
        if not hasattr(self, "_moods"):
            self._moods = {}
        return self._moods

    def _mood_of(self, ref: str) -> str:
        """Return how it keeps back what a batch came to; "": no more, or it has not ended."""
        batch = self.desk.find(ref)
        if batch is None or not batch.ended:
            return ""
        drawn = (self.dice.choice(_MOODS), time.monotonic() + self.dice.choice(self.delays))
        mood, until = self._moods_so_far().setdefault(ref, drawn)
        return mood if time.monotonic() < until else ""

    def _look_of(self, ref: str, response: web.Response) -> web.Response:
        mood = self._mood_of(ref)
        self.uncounted = int(mood in ("uncounted", "neither", "half named"))
        self.unnamed = int(mood in ("unnamed", "neither"))
        shown = self._told_of(response)
        if mood == "half named":
            shown = self._named_in_part(shown)
        return shown

    def _named_in_part(self, response: web.Response) -> web.Response:
        """Name what went wrong alone, where there are two files."""
        return response

    def _results_of(self, request: web.Request) -> web.Response:
        ref = request.match_info["id"]
        lines = self.lines_of(ref)
        mood = self._mood_of(self.batch_of(ref))
        if lines is None or mood == "not there":
            return web.json_response({"error": {"message": "It is not there."}}, status=404)
        if mood == "none":
            return web.Response(body=b"")
        self.dice.shuffle(lines)
        twice = [one for one in lines if self.dice.random() < 0.2]
        body = b"".join(lines + twice)
        if mood == "cut":
            body = body[: self.dice.randrange(len(body))]
        return web.Response(body=body)

    def batch_of(self, ref: str) -> str:
        """Return the batch whose results are kept under this name."""
        return ref


def _response(found: Any) -> web.StreamResponse:
    assert isinstance(found, web.StreamResponse)
    return found


class MoodyOpenAI(Moody, HostileOpenAI):
    """OpenAI, of many moods."""

    def batch_of(self, ref: str) -> str:
        return ref[len("file-o") :]

    def _named_in_part(self, response: web.Response) -> web.Response:
        assert isinstance(response.body, bytes)
        told = json.loads(response.body)
        return web.json_response(told | {"output_file_id": None})


class MoodyAnthropic(Moody, HostileAnthropic):
    """Anthropic, of many moods. What was deleted is not read again."""

    def lines_of(self, ref: str) -> Lines | None:
        batch = self.desk.find(ref)
        is_there = batch is not None and batch.ended and ref not in self.deleted
        return super().lines_of(ref) if is_there else None
