"""Workers are killed while batches stand at vendors: nothing is paid twice, and nothing is lost."""

import asyncio
import logging
import os
import random
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.doubles.anthropic_batches import AnthropicBatchesDouble
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.native import polling, provider_at, spent, states, submit
from tests.peaks import most_memory
from turnmill.domain.ids import BatchId
from turnmill.store.batch_records import BatchCounts
from turnmill.store.database import Database
from turnmill.store.nouns.batch_counts import counts
from turnmill.store.upkeep.invariants import violations

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.anyio

_READY_WITHIN = 60.0
_ENDS_WITHIN = timedelta(seconds=60)


@asynccontextmanager
async def _vendor(name: str) -> AsyncIterator[Any]:
    if name == "openai":
        async with OpenAIBatchesDouble(takes=0.3, window=8_000) as double:
            yield double
    else:
        async with AnthropicBatchesDouble(takes=0.3) as claude:
            yield claude


async def _poller(database_url: str, name: str, vendor: Any) -> Process:
    """Start a process that sees to the batches."""
    command = (sys.executable, "-m", "tests.native_poller", database_url, name, vendor.base_url)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(_READY_WITHIN):
        assert await process.stdout.readline() == b"ready\n"
    return process


async def _killed(database_url: str, name: str, vendor: Any, after: float) -> None:
    """Let a process see to the batches, and kill it a moment after it has begun."""
    process = await _poller(database_url, name, vendor)
    await asyncio.sleep(after)
    process.kill()
    await process.wait()


async def _survive(database: Database, database_url: str, name: str, *, kills: int) -> None:
    dice = random.Random(kills)
    async with _vendor(name) as vendor:
        batch = submit(database_url, 300, provider=name)
        for _ in range(kills):
            vendor.meet(*dice.choice([[], ["drop"], ["ok", "drop"], ["server_error"]]))
            await _killed(database_url, name, vendor, dice.uniform(0.0, 0.6))
        provider = provider_at(name, vendor.base_url)
        await polling(database, provider).run(within=_ENDS_WITHIN)
        await provider.aclose()
        assert states(database, batch) == {"succeeded": 300}
        assert sum(vendor.desk.paid.values()) == 300
        assert vendor.desk.refused_for_window == 0
    assert spent(database, batch)[1] == 300
    with database.single() as conn:
        assert violations(conn) == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_killed_between_any_two_steps_each_line_is_paid_once(
    database: Database, database_url: str, name: str
) -> None:
    await _survive(database, database_url, name, kills=3)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_after_fifty_crashes_each_line_is_paid_once(
    database: Database, database_url: str, name: str
) -> None:
    await _survive(database, database_url, name, kills=50)


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_a_million_lines_go_through_a_window_of_two_million_tokens_and_fifty_crashes(
    database: Database, database_url: str
) -> None:
    lines = int(os.environ.get("LINES_OF_BATCH", "1000000"))
    kills = int(os.environ.get("KILLS_OF_BATCH", "50"))
    async with OpenAIBatchesDouble(takes=1.0, window=2_000_000) as vendor:
        batch = await asyncio.to_thread(submit, database_url, lines, provider="openai")
        began = time.monotonic()
        most = await _through_crashes(database, database_url, batch, vendor, kills=kills)
        took = time.monotonic() - began
        told = "%d lines, %.0f/s; %d MB at the most; %s"
        logger.warning(told, lines, lines / took, most / 2**20, vendor.desk.told())
        assert vendor.desk.refused_for_window == 0
        assert set(vendor.desk.paid.values()) == {1}
        assert len(vendor.desk.paid) == lines
    assert states(database, batch) == {"succeeded": lines}
    assert spent(database, batch)[1] == lines
    assert most < 250 * 2**20
    with database.single() as conn:
        assert violations(conn) == []


async def _through_crashes(
    database: Database, database_url: str, batch: BatchId, vendor: Any, *, kills: int
) -> int:
    """Kill whoever sees to the batch again and again, until it is done; return the most memory."""
    dice = random.Random(kills)
    process = await _poller(database_url, "openai", vendor)
    lines, most = (await asyncio.to_thread(_counted, database, batch)).accepted, 0
    crashes = sorted(dice.randrange(lines) for _ in range(kills))
    async with asyncio.timeout(60 + 10 * kills + lines / 150):
        while (done := (await asyncio.to_thread(_counted, database, batch)).finished) < lines:
            assert process.returncode is None
            await asyncio.sleep(dice.uniform(0.0, 2.0))  # a condition with a deadline
            most = max(most, most_memory(process.pid))
            if crashes and done >= crashes[0]:
                del crashes[0]
                process.kill()
                await process.wait()
                process = await _poller(database_url, "openai", vendor)
    process.kill()
    await process.wait()
    return most


def _counted(database: Database, batch: BatchId) -> BatchCounts:
    with database.single() as conn:
        return counts(conn, batch)
