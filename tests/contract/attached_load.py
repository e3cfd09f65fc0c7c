"""Calls with a large attachment each, many at a time: how much memory, how long the loop stood.

`python -m tests.contract.attached_load PORT FILE CALLS AT_ONCE` prints one line of JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from openai import AsyncOpenAI

from tests.contract.rigs import a_request
from tests.peaks import most_memory
from turnmill.domain.content import Attached, File, Message, Text
from turnmill_worker.process.host import spare_the_collector
from turnmill_worker.providers.openai.provider import OpenAIProvider


class OnDisk:
    """One file, read in a thread piece by piece, as a file store does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size

    @property
    def part(self) -> File:
        """The part that refers to it."""
        return File(id="paper", name="a.pdf", media_type="application/pdf", size=self._size)

    async def chunks(self, part: Attached, *, start: int = 0) -> AsyncIterator[bytes]:
        """Yield its bytes."""
        with self._path.open("rb", buffering=0) as opened:
            while chunk := await asyncio.to_thread(opened.read, 2**16):
                yield chunk


class Lag:
    """The longest that the event loop was kept busy by one thing.

    Counted as its thread's own time: other processes of the machine are none of its doing.
    """

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        """Look every five milliseconds."""
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            self.worst = max(self.worst, time.thread_time() - before)


async def load(port: int, path: Path, calls: int, at_once: int) -> dict[str, float]:
    """Make the calls; return what they took."""
    sdk = AsyncOpenAI(api_key="k", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0)
    provider, files, room = OpenAIProvider(sdk), OnDisk(path), asyncio.Semaphore(at_once)
    said = [Message("user", (Text("Summarise this."), files.part))]

    async def ask() -> None:
        async with room:
            await provider.send(
                a_request(messages=said, files=files, settings={"uploads": "never"})
            )

    spare_the_collector()  # as a worker does; a look at all that is imported takes 0.2 s
    lag = Lag()
    watching = asyncio.ensure_future(lag.watch())
    before = most_memory() / 2**20
    asking = []
    for _ in range(calls):
        asking.append(asyncio.ensure_future(ask()))
        await asyncio.sleep(0.001)  # a worker claims a few at a time
    await asyncio.gather(*asking)
    watching.cancel()
    await provider.aclose()
    return {"before": before, "peak": most_memory() / 2**20, "lag": lag.worst}


if __name__ == "__main__":
    given = sys.argv[1:]
    found = asyncio.run(load(int(given[0]), Path(given[1]), int(given[2]), int(given[3])))
    sys.stdout.write(json.dumps(found) + "\n")
