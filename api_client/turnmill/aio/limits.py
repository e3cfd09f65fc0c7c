"""Limits: what providers may be asked in a minute, and at once."""

from collections.abc import Sequence

from turnmill.actor import actor_of
from turnmill.executor.task import AsyncExecutor
from turnmill.store.nouns.limits import LimitRecord
from turnmill.verbs import limits


class AsyncLimits:
    """`client.limits`: how much a provider, or one of its models, may be asked."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    async def set(
        self,
        *,
        provider: str,
        model: str | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        concurrent: int | None = None,
        force: bool = False,
    ) -> LimitRecord:
        """Let all workers together ask no more than this, from about now on.

        It takes the place of what was set before; what is left out is not limited. Without a
        model, it is all models of the provider together; with one, both limits count. Turns beyond
        it wait, and spend no attempt: calls are spread evenly over each minute. `tokens_per_minute`
        counts input and output, `concurrent` the calls in flight. Raises InvalidInput for a
        provider that is neither installed here nor asked for by any session, unless `force`.
        """
        verb = limits.set_limit(
            provider,
            model,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrent=concurrent,
            force=force,
            actor=actor_of(self._executor.settings),
        )
        return await self._executor.run(verb)

    async def get(self, *, provider: str, model: str | None = None) -> LimitRecord | None:
        """Return the limit that was set for it, or None."""
        return await self._executor.run(limits.get_limit(provider, model))

    async def list(self) -> Sequence[LimitRecord]:
        """Return all limits: those that were set, and those that vendors have told of."""
        return await self._executor.run(limits.list_limits())

    async def remove(self, *, provider: str, model: str | None = None) -> None:
        """Take the limit away, and what was learned of the same; whoever waits for it goes on.

        Raises LimitNotFound where there is neither: that of a provider is none of its models.
        """
        actor = actor_of(self._executor.settings)
        await self._executor.run(limits.remove_limit(provider, model, actor=actor))
