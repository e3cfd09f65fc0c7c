"""Batches at stand-ins of their vendors: submitted, polled, and looked at, for tests."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import func, select

from turnmill import Client
from turnmill.domain.ids import BatchId
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns import batch_tending
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.tables import attempts, turns
from turnmill_worker.native.pace import Pace
from turnmill_worker.native.polling import Polling
from turnmill_worker.native.taking import Prices
from turnmill_worker.providers.own_prices import Prices as Listed
from turnmill_worker.providers.port import Provider

MODELS = {"openai": "gpt-4.1-mini", "anthropic": "claude-sonnet-4-5"}
POLL = timedelta(seconds=0.05)
_WITHIN = timedelta(seconds=20)


def provider_at(name: str, base_url: str) -> Any:
    """Return the provider, speaking to a stand-in. Imports its SDK alone: each takes a second."""
    if name == "openai":
        from openai import AsyncOpenAI

        from turnmill_worker.providers.openai.provider import OpenAIProvider

        return OpenAIProvider(AsyncOpenAI(api_key="sk-double", base_url=base_url, max_retries=0))
    from anthropic import AsyncAnthropic

    from turnmill_worker.providers.anthropic.provider import AnthropicProvider

    sdk = AsyncAnthropic(api_key="sk-ant-double", base_url=base_url, max_retries=0)
    return AnthropicProvider(sdk)


def polling(database: Database, provider: Provider, **given: Any) -> Polling:
    """Return what sees to batches at this provider."""
    listed = Listed()
    prices = Prices(price=listed.price, source=listed.source)
    pace = Pace(poll=given.pop("poll", POLL), lease=given.pop("lease", timedelta(seconds=3)))
    return Polling(database, lambda _: provider, prices, owner="here", pace=pace, **given)


def submit(
    database_url: str,
    n: int,
    *,
    provider: str,
    turns_each: int = 1,
    mode: str = "native",
    client_settings: Settings | None = None,
    **given: Any,
) -> BatchId:
    """Submit a batch of so many lines, each with so many messages of its user's."""
    with (
        TemporaryDirectory() as folder,
        Client(database_url=database_url, settings=client_settings) as client,
    ):
        path = Path(folder, "lines.jsonl")
        with path.open("w") as file:
            file.writelines(_line(number, turns_each) for number in range(n))
        given = {"provider": provider, "model": MODELS.get(provider), **given}
        return client.batches.create(path, mode=mode, **given).id


def states(database: Database, batch_id: BatchId) -> Counter[str]:
    """Return how many turns are in which state."""
    with database.single() as conn:
        query = select(turns.c.state, func.count()).group_by(turns.c.state)
        rows_ = conn.execute(query.where(turns.c.batch_id == batch_id))
        return Counter(dict(rows_.all()))


def spent(database: Database, batch_id: BatchId) -> tuple[Decimal, int]:
    """Return what the turns of a batch have cost, and how many attempts of them were priced."""
    with database.single() as conn:
        query = (
            select(func.coalesce(func.sum(attempts.c.cost_usd), 0), func.count(attempts.c.cost_usd))
            .join(turns, turns.c.id == attempts.c.turn_id)
            .where(turns.c.batch_id == batch_id)
        )
        row = conn.execute(query).one()
        return row[0], row[1]


def shard_states(database: Database, batch_id: BatchId) -> Sequence[tuple[str, str, str | None]]:
    """Return the state, the vendor's status and the code of each shard."""
    s = batch_shards.c
    with database.single() as conn:
        query = select(s.state, s.status, s.error_code).where(s.batch_id == batch_id).order_by(s.n)
        return [tuple(row) for row in conn.execute(query)]


def _line(number: int, turns_each: int) -> str:
    said = [{"role": "user", "content": f"say {number} of {n}"} for n in range(turns_each)]
    line = {"custom_id": f"line-{number}", "user_id": f"user-{number % 7}", "messages": said}
    return json.dumps(line) + "\n"


@dataclass
class Stage:
    """A store, a vendor's double and a provider that speaks to it."""

    database: Database
    double: Any
    name: str
    url: str

    def submit(self, n: int, **given: Any) -> BatchId:
        return submit(self.url, n, provider=self.name, **given)

    def tended(self, batch: BatchId) -> str:
        """Let a worker look at the batch, and return its state."""
        with self.database.begin() as conn:
            batch_tending.tend(conn, batch)
        with Client(database_url=self.url) as client:
            return client.batches.get(batch).record.state

    async def polled(self, pollers: int = 1, within: timedelta = _WITHIN, **given: Any) -> None:
        providers = [provider_at(self.name, self.double.base_url) for _ in range(pollers)]
        works = [polling(self.database, one, **given).run(within=within) for one in providers]
        await asyncio.gather(*works)
        for one in providers:
            await one.aclose()
