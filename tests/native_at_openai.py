"""Batches at a stand-in of OpenAI's, looked after for a while: how tests of them begin."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.native import polling, provider_at
from turnmill.store.database import Database


@pytest.fixture
async def double() -> AsyncIterator[Any]:
    async with OpenAIBatchesDouble() as found:
        yield found


async def polled(database: Database, double: Any, seconds: float = 20.0) -> None:
    """Let a worker look after the batches until there is nothing to do, or for so long."""
    provider = provider_at("openai", double.base_url)
    await polling(database, provider).run(within=timedelta(seconds=seconds))
    await provider.aclose()
