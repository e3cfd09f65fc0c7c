"""What belongs to an event loop is made anew for every other one."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from turnmill.forking import in_child, leave_to_parent

T = TypeVar("T")

#: Loops that stand still may run again; of more than this the oldest ones are taken for forgotten.
_MOST_STANDING = 16
#: A loop of another thread is waited for so long while it closes what is its own.
_CLOSE_SECONDS = 5.0


class PerLoop(Generic[T]):
    """One T for each event loop, made when the loop first asks. From any thread.

    A connection waits on the loop that opened it: on another one it would wait for ever. What was
    made for a loop that is closed meanwhile is dropped when the next loop comes.
    """

    def __init__(
        self,
        make: Callable[[], T],
        *,
        close: Callable[[T], Awaitable[None]],
        drop: Callable[[T], None],
    ) -> None:
        """`close` runs on the loop that it was made for; `drop` anywhere, for that loop is gone."""
        self._make = make
        self._close = close
        self._drop = drop
        self._made: dict[AbstractEventLoop, T] = {}
        in_child(self)

    def here(self) -> T:
        """Return what belongs to the running loop."""
        loop = asyncio.get_running_loop()
        found = self._made.get(loop)
        if found is None:
            self._drop_forgotten()
            found = self._made[loop] = self._make()
        return found

    async def close(self) -> None:
        """Close what there is, each where it was made if that loop still runs."""
        here = asyncio.get_running_loop()
        for loop in list(self._made):
            one = self._made.pop(loop, None)
            if one is None:
                continue  # closed by another thread at the same time
            if loop is here:
                await self._close(one)
            elif not await self._close_elsewhere(loop, one):
                self._drop(one)

    def start_afresh(self) -> None:
        """Leave the parent's loops and what was made for them alone."""
        leave_to_parent(self._made)
        self._made = {}

    async def _close_elsewhere(self, loop: AbstractEventLoop, one: T) -> bool:
        """Let another thread's loop close it, later if it is busy; False when it does not run."""

        async def close() -> None:
            await self._close(one)

        if not loop.is_running():
            return False
        closing = close()
        try:
            closed = asyncio.run_coroutine_threadsafe(closing, loop)
        except RuntimeError:  # it was closed at this moment
            closing.close()
            return False
        done, _ = await asyncio.wait([asyncio.wrap_future(closed)], timeout=_CLOSE_SECONDS)
        for each in done:
            each.result()
        return True

    def _drop_forgotten(self) -> None:
        known = list(self._made)
        standing = [loop for loop in known if not loop.is_closed() and not loop.is_running()]
        forgotten = standing[:-_MOST_STANDING]
        forgotten += [loop for loop in known if loop.is_closed()]
        for loop in forgotten:
            if (one := self._made.pop(loop, None)) is not None:
                self._drop(one)
