"""Accounts: whom nobody calls for a while, and why."""

from collections.abc import Sequence

from turnmill.executor.task import AsyncExecutor
from turnmill.store.nouns.accounts import AccountRecord
from turnmill.verbs import accounts


class AsyncAccounts:
    """`client.accounts`: keys whose vendor has said later, or never; and models that fail."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    async def list(self) -> Sequence[AccountRecord]:
        """Return what is closed at the moment; nothing where all may be called."""
        return await self._executor.run(accounts.list_closed())

    async def open(self, *, provider: str, model: str | None = None) -> int:
        """Let all that is closed of it be called again, and return how much that is.

        Whoever waits for it goes on. Say so when a bill was paid, or a key replaced; else one call
        tries it from time to time. Raises InvalidInput where nothing of it is closed.
        """
        return await self._executor.run(accounts.open_again(provider, model))
