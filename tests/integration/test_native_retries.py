"""Failed lines of a batch at its vendor run again: at the vendor, or by themselves."""

from collections.abc import AsyncIterator

import pytest

from tests.doubles.anthropic_batches import AnthropicBatchesDouble
from tests.doubles.batch_desk import Fate
from tests.doubles.openai_batches import OpenAIBatchesDouble
from tests.native import Stage, states
from turnmill import Client
from turnmill.store.database import Database
from turnmill.store.upkeep.invariants import violations

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture(params=["openai", "anthropic"])
async def stage(
    request: pytest.FixtureRequest, database: Database, database_url: str
) -> AsyncIterator[Stage]:
    kind = OpenAIBatchesDouble if request.param == "openai" else AnthropicBatchesDouble
    async with kind() as double:
        yield Stage(database, double, request.param, database_url)


@pytest.mark.parametrize("on_leftover", ["next", "live"])
async def test_failed_lines_run_again_as_what_was_not_run_does(
    stage: Stage, on_leftover: str
) -> None:
    stage.double.desk.fates.append(Fate(of_line=lambda n: "bad_request" if n % 2 else ""))
    batch = stage.submit(6, turns_each=2, on_leftover=on_leftover)
    await stage.polled()
    before = states(stage.database, batch)
    assert before["succeeded"] == 6  # three of the first wave, and of the second
    stage.tended(batch)
    with Client(database_url=stage.url) as client:
        assert client.batches.get(batch).retry_failed() == 6
    await stage.polled()
    found = states(stage.database, batch)
    assert found == ({"succeeded": 12} if on_leftover == "next" else {"succeeded": 6, "queued": 6})
    with stage.database.single() as conn:
        assert violations(conn) == []
