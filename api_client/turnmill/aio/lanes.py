"""Lanes: what waits and runs, and the brakes that an operator can put on."""

from collections.abc import Sequence

from turnmill.executor.task import AsyncExecutor
from turnmill.store.line.pauses import Pauses
from turnmill.store.nouns.lanes import LaneLoad
from turnmill.verbs import lanes


class AsyncLanes:
    """`client.lanes`: lanes and providers, looked at, paused and resumed."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    async def loads(self) -> Sequence[LaneLoad]:
        """Return what waits and runs, for every lane and provider that has anything unfinished."""
        return await self._executor.run(lanes.loads())

    async def paused(self) -> Pauses:
        """Return what is paused now."""
        return await self._executor.run(lanes.paused())

    async def pause(
        self, *, lane: str | None = None, provider: str | None = None, force: bool = False
    ) -> bool:
        """Start none of these turns any more; messages are still accepted, and what runs goes on.

        It holds for every claim that begins after this call. Returns False where all of it was
        paused already. Raises InvalidInput for a provider that is neither installed here nor asked
        for by any session, unless `force` says that it is meant.
        """
        return await self._executor.run(lanes.pause(lane=lane, provider=provider, force=force))

    async def resume(self, *, lane: str | None = None, provider: str | None = None) -> bool:
        """Let these turns run again; dispatchers find what is due within about a second.

        Returns False where none of it was paused. Raises InvalidInput for a provider that is not,
        and that nobody has asked for, as `pause` does.
        """
        return await self._executor.run(lanes.resume(lane=lane, provider=provider))
