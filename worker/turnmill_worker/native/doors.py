"""Doors: accounts as turns go by them, for calls about batches: closed for one, closed for all."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from turnmill.domain.closing import FIRST_WAIT, wait_for
from turnmill.domain.errors import Overloaded, ProviderError, RateLimited, Rejected, StoreError
from turnmill.domain.ids import TurnId
from turnmill.store.database import Database
from turnmill.store.nouns.accounts import (
    ACCOUNT,
    AccountKey,
    Closed,
    close,
    give_probe_back,
    open_again,
    probe,
    read_closed,
)
from turnmill.store.nouns.batch_pauses import pause_for_account
from turnmill.store.nouns.shard_turns import left_in
from turnmill.store.nouns.shards import Shard
from turnmill_worker.gates.closures import named, tell

logger = logging.getLogger("turnmill.native")

#: Who tries a closed account and is gone leaves it to others after this.
_TRIES_FOR = timedelta(seconds=5)
#: So many refusals in a row without a word of how long to wait.
_IN_A_ROW = 3
#: Whoever has lost the race to try it looks again after this.
_LOST = timedelta(seconds=1)


class Shut(Exception):
    """The account is closed, and somebody else tries it, or nobody yet."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(closed.code)
        self.closed = closed
        self.left = max(closed.left, _LOST)  #: until it may be tried


class Doors:
    """The accounts that shards are brought to. Its rows are those that turns are held by."""

    def __init__(self, database: Database, account_of: Callable[[str], str], *, owner: str) -> None:
        """`account_of` tells under which account this process calls a provider."""
        self._database = database
        self._account_of = account_of
        self._owner = owner

    async def enter(self, shard: Shard) -> Closed | None:
        """Return what is closed, and this call is to try; None: it is open. Raises Shut."""
        closed = await asyncio.to_thread(self._standing, shard)
        if closed is None:
            return None
        if closed.left > timedelta(0) or not await asyncio.to_thread(self._tries, closed):
            await asyncio.to_thread(self._stop_batch, shard, closed)
            raise Shut(closed)
        return closed

    async def answered(self, tried: Closed | None) -> None:
        """Open what was tried: its vendor has answered."""
        if tried is not None and await self._written(open_again, tried.key, seen=tried.n):
            logger.warning(
                "%s %s is open again",
                tried.key.kind,
                named(tried.key),
                extra={"action": "account_opened", "provider": tried.key.provider},
            )

    async def refused(self, shard: Shard, error: ProviderError, tried: Closed | None) -> None:
        """Close for all what was refused to a shard; what tells nothing leaves it to others."""
        if isinstance(error, RateLimited | Overloaded):
            if error.retry_after is None and shard.tries + 1 < _IN_A_ROW and tried is None:
                return
            await self._close(shard, error, tried, model=shard.model)
        elif error.of_account:
            await self._close(shard, error, tried, model="")
        elif tried is not None and (error.answered or isinstance(error, Rejected)):
            await self.answered(tried)
        else:
            await self.unasked(tried)

    async def unasked(self, tried: Closed | None) -> None:
        """Leave to others what was to be tried: its vendor has said nothing about it."""
        if tried is not None:
            await self._written(give_probe_back, tried.key, n=tried.n, owner=self._owner)

    async def _close(
        self, shard: Shard, error: ProviderError, tried: Closed | None, *, model: str
    ) -> None:
        key = self._key(shard.provider, model)
        permanent, told = error.of_account, error.retry_after
        if tried is not None and told is not None:
            told = max(told, FIRST_WAIT)  # it has not held what it said
        if tried is not None and tried.key != key:
            await self._written(give_probe_back, tried.key, n=tried.n, owner=self._owner)
        closed: Closed | None = await self._written(
            close,
            key,
            wait=partial(_wait, told, permanent=permanent),
            code=error.error_code[:200],
            permanent=permanent,
            turn_id=await asyncio.to_thread(self._turn_of, shard),
            seen=tried.n if tried is not None and tried.key == key else 0,
        )
        if closed is not None:
            tell(key, error.error_code, closed.left, permanent=permanent)
            await asyncio.to_thread(self._stop_batch, shard, closed)

    async def _written(self, function: Callable[..., object], *args: object, **said: object) -> Any:
        try:
            return await asyncio.to_thread(self._write, function, *args, **said)
        except StoreError as refusal:
            logger.warning("cannot tell others what is closed: %s", refusal.code)
            return None

    def _write(self, function: Callable[..., object], *args: object, **said: object) -> object:
        with self._database.begin() as conn:
            return function(conn, *args, **said)

    def _standing(self, shard: Shard) -> Closed | None:
        keys = {self._key(shard.provider, model) for model in ("", shard.model)}
        with self._database.single() as conn:
            found = [one for one in read_closed(conn) if one.key in keys]
        return max(found, key=lambda one: one.left, default=None)

    def _tries(self, closed: Closed) -> bool:
        with self._database.begin() as conn:
            return probe(conn, closed.key, n=closed.n, owner=self._owner, lease=_TRIES_FOR)

    def _stop_batch(self, shard: Shard, closed: Closed) -> None:
        """Let the batch stop where somebody has to set its account right."""
        if closed.permanent:
            with self._database.begin() as conn:
                pause_for_account(conn, shard.batch_id, closed.key.id, closed.code)

    def _turn_of(self, shard: Shard) -> TurnId | None:
        with self._database.single() as conn:
            found = left_in(conn, shard.batch_id, shard=str(shard.id), limit=1)
        return found[0] if found else None

    def _key(self, provider: str, model: str) -> AccountKey:
        account = self._account_of(provider)
        return AccountKey(kind=ACCOUNT, provider=provider, account=account, model=model)


def _wait(retry_after: timedelta | None, times: int, *, permanent: bool) -> timedelta:
    return wait_for(retry_after, times=times, permanent=permanent)
