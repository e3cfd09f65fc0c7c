"""A vendor that answers byte by byte what a test wrote down, whether or not it makes sense."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What goes over the wire for one request."""

    raw: bytes
    pieces: Sequence[bytes] = ()  #: what follows, one by one
    stall: bool = False  #: say nothing more, and wait for the client to leave
    hang_up: bool = False  #: close the connection after it


def http(
    body: bytes | Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    missing: int = 0,
) -> Wire:
    """Return a whole answer; one that lacks its last `missing` bytes where that is asked for."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **(headers or {})}.items())
    sent = content[: len(content) - missing]
    raw = f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + sent
    return Wire(raw=raw, hang_up=missing > 0)


def stream(
    pieces: Sequence[bytes],
    *,
    headers: Mapping[str, str] | None = None,
    whole: bool = True,
    stall: bool = False,
) -> Wire:
    """Return an answer that comes piece by piece; one that is not `whole` breaks off, or stalls."""
    lines = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **(headers or {})}.items())
    chunks = [b"%x\r\n%b\r\n" % (len(one), one) for one in pieces if one]
    if whole:
        chunks.append(b"0\r\n\r\n")
    raw = f"HTTP/1.1 200 Said\r\n{head}\r\n".encode()
    return Wire(raw=raw, pieces=chunks, stall=stall, hang_up=not whole)


@dataclass(slots=True)
class RawVendor:
    """Answers requests with what stands in `answers`, the last one for ever."""

    answers: deque[Wire] = field(default_factory=deque)
    bodies: list[Any] = field(default_factory=list)  #: of the POSTs that came in
    stalled: asyncio.Event = field(default_factory=asyncio.Event)  #: it says nothing more
    left: asyncio.Event = field(default_factory=asyncio.Event)  #: then the client has hung up
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        """The root of the server."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def meet(self, *answers: Wire) -> None:
        """Answer the next requests with these, and forget what was asked before."""
        self.answers = deque(answers)
        self.bodies = []

    def provider(self, api: str) -> Provider:
        """Return a provider that speaks to this vendor."""
        if api == "messages":
            return AnthropicProvider(_anthropic().with_options(base_url=self.url))
        return OpenAIProvider(_openai().with_options(base_url=self.url))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        body = await reader.readexactly(length)
        if head.startswith("post"):
            self.bodies.append(json.loads(body) if body.startswith(b"{") else body)
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        writer.write(answer.raw)
        for piece in answer.pieces:
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(piece)
        await writer.drain()
        if answer.stall:
            self.stalled.set()
            await reader.read()
            self.left.set()
        return not answer.hang_up


@cache
def _openai() -> AsyncOpenAI:
    return AsyncOpenAI(api_key="k")  # takes 0.1 s to make


@cache
def _anthropic() -> AsyncAnthropic:
    return AsyncAnthropic(api_key="k")


#: What a session has to say so that its turns go to this API.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "responses": {},
    "chat": {"api": "chat"},
    "messages": {},
}
