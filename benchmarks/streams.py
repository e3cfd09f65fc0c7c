"""CPU of publishing: so many streams of so many tokens a second, from `emit` to a Redis.

python -m benchmarks.streams [--streams 1000] [--rate 50] [--seconds 10] [--json]

Counted is the process that publishes: what its providers would do is left out, and so is what the
loop does to let them speak, which is measured without publishing and taken away. The Redis is one
of its own, in another process.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.claims import a_claim
from turnmill.connections.broker_urls import read_broker_url
from turnmill.domain.states import TurnState
from turnmill_worker.stack.valkey import EmbeddedValkey
from turnmill_worker.streams.flusher import RedisCarrier
from turnmill_worker.streams.publishing import Publishing

_TOKEN = "token "
_TICK_SECONDS = 0.02

Speak = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What publishing takes."""

    streams: int
    tokens_a_second: int
    cores: float  #: of the process that publishes
    entries_a_second: float  #: that the Redis was given


async def _nobody(text: str) -> None:
    """Take a token, and do nothing."""


async def _speak(speakers: Sequence[Speak], *, rate: int, seconds: float) -> float:
    """Let each say `rate` tokens a second, spread evenly; return the cores that this took."""
    each_tick = len(speakers) * rate * _TICK_SECONDS
    began, cpu = time.perf_counter(), time.process_time()
    said, tick = 0.0, 0
    while (now := time.perf_counter()) - began < seconds:
        tick += 1
        said += each_tick
        for n in range(round(said - each_tick), round(said)):
            await speakers[n % len(speakers)](_TOKEN)
        await asyncio.sleep(max(0.0, began + tick * _TICK_SECONDS - now))
    return (time.process_time() - cpu) / (time.perf_counter() - began)


def measure(url: str, *, streams: int, rate: int, seconds: float) -> Measured:
    """Publish for a while, and return what it took."""
    idle = asyncio.run(_speak([_nobody] * streams, rate=rate, seconds=min(seconds, 3.0)))
    carrier = RedisCarrier(read_broker_url(url), keep_seconds=600)
    begun = [carrier.begin(a_claim(stream=True)) for _ in range(streams)]
    publishing = [one for one in begun if isinstance(one, Publishing)]
    busy = asyncio.run(_speak([one.emit for one in publishing], rate=rate, seconds=seconds))
    for one in publishing:
        one.ended(TurnState.SUCCEEDED)
    carrier.close()
    with redis.Redis.from_url(url) as client:
        entries = sum(client.xlen(key) for key in client.scan_iter("turnmill:stream:*", count=1000))
    return Measured(
        streams=streams,
        tokens_a_second=streams * rate,
        cores=round(busy - idle, 3),
        entries_a_second=round(entries / seconds, 1),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="turnmill-streams-"))
    folder.chmod(0o711)
    with EmbeddedValkey(folder, port=0) as server:
        found = measure(server.url, streams=told.streams, rate=told.rate, seconds=told.seconds)
    if told.json:
        print(json.dumps({name: getattr(found, name) for name in found.__dataclass_fields__}))
        return
    print(f"{found.streams} streams, {found.tokens_a_second} tokens/s:", end=" ")
    print(f"{found.cores} cores, {found.entries_a_second} entries/s")


if __name__ == "__main__":
    main()
