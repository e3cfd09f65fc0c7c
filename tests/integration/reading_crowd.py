"""Readers in a process of their own: each turn on stdin is read by three that are cut 50 times.

Prints what was wrong, a line each, and how many streams were read to their ends.
"""

import asyncio
import random
import sys
from contextlib import aclosing
from itertools import pairwise
from typing import Any

from turnmill import AsyncClient, AsyncTurn, Settings, StreamEvent, StreamKind
from turnmill.domain.streaming import STARTS, Place

_READERS = 3
_CUTS = 50
_WITHIN = 1500.0


async def read(turn: AsyncTurn, dice: random.Random) -> list[StreamEvent]:
    """Read a stream to its end, going on behind each place where it is cut."""
    events: list[StreamEvent] = []
    cuts = _CUTS
    while not (events and events[-1].kind is StreamKind.ENDED):
        most = dice.choice((1, 1, 1, 2)) if cuts > 0 else 10**6
        cuts -= 1
        stream: Any = turn.stream(after=events[-1].id if events else None, timeout=_WITHIN)
        async with aclosing(stream):
            async for event in stream:
                events.append(event)
                most -= 1
                if not most:
                    break
    return events


def wrongs(events: list[StreamEvent], stored: str) -> list[str]:
    """Return what is wrong about what a reader had."""
    text, found = "", []
    for event in events:
        text = "" if event.kind in STARTS else text + event.text
    if text != stored:
        found.append(f"{len(text)} characters of {len(stored)}")
    if [event.kind for event in events].count(StreamKind.ENDED) != 1:
        found.append("not one end")
    for one, other in pairwise(Place.of(event.id) or Place(0, 0) for event in events):
        if other.n != (one.n + 1 if one.fence == other.fence else 1):
            found.append(f"{other} behind {one}")
    return found


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main() -> None:
    """Read all."""
    database_url, broker_url = sys.argv[1:]
    ids = sys.stdin.read().split()
    settings = Settings(database_url=database_url, broker_url=broker_url)
    async with AsyncClient(settings=settings) as client:
        turns = [await client.turns.get(one) for one in ids]
        tell("ready")
        jobs = [
            (turn, asyncio.create_task(read(turn, random.Random(reader * 10_000 + n))))
            for n, turn in enumerate(turns)
            for reader in range(_READERS)
        ]
        whole = 0
        for turn, job in jobs:
            found = wrongs(await job, (await turn.result(timeout=_WITHIN)).text)
            whole += not found
            for one in found:
                tell(f"{turn.id} {one}")
        tell(f"whole {whole}")


if __name__ == "__main__":
    asyncio.run(main())
