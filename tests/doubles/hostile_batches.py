"""Stand-ins whose batches go wrong: results that are not there yet, cut, or somebody else's."""

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import formatdate
from typing import Any

from aiohttp import web

from tests.doubles.anthropic_batches import AnthropicBatchesDouble, result_of
from tests.doubles.batch_desk import BatchDesk, DeskBatch, Fate
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.doubles.vendor_double import VendorDouble

Lines = list[bytes]
#: Where a batch says that results are.
_NAMES = ("output_file_id", "error_file_id", "results_url")


class Hostile(VendorDouble):
    """What a test says goes wrong, of a vendor that takes batches."""

    #: what is served of results at the n-th reading; None: nothing is there
    served: Callable[[Lines, int], Lines | None] = staticmethod(lambda lines, _: lines)
    unnamed = 0  #: so many looks at a batch are told no place of its results
    uncounted = 0  #: so many are told of no line
    unknown = 0  #: so many are told that there is no such batch
    answers_begin: Callable[[], web.Response] | None = None  #: what is said of the next batch begun
    ahead = timedelta(0)  #: how far the vendor's clock is ahead of ours
    busy = 0  #: so many readings of results are refused for want of time
    readings = 0
    desk: BatchDesk

    def lines_of(self, ref: str) -> Lines | None:
        """Return the whole results."""
        raise NotImplementedError

    def have_old(self, n: int) -> None:
        """Let there be so many batches of a week ago, that are nobody's here."""
        for one in range(n):
            begun = time.monotonic() - 7 * 86_400
            old = DeskBatch(id=f"old_{one}", lines=(), fate=Fate(), tokens=0, begun=begun)
            self.desk.batches[old.id] = old

    def middlewares(self) -> list[Any]:
        @web.middleware
        async def between(request: web.Request, handler: Any) -> web.StreamResponse:
            if request.path.endswith(("/content", "/results")):
                return self._serve(request.match_info["id"])
            if request.method == "GET" and "/batches/" in request.path and self.unknown:
                self.unknown -= 1
                return _not_there()
            response: web.Response = await handler(request)
            if request.method == "POST" and request.path.endswith("/batches"):
                answer, self.answers_begin = self.answers_begin, None
                return answer() if answer else response
            is_told = request.method == "GET" and "/batches" in request.path
            return self._told_of(response) if is_told and response.status == 200 else response

        return [between]

    def _serve(self, ref: str) -> web.Response:
        if self.busy:
            self.busy -= 1
            return web.json_response({"error": {"message": "Slow down."}}, status=429)
        self.readings += 1
        lines = self.lines_of(ref)
        served = None if lines is None else self.served(lines, self.readings)
        if served is None:
            return _not_there()
        return web.Response(body=b"".join(served))

    def _told_of(self, response: web.Response) -> web.Response:
        assert isinstance(response.body, bytes)
        told = json.loads(response.body)
        for one in told.get("data", [told]):
            one["created_at"] = _later(one["created_at"], self.ahead)
        if "data" not in told and self.unnamed:
            self.unnamed -= 1
            told |= {name: None for name in _NAMES if name in told}
        if "data" not in told and self.uncounted:
            self.uncounted -= 1
            told["request_counts"] = dict.fromkeys(told["request_counts"], 0)
        now = formatdate(time.time() + self.ahead.total_seconds(), usegmt=True)
        return web.json_response(told, headers={"Date": now})


class HostileOpenAI(Hostile, OpenAIBatchesDouble):
    """OpenAI, going wrong."""

    def lines_of(self, ref: str) -> Lines | None:
        found = self.outputs.get(ref)
        return None if found is None else [*found]


class HostileAnthropic(Hostile, AnthropicBatchesDouble):
    """Anthropic, going wrong."""

    def lines_of(self, ref: str) -> Lines | None:
        batch = self.desk.find(ref)
        if batch is None:
            return None
        return [json.dumps(result_of(*one)).encode() + b"\n" for one in batch.results]


def _not_there() -> web.Response:
    return web.json_response({"error": {"message": "It is not there."}}, status=404)


def _later(moment: Any, by: timedelta) -> Any:
    if isinstance(moment, str):
        return (datetime.fromisoformat(moment) + by).isoformat()
    return int(moment + by.total_seconds())
