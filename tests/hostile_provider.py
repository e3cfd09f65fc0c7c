"""A provider that does with each call what the turn's metadata says, and else answers well.

`{"does": ["SystemExit", "None", "well"]}` is for the calls of the turn in this process, `send` and
`check` alike, one after the other; the last word goes for all that follow. Words are the keys of
`tests.hostile` and of `DEEDS`. Registered as an entry point it can be used by any worker.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from tests import hostile
from tests.hostile import SECRET
from turnmill.domain.errors import ProviderError
from turnmill.domain.ids import TurnId
from turnmill_worker.providers.port import Done, Request, Usage

MADE: Mapping[str, Callable[[], Any]] = {
    **hostile.RAISED,
    **hostile.NO_ANSWER,
    **hostile.PARIS,
    **hostile.LATER,
    **hostile.OF_A_QUESTION,
}


#: What breaks, instead of telling an error.
BUGS = [
    name
    for name, make in hostile.RAISED.items()
    if not isinstance(make(), ProviderError | ExceptionGroup)
]


class HostileProvider:
    name = "hostile"

    def __init__(self) -> None:
        self.calls: Counter[TurnId] = Counter()
        self._shared: asyncio.Future[Done] | None = None
        self._kept: set[asyncio.Task[None]] = set()

    @classmethod
    def from_env(cls) -> Self:
        return cls()

    async def send(self, request: Request, emit: object = None) -> Any:
        does = request.metadata.get("does") or ["well"]
        word = does[min(self.calls[request.turn_id], len(does) - 1)]
        self.calls[request.turn_id] += 1
        if word in DEEDS:
            return await DEEDS[word](self, request)
        made = MADE[word]()
        if issubclass(type(made), BaseException):
            raise made
        return made

    async def check(self, request: Request) -> Any:
        return await self.send(request)

    async def close(self, thread_ref: str) -> None:
        raise SystemExit(SECRET)

    async def aclose(self) -> None:
        raise KeyboardInterrupt(SECRET)

    async def well(self, request: Request) -> Done:
        await asyncio.sleep(0.005)
        return Done(text="Paris", usage=Usage(input_tokens=3, output_tokens=1))

    async def hang(self, request: Request) -> Done:
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits for so long")

    async def refuse(self, request: Request) -> Done:
        """Do not let yourself be cancelled."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                continue
        return Done(text="too late")

    async def block_a_thread(self, request: Request) -> Done:
        """Leave a thread behind, which nobody can stop."""
        await asyncio.to_thread(time.sleep, 60)
        raise AssertionError("nobody waits for so long")

    async def share(self, request: Request) -> Done:
        """Wait for what others wait for too, and what is cancelled soon."""
        loop = asyncio.get_running_loop()
        if self._shared is None or self._shared.done():
            self._shared = loop.create_future()
            loop.call_later(0.01, self._shared.cancel)
        return await self._shared

    async def exit_in_a_task(self, request: Request) -> Done:
        """Start a task that wants to end the process, and answer."""

        async def leave() -> None:
            raise SystemExit(SECRET)

        task = asyncio.create_task(leave())
        self._kept.add(task)
        await asyncio.wait({task})
        task.exception()
        return Done(text="Paris")

    async def leave_a_task(self, request: Request) -> Done:
        """Start a task that fails, and look after it no more."""

        async def fail() -> None:
            raise RuntimeError(SECRET)

        asyncio.create_task(fail())  # noqa: RUF006  it is what is meant
        await asyncio.sleep(0)
        return Done(text="Paris")


Deed = Callable[[HostileProvider, Request], Awaitable[Done]]

#: What takes more than to raise or to return something.
DEEDS: Mapping[str, Deed] = {
    "well": HostileProvider.well,
    "hang": HostileProvider.hang,
    "refuse": HostileProvider.refuse,
    "block a thread": HostileProvider.block_a_thread,
    "share": HostileProvider.share,
    "exit in a task": HostileProvider.exit_in_a_task,
    "leave a task": HostileProvider.leave_a_task,
}
