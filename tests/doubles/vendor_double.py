"""What all stand-ins for a vendor share: a server on 127.0.0.1, a script of faults, a record.

In a test: `async with OpenAIDouble() as double: double.meet("rate_limited", "ok")`. Each request
takes the next fault of the script, or draws one by the rates it was started with, or is answered.
As a process of its own, for tests that kill workers: `python -m tests.doubles.openai_server`, with
`GET /double/calls` to see and `POST /double/script` to direct it.
"""

import argparse
import asyncio
import json
import random
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import MappingProxyType
from typing import Any, Self

from aiohttp import web

CALLS_KEPT = 100_000


@dataclass(slots=True, kw_only=True)
class Call:
    """One request that came in, whatever became of it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    fault: str
    query: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = field(default=b"", repr=False)  #: of a body that is no JSON
    executed: bool = False  #: the vendor would have charged for it
    stalled: asyncio.Event = field(default_factory=asyncio.Event)  #: nothing more is sent
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)  #: the client hung up


Answer = Callable[[Call], Awaitable[dict[str, Any]]]
Response = web.StreamResponse


class Refused(Exception):
    """The vendor refuses the request."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


class VendorDouble:
    """A vendor that refuses what the real one refuses. Subclasses know the API."""

    name = ""

    def __init__(
        self,
        *,
        latency: timedelta = timedelta(0),
        rates: Mapping[str, float] = MappingProxyType({}),
        seed: int = 0,
    ) -> None:
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self.arrived = asyncio.Event()  #: set by the first request
        self.port = 0
        self.always = ""  #: the fault of every request, until it is taken back
        self.latency = latency.total_seconds()  #: of every answer
        self.between = 0.0  #: seconds between two events of a stream
        self.piece = 4  #: characters in each
        self.window = 0  #: so many characters at the most may be said in a request; 0: any number
        self.keeps_files = True  #: False: as servers that speak no other part of the API
        #: answers to a request, by its body, instead of an echo; "" for none
        self.says: Callable[[Any], str] = lambda _: ""
        self._rates = rates
        self._random = random.Random(seed)
        self._script: deque[str] = deque()
        self._runner: web.AppRunner | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the API's paths and what answers them."""
        raise NotImplementedError

    def middlewares(self) -> list[Any]:
        """Return what stands between the server and its routes: nothing, mostly."""
        return []

    def error_body(self, refused: Refused) -> dict[str, Any]:
        """Return the vendor's JSON for an error."""
        raise NotImplementedError

    def refusals(self) -> Mapping[str, Refused]:
        """Return what the vendor answers to each fault that is a plain refusal."""
        raise NotImplementedError

    def is_too_long(self, said: Any) -> bool:
        """Tell whether the model's window is too small for what is said in a request."""
        return 0 < self.window < len(json.dumps(said, ensure_ascii=False))

    def meet(self, *faults: str) -> None:
        """Let the next requests meet these faults; "ok" is none."""
        self._script.extend(faults)

    @property
    def last(self) -> Call:
        """The latest request."""
        return self.calls[-1]

    @property
    def url(self) -> str:
        """The root of the server."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> Self:
        """Listen on 127.0.0.1; port 0 takes a free one."""
        app = web.Application(client_max_size=2**26, middlewares=self.middlewares())
        app.add_routes(self.routes())
        app.add_routes(
            [web.get("/double/calls", self._show), web.post("/double/script", self._direct)]
        )
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Close all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def through_faults(self, answer: Answer) -> Callable[[web.Request], Awaitable[Response]]:
        """Return a handler that answers requests of the API, through whatever fault is due."""

        async def handle(request: web.Request) -> Response:
            return await self._handle(request, answer)

        return handle

    async def _handle(self, request: web.Request, answer: Answer) -> Response:
        raw = await request.read()
        fault = self._next_fault()
        call = Call(
            method=request.method,
            path=request.path,
            headers=dict(request.headers),
            body=_parsed(raw),
            fault=fault,
            query=dict(request.query),
            raw=b"" if request.content_type == "application/json" else raw,
        )
        self.calls.append(call)
        self.arrived.set()
        try:
            if fault in self.refusals():
                raise self.refusals()[fault]
            return await self._through(fault, request, call, answer)
        except Refused as refused:
            return web.json_response(
                self.error_body(refused),
                status=refused.status,
                headers={**self.reply_headers(), **refused.headers},
            )

    def reply_headers(self) -> dict[str, str]:
        """Return the headers of every answer."""
        return {}

    async def _through(
        self,
        fault: str,
        request: web.Request,
        call: Call,
        answer: Answer,
    ) -> Response:
        if fault in PLAIN:
            return PLAIN[fault]()
        if fault == "hang":
            await _until_abandoned(call)
        if self.latency:
            await asyncio.sleep(self.latency)
        payload = await answer(call)
        call.executed = True
        if fault == "drop":
            return _hang_up(request)
        events = self.events(call, payload)
        if events is not None:
            return await self._stream(request, call, events)
        if fault in ("cut", "stream_cut"):
            return await _cut(request, payload)
        return web.json_response(payload, headers=self.reply_headers())

    def events(self, call: Call, payload: dict[str, Any]) -> list[bytes | str] | None:
        """Return how the answer is streamed: see `streams.faulty`. None: it is not."""
        return None

    async def _stream(
        self, request: web.Request, call: Call, events: list[bytes | str]
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", **self.reply_headers()}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for event in events:
            if event == "stall":
                await _until_abandoned(call)
            elif isinstance(event, str):
                return _hang_up(request)
            else:
                await response.write(event)
                await asyncio.sleep(self.between)
        await response.write_eof()
        return response

    def _next_fault(self) -> str:
        if self.always:
            return self.always
        if self._script:
            return self._script.popleft()
        drawn = self._random.random()
        for fault, rate in self._rates.items():
            if drawn < rate:
                return fault
            drawn -= rate
        return "ok"

    async def _show(self, request: web.Request) -> web.Response:
        executed = sum(call.executed for call in self.calls)
        faults = [call.fault for call in self.calls]
        return web.json_response({"calls": len(faults), "executed": executed, "faults": faults})

    async def _direct(self, request: web.Request) -> web.Response:
        self.meet(*await request.json())
        return web.json_response({})


def in_a_minute() -> str:
    """Return an HTTP date a minute from now."""
    return format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)


def _html() -> web.Response:
    return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")


def _json_text(text: str) -> Callable[[], web.Response]:
    return lambda: web.Response(text=text, content_type="application/json")


#: Answers of no vendor in particular.
PLAIN: Mapping[str, Callable[[], web.Response]] = MappingProxyType(
    {
        "bad_gateway": _html,
        "bad_json": _json_text('{"id": "half a'),
        "not_an_object": _json_text("[]"),
        "bad_reply": _json_text("{}"),
        "redirect": lambda: web.Response(status=307, headers={"Location": "/elsewhere"}),
    }
)


async def _until_abandoned(call: Call) -> None:
    call.stalled.set()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        call.abandoned.set()
        raise


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut(request: web.Request, payload: dict[str, Any]) -> web.StreamResponse:
    body = json.dumps(payload).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def run_as_process(double: type[VendorDouble]) -> None:
    """Serve until killed; prints one line of JSON when ready."""
    parser = argparse.ArgumentParser(description=f"Stand in for {double.name}.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="{}", help='rates, such as {"rate_limited": 0.1}')
    given = parser.parse_args()
    server = double(
        latency=timedelta(seconds=given.latency), rates=json.loads(given.faults), seed=given.seed
    )
    asyncio.run(_serve(server, given.port))


async def _serve(server: VendorDouble, port: int) -> None:
    await server.start(port)
    sys.stdout.write(json.dumps({"event": "ready", "url": server.url}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()
