"""Batches at vendors go by the accounts that turns go by: closed for one, closed for all."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.native import polling, provider_at, shard_states, states, submit
from turnmill import Client
from turnmill.domain.ids import BatchId
from turnmill.domain.states import EventKind
from turnmill.show.why_view import told
from turnmill.store.database import Database
from turnmill.store.nouns.accounts import AccountKey, close, list_closed
from turnmill.store.schema.event_tables import events
from turnmill.store.upkeep.invariants import violations
from turnmill.verbs.batch_words import said_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url)
    yield found
    found.close()


@pytest.fixture
async def double() -> AsyncIterator[Any]:
    async with OpenAIBatchesDouble() as found:
        yield found


async def polled(database: Database, double: Any, seconds: float = 20.0) -> None:
    provider = provider_at("openai", double.base_url)
    await polling(database, provider).run(within=timedelta(seconds=seconds))
    await provider.aclose()
