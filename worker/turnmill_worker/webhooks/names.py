"""Names of receivers, looked up beside the loop and beside the threads that rows are written on."""

import asyncio

from turnmill.net.public_address import Address, Reach, Target
from turnmill_worker.threads import Ran, Threads

#: Look-ups at once, each of another name: a resolver that hangs keeps a thread for each.
_MOST = 32


class Names:
    """Looks names up, each once at a time, however many ask for it meanwhile.

    So one whose servers do not answer keeps one thread, and not one for each request.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._threads = Threads(_MOST, name="lookup")
        self._asked: dict[tuple[str, int], asyncio.Future[Ran]] = {}

    async def addresses_of(self, target: Target) -> list[Address]:
        """Return the addresses of the host, each of which may be reached.

        Raises AddressRefused, or NotReached for a name that nobody knows. How long it may take is
        the caller's to say: who gives up leaves the look-up to the others.
        """
        if target.literal is not None:
            return self._reach.checked([target.literal])
        asked = self._asked.get(_key(target)) or await self._ask(target)
        ran = await asyncio.shield(asked)
        if ran.raised is not None:
            raise ran.raised
        found: list[Address] = ran.result
        return found

    async def _ask(self, target: Target) -> asyncio.Future[Ran]:
        await self._threads.take()
        key = _key(target)
        asked = self._asked.get(key)
        if asked is not None:  # somebody else has, meanwhile
            self._threads.give_back()
            return asked
        asked = self._asked[key] = self._threads.run(lambda: self._reach.look_up(target))
        asked.add_done_callback(lambda _: self._asked.pop(key, None))
        return asked


def _key(target: Target) -> tuple[str, int]:
    return target.host, target.port
