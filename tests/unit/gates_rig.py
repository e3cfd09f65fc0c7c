"""Gates of a process on a store in memory, with a clock that is moved by hand."""

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

from sqlalchemy import update

from tests import stores
from tests.claims import a_claim
from turnmill.domain.errors import ProviderError, RateLimited, Rejected, StoreUnavailable
from turnmill.store.nouns.accounts import list_closed
from turnmill.store.nouns.limits import LimitKey, read_limits, set_limit
from turnmill.store.schema.limit_tables import accounts
from turnmill.store.types import db_after
from turnmill_worker.gates.accounts import Accounts
from turnmill_worker.gates.limits import Limits
from turnmill_worker.gates.recalling import Recalling
from turnmill_worker.gates.rows import Rows
from turnmill_worker.layers.call import Call
from turnmill_worker.layers.holding import Holding
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.port import Done, NotNow, Usage
from turnmill_worker.turn.attempt import request_of

LATER = RateLimited("rate_limit_exceeded", retry_after=timedelta(seconds=20))
NO_MONEY = Rejected("insufficient_quota", answered=True, of_account=True)


class CountedRows(Rows):
    """Rows that count how often they are asked."""

    asked = 0
    refuses = False

    async def write(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.asked += 1
        if self.refuses:
            raise StoreUnavailable("away")
        return await super().write(function, *args, **options)


class NotedRecalling(Recalling):
    """Notes for what all are recalled."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.recalled: list[tuple[str, str, str]] = []

    def all(self, waits_for: Collection[str], *, provider: str, model: str, **options: Any) -> None:
        self.recalled += [(one, provider, model) for one in waits_for]
        super().all(waits_for, provider=provider, model=model, **options)

    def once(self, waits_for: Collection[str], *, provider: str, model: str, limit: int) -> None:
        self.recalled += [(one, provider, model) for one in waits_for]
        super().once(waits_for, provider=provider, model=model, limit=limit)


class Rig:
    """A store in memory, the gates of a process, and what its vendor answers."""

    def __init__(self) -> None:
        self.store = stores.in_memory()
        self.rows = CountedRows(self.store, owner="one")
        recalling = NotedRecalling(self.rows, lambda head: None)
        self.recalled = recalling.recalled
        self.accounts = Accounts(self.rows, recalling, account_of=lambda name: "ab12")
        self.limits = Limits(
            self.rows,
            recalling,
            account_of=lambda name: "ab12",
            closed=self.accounts.refused,
            slots=lambda: 40,
        )
        self.calls = 0
        self.most = 0
        self.in_flight = 0
        self.answer: Answer | BaseException = Done(text="hi", usage=Usage())
        self.hangs: asyncio.Event | None = None

    async def vendor(self, call: Call) -> Answer:
        self.calls += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        call.holding.sent = True
        try:
            if self.hangs is not None:
                await self.hangs.wait()
        finally:
            self.in_flight -= 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def ask(self, call: Call | None = None, **options: Any) -> Answer | ProviderError:
        call = call or a_call(**options)
        try:
            return await self.limits.layer(
                call, lambda call: self.accounts.layer(call, self.vendor)
            )
        except ProviderError as error:
            return error

    def closed(self) -> list[tuple[str, str, str | None]]:
        with self.store.begin() as conn:
            return [(one.kind, one.code, one.model) for one in list_closed(conn)]

    def times(self) -> list[int]:
        """Return how often in a row what is closed was closed."""
        with self.store.begin() as conn:
            return [one.times for one in list_closed(conn)]

    def let_time_come(self) -> None:
        with self.store.begin() as conn:
            conn.execute(update(accounts).values(closed_until=db_after(-1.0)))
        for one in self.accounts.closures:
            one.until = 0.0

    def limit(self, **rates: int) -> None:
        with self.store.begin() as conn:
            wanted = {"requests_per_minute": None, "tokens_per_minute": None, "concurrent": None}
            set_limit(conn, LimitKey(provider="theirs"), **{**wanted, **rates})
            self.limits.look(read_limits(conn), ["theirs"])


def waits(found: Answer | ProviderError) -> timedelta:
    """Return for how long a call is put off."""
    assert isinstance(found, NotNow)
    assert isinstance(found.until, timedelta)
    return found.until


def a_call(**options: Any) -> Call:
    claim = a_claim(**options)
    return Call(claim=claim, request=request_of(claim), kind="send", holding=Holding(claim))
