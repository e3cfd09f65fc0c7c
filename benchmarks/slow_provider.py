"""The stand-in where there is no C compiler: the same answers from asyncio, much slower.

python -m benchmarks.slow_provider PORT LATENCY_MS RESPONSES_JSON MESSAGES_JSON [CERTIFICATE KEY]

With a certificate it speaks TLS: also where the other one could not be built with OpenSSL.
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path

_HEADERS = "Content-Type: application/json\r\nx-request-id: req_8f7d2a6b5c4e3f2a1b0c9d8e7f6a5b4c"


class SlowProvider:
    """Answers after a fixed latency and counts what it answered."""

    def __init__(self, *, latency: float, responses: bytes, messages: bytes) -> None:
        self._latency = latency  #: seconds
        self._replies = {
            "POST /v1/responses": _reply("200 OK", responses),
            "POST /v1/messages": _reply("200 OK", messages),
        }
        self._served = self._waiting = self._most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after another."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                await reader.readexactly(_content_length(head))
                writer.write(await self._answer(head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, head: str) -> bytes:
        target = " ".join(head.split(" ", 2)[:2])
        if target == "GET /stats":
            return self._stats()
        self._waiting += 1
        self._most = max(self._most, self._waiting)
        if self._latency:
            await asyncio.sleep(self._latency)
        self._waiting -= 1
        self._served += 1
        return self._replies.get(target) or _reply("404 Not Found", b'{"error":{}}')

    def _stats(self) -> bytes:
        told = {"served": self._served, "waiting": self._waiting, "most": self._most}
        self._most = self._waiting
        return _reply("200 OK", json.dumps(told).encode())


def _reply(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\n{_HEADERS}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _content_length(head: str) -> int:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    return 0


async def main(port: str, latency_ms: str, *shown: str, responses: bytes, messages: bytes) -> None:
    context = None
    if shown:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*shown)
    provider = SlowProvider(
        latency=float(latency_ms) / 1000,
        responses=responses,
        messages=messages,
    )
    server = await asyncio.start_server(
        provider.serve, "127.0.0.1", int(port), backlog=4096, ssl=context
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    replies = [Path(name).read_bytes() for name in sys.argv[3:5]]
    given = (*sys.argv[1:3], *sys.argv[5:])
    asyncio.run(main(*given, responses=replies[0], messages=replies[1]))
