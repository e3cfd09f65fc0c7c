"""A vendor that takes large requests slowly, many at a time, and keeps nothing of them.

`python -m tests.doubles.draining_vendor` prints its port. Every body is read to its end, and its
length held against what was said; `GET /seen` tells how many came, and how many at once.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ANSWER = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "m",
    "output": [
        {
            "type": "message",
            "content": [{"type": "output_text", "text": "A cat.", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
}
_PIECE = 2**18


class Draining:
    """Counts what it reads."""

    def __init__(self) -> None:
        self.seen = {"requests": 0, "bytes": 0, "at_once": 0}
        self._now = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    await self._answer(writer, self.seen)
                    continue
                self._now += 1
                self.seen["at_once"] = max(self.seen["at_once"], self._now)
                await self._drain(reader, head)
                self._now -= 1
                await self._answer(writer, _ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _drain(self, reader: asyncio.StreamReader, head: bytes) -> None:
        left = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        self.seen["bytes"] += left
        while left:
            piece = await reader.read(min(left, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            await asyncio.sleep(0.06)  # as a line of a megabyte a second
        self.seen["requests"] += 1

    async def _answer(self, writer: asyncio.StreamWriter, said: object) -> None:
        body = json.dumps(said).encode()
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writer.write((head % len(body)).encode() + body)
        await writer.drain()


@contextmanager
def draining() -> Iterator[int]:
    """Run it in a process of its own, and give its port."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as vendor:
        assert vendor.stdout is not None
        try:
            yield int(vendor.stdout.readline())
        finally:
            vendor.kill()


async def _main() -> None:
    server = await asyncio.start_server(Draining().serve, "127.0.0.1", 0, limit=2**18, backlog=1000)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
